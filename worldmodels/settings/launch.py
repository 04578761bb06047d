"""How a command begins: alone, or as one of several processes that torchrun started.

torch is loaded late, so that --help and mistakes in flags are answered at once.
"""

import functools
import gc
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta

from worldmodels.core.errors import UserError

PATIENCE = timedelta(days=1)  # the other processes may wait for hours while the first encodes; torchrun sees deaths
MISTAKES = "worldmodels/mistakes"  # counter in the store that all processes share


def single_process(main: Callable[[], None]) -> Callable[[], None]:
    """Makes `main` refuse to be one of several processes: it would do everything as often as there are.

    Raises:
        UserError: if torchrun started several.
    """

    @functools.wraps(main)
    def wrapper() -> None:
        if _several():
            raise UserError(
                "torchrun is for stages 2 and 3; start this one with python: it uses all cores by --workers"
            )
        main()

    return wrapper


def several_processes(main: Callable[[], None]) -> Callable[[], None]:
    """Makes `main` join the other processes if torchrun started it, and a mistake be told by one of them only."""

    @functools.wraps(main)
    def wrapper() -> None:
        if not _several():
            main()
            return
        import torch
        from torch import distributed

        from worldmodels.core.distributed import barrier, is_main

        both = torch.cuda.is_available()
        distributed.init_process_group("cpu:gloo,cuda:nccl" if both else "gloo", timeout=PATIENCE)
        store = distributed.distributed_c10d._get_default_store()
        try:
            main()
            barrier()  # until the first one has encoded, for one alone cannot take the group down
        except (UserError, OSError):
            if store.add(MISTAKES, 1) > 1:
                _await_end()
            raise
        except RuntimeError:  # another process made a mistake and left: the line is cut
            if store.add(MISTAKES, 0) > 0:
                _await_end()
            raise
        except KeyboardInterrupt:  # which all of them are told of
            if not is_main():
                sys.exit(130)
            raise
        gc.collect()  # what lies in cycles would keep the group, whose threads must not outlive the interpreter
        distributed.destroy_process_group()

    return wrapper


def _several() -> bool:
    """Whether torchrun started this process and others."""
    return "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ["WORLD_SIZE"]) > 1


def _await_end() -> None:
    """Waits for torchrun to end this process because another one failed, which must not be cut short in telling why."""
    time.sleep(30)
    sys.exit(1)
