# SPDX-License-Identifier: Apache-2.0
"""What the package's commands are called: a user who types tt-run should not be told of scripts/run.py."""

from __future__ import annotations

import sys
from pathlib import Path

from .checkout import project_dir


def command(name: str) -> str:
    """The command `name` ("run", "validate_predictions") as this user types it: `python scripts/run.py` in a checkout,
    `tt-run` for an installed package and wherever a console script was called."""
    called = Path(sys.argv[0]).name if sys.argv else ""
    if called.startswith("tt-") or project_dir() is None:
        return "tt-" + name.replace("_", "-")
    return f"python scripts/{name}.py"
