"""What a person did that cannot work, told in one line."""

import errno
import functools
import os
import select
import signal
import sys
from collections.abc import Callable
from difflib import get_close_matches

NO_WRITING = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES)
NO_MORE = {
    errno.EMFILE: "; raise the limit (ulimit -n), or give fewer --workers",
    errno.ENFILE: "; close other programs, or give fewer --workers",
    errno.EAGAIN: "; no more processes or threads can be started here (ulimit -u): give fewer --workers",
    errno.ENOMEM: "; give fewer --workers, or smaller sizes",
}
"""What there is a limit to, and what to do about it."""
NO_THREADS = "can't start new thread"  # as Python says it
IN_A_WORKER = "in a worker:"  # the first line of an error whose last one says what went wrong there
NO_MEMORY = ("can't allocate memory", "out of memory")  # as torch says it


class UserError(Exception):
    """Something that the user can put right. The message names the file or flag and says what would be right."""


def printable(text: str) -> str:
    """`text` without control characters, so that a name out of a stranger's file cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def shortened(text: str, most: int = 200) -> str:
    """`text`, or if it is longer than `most` its beginning, and how long it is."""
    return text if len(text) <= most else f"{text[:most]}... ({len(text):,} characters)"


def nearest(word: str, known: list[str]) -> str:
    """The end of a sentence about an unknown `word`: the nearest known one, then all of them."""
    close = get_close_matches(word[:100], known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}? " if close else ""
    return f"{hint}known: {', '.join(sorted(known))}"


def command(main: Callable[[], None]) -> Callable[[], None]:
    """Makes `main` a command: mistakes end in one line on stderr and exit code 1, Ctrl-C in exit code 130."""

    @functools.wraps(main)
    def wrapper() -> None:
        try:
            main()
            sys.stdout.flush()  # what cannot be written is told of here, instead of by the interpreter as it ends
        except UserError as error:
            sys.exit(_say(f"error: {error}", 1))
        except BrokenPipeError:
            if not _nobody_reads():
                raise
            sys.exit(128 + signal.SIGPIPE)
        except OSError as error:
            advice = NO_MORE.get(error.errno or 0, "")
            if not (error.filename or advice or error.errno in NO_WRITING):
                raise
            sys.exit(_say(f"error: {error.filename or 'a file'} cannot be used: {error.strerror}{advice}", 1))
        except (MemoryError, RuntimeError) as error:
            lines = str(error).splitlines() or [type(error).__name__]
            said = lines[-1 if lines[0] == IN_A_WORKER else 0]
            if NO_THREADS in said:
                sys.exit(_say(f"error: {said}{NO_MORE[errno.EAGAIN]}", 1))
            if isinstance(error, RuntimeError) and not any(words in str(error) for words in NO_MEMORY):
                raise
            sys.exit(_say(f"error: that takes more memory than there is ({said})", 1))
        except KeyboardInterrupt:
            sys.exit(_say("interrupted; what is complete is kept, and the same command again goes on from there", 130))

    return wrapper


def _nobody_reads() -> bool:
    """Whether what we print is read no more (`| head`); if so, nothing is printed from now on."""
    output = sys.stdout.fileno()
    pipe = select.poll()
    pipe.register(output, 0)
    if not any(event & select.POLLERR for _, event in pipe.poll(0)):
        return False
    os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return True


def _say(line: str, code: int) -> int:
    print(printable(" ".join(line.splitlines())), file=sys.stderr)
    return code
