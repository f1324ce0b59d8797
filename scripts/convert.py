#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Converts TTTv1's and the serving tools' settings to ours and back. See --help and docs/exchange.md."""

# Completion by TAB: Hydra's shell function asks only scripts that mention @hydra.main.
import sys

from _launch import launch

if __name__ == "__main__":
    sys.exit(launch("tt_transformers_v2.commands.convert"))
