#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Asks the real ttnn about every op: python scripts/preflight.py [--devices …] [--model …] [KEY=VALUE …]."""

# Completion by TAB: Hydra's shell function asks only scripts that mention @hydra.main.
import sys
from pathlib import Path

try:
    from tt_transformers_v2.experiments.preflight.cli import main
except ModuleNotFoundError as error:
    if error.name != "tt_transformers_v2":
        raise
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "src"))
    from tt_transformers_v2.experiments.preflight.cli import main

if __name__ == "__main__":
    sys.exit(main())
