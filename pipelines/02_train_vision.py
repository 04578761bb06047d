"""Stage 2: learn to see, then write down what is seen in every frame."""

from worldmodels.command_line import parse
from worldmodels.config import VisionConfig
from worldmodels.distributed import several_processes
from worldmodels.errors import command
from worldmodels.vision import train_vision


@command
@several_processes
def main() -> None:
    train_vision(parse(VisionConfig))


if __name__ == "__main__":
    main()
