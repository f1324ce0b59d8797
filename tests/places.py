# SPDX-License-Identifier: Apache-2.0
"""Where the checkout is that these tests belong to, and their data."""

from pathlib import Path

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
DATA = TESTS / "data"

SIMULATOR: str | None = None  # what TT_METAL_SIMULATOR named before conftest.py took it out of the environment
