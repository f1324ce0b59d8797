#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a report over sweeps: python scripts/report.py DIR… [--out FILE] [--compare] [--open]."""

# Completion by TAB: Hydra's shell function asks only scripts that mention @hydra.main.
import sys

from _launch import launch

if __name__ == "__main__":
    sys.exit(launch("tt_transformers_v2.commands.report"))
