"""Stage 1: let a policy act, and write what happened."""

from worldmodels.collect import collect
from worldmodels.command_line import parse
from worldmodels.config import CollectConfig
from worldmodels.distributed import single_process
from worldmodels.errors import command


@command
@single_process
def main() -> None:
    collect(parse(CollectConfig))


if __name__ == "__main__":
    main()
