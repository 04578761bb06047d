"""Stage 3: learn to expect."""

from worldmodels.command_line import parse
from worldmodels.config import MemoryConfig
from worldmodels.errors import command
from worldmodels.launch import several_processes


@command
@several_processes
def main() -> None:
    config = parse(MemoryConfig)
    from worldmodels.memory import train_memory  # late: what is wrong with flags is told before torch is loaded

    train_memory(config)


if __name__ == "__main__":
    main()
