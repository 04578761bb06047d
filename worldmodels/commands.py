"""Every command: `worldmodels collect` and `python pipelines/01_collect.py` are one and the same.

What a command does is imported only once its flags were understood: --help and mistakes are answered before torch is
loaded.
"""

import importlib
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from worldmodels.core.errors import UserError, command, nearest
from worldmodels.core.progress import follow
from worldmodels.core.report import speak_plainly
from worldmodels.settings.command_line import parse
from worldmodels.settings.commands import (
    CompareConfig,
    EvaluateConfig,
    ExportConfig,
    ImportConfig,
    PackConfig,
    PlayConfig,
    ProbeConfig,
    RunConfig,
)
from worldmodels.settings.launch import several_processes, single_process
from worldmodels.settings.run_all import parse_all
from worldmodels.settings.stages import CollectConfig, ControllerConfig, MemoryConfig, VisionConfig


class Command(NamedTuple):
    """A command: its settings, the function of `stages` that it calls, and how its process may begin."""

    config: type
    function: str
    launched: Callable[[Callable[[], None]], Callable[[], None]] = single_process

    def read(self, argv: list[str] | None, called: str = "") -> Any:
        """The settings that `argv` (this process's, if None) asks for. Raises UserError if they make no sense."""
        if self.config is RunConfig:
            return parse_all(sys.argv[1:] if argv is None else argv, called)
        return parse(self.config, argv, called)

    @property
    def about(self) -> str:
        """What it does, in a line."""
        return (self.config.__doc__ or "").split("\n")[0]


COMMANDS = {
    "run": Command(RunConfig, "run_all:run_all"),
    "collect": Command(CollectConfig, "collect:collect"),
    "train-vision": Command(VisionConfig, "train_vision:train_vision", several_processes),
    "train-memory": Command(MemoryConfig, "train_memory:train_memory", several_processes),
    "train-controller": Command(ControllerConfig, "train_controller:train_controller"),
    "evaluate": Command(EvaluateConfig, "evaluate:evaluate"),
    "probe": Command(ProbeConfig, "probe:probe"),
    "import-published": Command(ImportConfig, "import_published:import_published"),
    "pack": Command(PackConfig, "pack:pack"),
    "compare": Command(CompareConfig, "compare:compare"),
    "play": Command(PlayConfig, "play:play"),
    "export": Command(ExportConfig, "export:export"),
}


def run(name: str, argv: list[str] | None = None) -> None:
    """Runs the command `name` with the flags `argv` (those of this process, if None), and leaves the process if it
    fails."""
    chosen = COMMANDS[name]

    def main() -> None:
        speak_plainly()
        follow()
        config = chosen.read(argv, _typed_as(name))
        module, function = chosen.function.split(":")
        getattr(importlib.import_module(f"worldmodels.stages.{module}"), function)(config)

    command(chosen.launched(main))()


def main() -> None:
    """The command `worldmodels NAME FLAGS`."""
    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help"):
        print("usage: worldmodels COMMAND [FLAGS]; --help after a command explains its flags\n")
        width = max(map(len, COMMANDS))
        print("\n".join(f"  {name.ljust(width)}  {chosen.about}" for name, chosen in COMMANDS.items()))
    elif words[0] in COMMANDS:
        run(words[0], words[1:])
    else:
        command(lambda: _refuse(words[0]))()


def _refuse(word: str) -> None:
    raise UserError(f"{word} is not a command; {nearest(word, list(COMMANDS))}")


def _typed_as(name: str) -> str:
    """How this command was called."""
    return f"python {sys.argv[0]}" if sys.argv[0].endswith(f"{name.replace('-', '_')}.py") else f"worldmodels {name}"
