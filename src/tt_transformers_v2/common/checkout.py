# SPDX-License-Identifier: Apache-2.0
"""Where this code runs from, a checkout or an installed package, and where results go."""

from __future__ import annotations

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent.parent


def project_dir() -> Path | None:
    """The root of the checkout this code runs from, or None when it is installed elsewhere."""
    root = PACKAGE.parent.parent
    return root if (root / "conf" / "config.yaml").is_file() and (root / "pyproject.toml").is_file() else None


def outputs_dir() -> Path:
    """Where results go: the checkout's outputs/, or ./outputs for an installed package."""
    return (project_dir() or Path.cwd()) / "outputs"
