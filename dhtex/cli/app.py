"""The border of the command line: whatever happens inside, the caller gets an exit code and at most one clear line.

0 done · 1 a defect of dhtex · 2 usage · 3 not found · 4 refused · 5 outcome unknown in time · 6 node not running
7 no peer reachable · 8 verification failed · 9 a part of the book is missing · 130 stopped by Ctrl-C
141 nobody gets the output: its reader went away, or it cannot be written
"""

import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from dhtex.errors import DhtexError, UsageError

if TYPE_CHECKING:
    from dhtex.cli.session import Session

INTERRUPTED: Final = 130
COMPLETION: Final = "_DHTEX_COMPLETE"  # set by the shell functions that --install-completion installs
CRASH_LOG: Final = "cli.log"
_FULL_OR_CLOSED: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF)
_NEGATIVE: Final = re.compile(r"(?<=: )-[0-9]\S*")  # what the parser takes for an unknown option


def main() -> None:
    """The program `dhtex`."""
    try:
        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        status = INTERRUPTED
    sys.exit(status)


def run(arguments: Sequence[str], session: "Session | None" = None) -> int:
    """Run one command line and return its exit code; errors are printed. A test hands in its own session."""
    from dhtex.cli.session import OutputError, ReaderGone, Session, silence

    session = session or Session()
    try:
        status = _run(arguments, session)
        sys.stdout.flush()
        return status
    except (BrokenPipeError, ReaderGone):
        silence(1)
        return OutputError.exit_status
    except KeyboardInterrupt:
        return INTERRUPTED
    except DhtexError as error:
        session.complain(error)
        return error.exit_status
    except UnicodeEncodeError:
        session.complain(wrong := UsageError("what was typed is not valid text", hint="write it in UTF-8"))
        return wrong.exit_status
    except Exception as error:  # the border: a defect of ours is one line and a log, not a traceback
        session.complain(named := _of_output(error) or _defect(error))
        return named.exit_status


def _run(arguments: Sequence[str], session: "Session") -> int:
    import typer

    from dhtex.cli.root import make_root
    from dhtex.cli.session import OutputError

    if sys.stdout is None:
        session.json = _asks_for_json(arguments)
        raise OutputError("the output cannot be written: it is closed")
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    root = make_root()
    if COMPLETION in os.environ:
        root.main(prog_name="dhtex")  # answers the shell and exits
    # typer has its own copy of click in some versions; its errors are the family of the one that is public
    misuse = cast("type[Exception]", typer.BadParameter.__mro__[2])
    try:
        with root.make_context("dhtex", list(arguments), obj=session) as context:
            root.invoke(context)
        return 0
    except typer.Exit as exit_wish:
        return exit_wish.exit_code
    except misuse as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print(getattr(error, "ctx").get_help())  # noqa: B009 (the attribute is its own class's)
            return 0
        session.json = session.json or _asks_for_json(arguments)
        raise _usage_error(error) from error


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Whether it looks so, where the words could not be parsed."""
    return any(word.partition("=")[0] == "--json" for word in arguments)


def _usage_error(error: BaseException) -> UsageError:
    """What the parser of the command line says, as one line with the way to its help."""
    message = " ".join(str(getattr(error, "format_message", lambda: error)()).split())
    if (number := _NEGATIVE.search(message)) is not None:
        message = f"{number[0]} is negative: no number of dhtex may be"
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "dhtex"
    return UsageError(message[:1].lower() + message[1:].rstrip("."), hint=f"see {command} --help")


def _of_output(error: Exception) -> DhtexError | None:
    """What went wrong with the output, if that is it: no other error of these kinds gets here without a file's name."""
    from dhtex.cli.session import OutputError, silence

    if not isinstance(error, OSError) or error.filename is not None or error.errno not in _FULL_OR_CLOSED:
        return None
    silence(1)
    text = f"the output cannot be written: {error.strerror}"
    return OutputError(text, hint="what was asked for may be done all the same")


def _defect(error: Exception) -> DhtexError:
    where = _keep_traceback()
    kind = type(error).__name__
    return DhtexError(
        f"a defect of dhtex: {kind}: {' '.join(str(error).split())[:200]}",
        hint=f"please report it with {where}" if where else "please report it",
    )


def _keep_traceback() -> str:
    """Append the traceback to a file of this user, and return its name; empty when there is nowhere to write."""
    import traceback

    from dhtex import config, limits

    try:
        path = config.home_folder() / CRASH_LOG
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.exists() and path.stat().st_size > limits.LOG_BYTES_MAX:
            path.unlink()
        with path.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(traceback.format_exc() + "\n")
    except (OSError, DhtexError):
        return ""
    return str(path)


if __name__ == "__main__":
    main()
