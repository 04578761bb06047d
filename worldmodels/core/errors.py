"""What a person did that cannot work, told in one line."""

import errno
import functools
import sys
from collections.abc import Callable
from difflib import get_close_matches

NO_MEMORY = ("can't allocate memory", "out of memory")  # as torch says it


class UserError(Exception):
    """Something that the user can put right. The message names the file or flag and says what would be right."""


def nearest(word: str, known: list[str]) -> str:
    """The end of a sentence about an unknown `word`: the nearest known one, then all of them."""
    close = get_close_matches(word, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known: {', '.join(sorted(known))}"


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Makes `main` a command: mistakes end in one line on stderr and exit code 1, Ctrl-C in exit code 130."""

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
        except UserError as error:
            sys.exit(_say(f"error: {error}", 1))
        except OSError as error:
            if not error.filename and error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
                raise
            sys.exit(_say(f"error: {error.filename or 'a file'} cannot be used: {error.strerror}", 1))
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
                raise
            said = str(error).splitlines() or [type(error).__name__]
            sys.exit(_say(f"error: that takes more memory than there is ({said[0]})", 1))
        except KeyboardInterrupt:
            sys.exit(_say("interrupted; what is complete is kept, and the same command again goes on from there", 130))

    return wrapper


def _say(line: str, code: int) -> int:
    print(line, file=sys.stderr)
    return code
