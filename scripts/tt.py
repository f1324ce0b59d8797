#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts any command: python scripts/tt.py COMMAND …; without one it lists them."""

import sys

from _launch import launch

if __name__ == "__main__":
    sys.exit(launch("tt_transformers_v2.__main__"))
