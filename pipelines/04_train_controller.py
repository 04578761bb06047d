"""Stage 4: evolve a controller, in the real environment or in dreams."""

from worldmodels.command_line import parse
from worldmodels.config import ControllerConfig
from worldmodels.errors import command
from worldmodels.launch import single_process


@command
@single_process
def main() -> None:
    config = parse(ControllerConfig)
    from worldmodels.evolve import train_controller  # late: what is wrong with flags is told before torch is loaded

    train_controller(config)


if __name__ == "__main__":
    main()
