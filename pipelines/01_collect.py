"""Stage 1: let a policy act, and write what happened."""

from worldmodels.collect import collect
from worldmodels.config import CollectConfig, parse
from worldmodels.distributed import alone
from worldmodels.errors import command


@command
@alone
def main() -> None:
    collect(parse(CollectConfig))


if __name__ == "__main__":
    main()
