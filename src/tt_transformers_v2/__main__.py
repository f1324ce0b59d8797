# SPDX-License-Identifier: Apache-2.0
"""`tt NAME …` and `python -m tt_transformers_v2 NAME …`: any module of commands/ that has a `main`, found by its name.

So adding a command is adding a file there.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from .commands.command_line import run_command
from .common.errors import ConfigError, did_you_mean

_COMMANDS = Path(__file__).resolve().parent / "commands"


def commands() -> dict[str, str]:
    """Command -> what it does, the first line of its module; nothing is imported for it."""
    found = {}
    for path in sorted(_COMMANDS.glob("*.py")):
        text = path.read_text(encoding="utf-8")
        if "\ndef main(" in text:
            found[path.stem.replace("_", "-")] = text.partition('"""')[2].partition("\n")[0].removesuffix('"""')
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command that the first argument names with the others; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    name = given[0].replace("_", "-") if given else ""
    if name not in commands():
        return run_command(_help, given)
    # Commands call themselves by the name they were started with.
    sys.argv = [f"tt-{name}", *given[1:]]
    command = import_module(f".commands.{name.replace('-', '_')}", __package__)
    return int(command.main(given[1:]))


def _help(given: list[str]) -> int:
    known = commands()
    if given and given[0] not in ("-h", "--help"):
        raise ConfigError(f"no command named {given[0]!r}.", did_you_mean(given[0], known, "tt "))
    width = max(map(len, known))
    print("usage: tt COMMAND [ARGUMENT ...]\n")
    for name, about in known.items():
        print(f"  {name:{width}}  {about}")
    print("\nSee tt COMMAND --help for details.")
    return 0 if given else 2


if __name__ == "__main__":
    sys.exit(main())
