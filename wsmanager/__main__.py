"""The command line: ``python -m wsmanager COMMAND …`` and ``wsmanager COMMAND …``.

Each command is one module with ``add_arguments(parser)`` and ``run(options) -> int``
(the exit status); it is imported only when it is the one asked for.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from typing import Final

from ._version import __version__

#: The commands: the modules that carry them out, and what they do.
COMMANDS: Final = {
    "audit": ("wsmanager.audit.cli", "find and fix wrong awaits of the manager factory"),
    "shim": ("wsmanager.shim.cli", "write a package of legacy import paths"),
    "top": ("wsmanager.top", "connections, rates and errors of a running service, live"),
    "doctor": ("wsmanager.doctor.cli", "look for known traps in this environment"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. 0 is success, 1 is what the command found, 2 is wrong usage."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    parser = argparse.ArgumentParser(prog="wsmanager", description="WebSocket manager tools.")
    parser.add_argument("--version", action="version", version=f"wsmanager {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    asked = next((word for word in given if not word.startswith("-")), None)
    for name, (module, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        command.add_argument("--version", action="version", version=f"wsmanager {__version__}")
        if name == asked:
            loaded = importlib.import_module(module)
            loaded.add_arguments(command)
            command.set_defaults(run=loaded.run)
    options = parser.parse_args(given)
    try:
        status: int = options.run(options)
        sys.stdout.flush()
    except KeyboardInterrupt:
        sys.stderr.write("\ninterrupted\n")
        return 130
    except BrokenPipeError:
        # Whoever read the output has gone (head, less): nothing to say, and nowhere to say it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return status


if __name__ == "__main__":
    sys.exit(main())
