# SPDX-License-Identifier: Apache-2.0
"""Starts a command from a checkout: the package in its own src/, and one line where Python cannot run it."""

import importlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LEAST = (3, 10)


def launch(module: str) -> int:
    """Runs `main` of a module of the package and returns the exit code: 2 where Python or a package is lacking."""
    if sys.version_info < LEAST:
        return _complain(f"Python {sys.version.split()[0]} is too old; use {'.'.join(map(str, LEAST))} to 3.12.")
    sys.path.insert(0, str(ROOT / "src"))
    try:
        return importlib.import_module(module).main()
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] in ("", "tt_transformers_v2"):
            raise
        return _complain(f"{error.name} is not installed for {sys.executable}.")


def _complain(what: str) -> int:
    print(f"error: {what} Run `make setup` and use .venv/bin/python, or `pip install -e .`.", file=sys.stderr)
    return 2
