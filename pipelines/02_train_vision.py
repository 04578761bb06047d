"""Stage 2: learn to see, then write down what is seen in every frame."""

from worldmodels.command_line import parse
from worldmodels.config import VisionConfig
from worldmodels.errors import command
from worldmodels.launch import several_processes


@command
@several_processes
def main() -> None:
    config = parse(VisionConfig)
    from worldmodels.vision import train_vision  # late: what is wrong with flags is told before torch is loaded

    train_vision(config)


if __name__ == "__main__":
    main()
