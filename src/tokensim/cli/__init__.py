"""The command ``tokensim``: one thin module a command, and one place that turns errors into exit codes.

Exit codes: 0 done; 1 the simulation could not be completed; 2 the input was refused. Nothing heavy is
imported before a command runs, so that ``tokensim --help`` answers at once.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

DONE, INCOMPLETE, REFUSED = 0, 1, 2
INTERRUPTED = 130
"""What typer makes of a Ctrl-C that no command takes."""


def main() -> None:
    """Run the command line and exit; errors become one readable message on stderr.

    ``TOKENSIM_DEBUG=1`` in the environment shows tracebacks.
    """
    try:
        from tokensim.cli.app import app
        from tokensim.errors import InputError, SimulationError
    except KeyboardInterrupt:
        fail("interrupted before anything ran", INCOMPLETE)
    if os.environ.get("TOKENSIM_DEBUG", "0") not in ("", "0"):
        app(prog_name="tokensim")  # ends the process
    try:
        app(prog_name="tokensim")
    except SystemExit as end:
        if end.code == INTERRUPTED:
            fail("interrupted before anything ran", INCOMPLETE)
        raise
    except InputError as error:
        fail(str(error), REFUSED)
    except SimulationError as error:
        fail(str(error), INCOMPLETE)
    except MemoryError:
        fail(
            "out of memory; simulate fewer requests at a time (num_requests, trace.limit)",
            INCOMPLETE,
        )
    except OSError as error:  # a file that the commands do not guard themselves: standard output, above all
        fail(f"{error.filename or 'standard output'}: {error.strerror or error}", INCOMPLETE)
    except BaseException as error:  # a panic in a compiled library is no Exception
        fail(
            f"internal error: {type(error).__name__}: {error}\n"
            "  this is a defect of TokenSim; TOKENSIM_DEBUG=1 shows where it happened",
            INCOMPLETE,
        )


def fail(message: str, code: int) -> NoReturn:
    """Print ``error: message`` on stderr and exit with ``code``."""
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
