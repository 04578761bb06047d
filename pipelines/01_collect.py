"""Stage 1: let a policy act, and write what happened."""

from worldmodels.command_line import parse
from worldmodels.config import CollectConfig
from worldmodels.errors import command
from worldmodels.launch import single_process


@command
@single_process
def main() -> None:
    config = parse(CollectConfig)
    from worldmodels.collect import collect  # late: what is wrong with flags is told before torch is loaded

    collect(config)


if __name__ == "__main__":
    main()
