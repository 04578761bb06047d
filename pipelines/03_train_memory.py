"""Stage 3: learn to expect."""

from worldmodels.command_line import parse
from worldmodels.config import MemoryConfig
from worldmodels.distributed import several_processes
from worldmodels.errors import command
from worldmodels.memory import train_memory


@command
@several_processes
def main() -> None:
    train_memory(parse(MemoryConfig))


if __name__ == "__main__":
    main()
