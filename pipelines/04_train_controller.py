"""Stage 4: evolve a controller, in the real environment or in dreams."""

from worldmodels.command_line import parse
from worldmodels.config import ControllerConfig
from worldmodels.distributed import single_process
from worldmodels.errors import command
from worldmodels.evolve import train_controller


@command
@single_process
def main() -> None:
    train_controller(parse(ControllerConfig))


if __name__ == "__main__":
    main()
