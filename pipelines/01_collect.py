"""Stage 1: let a policy act, and write what happened."""

from worldmodels.config import CollectConfig, parse
from worldmodels.errors import command
from worldmodels.collect import collect


@command
def main() -> None:
    collect(parse(CollectConfig))


if __name__ == "__main__":
    main()
