# SPDX-License-Identifier: Apache-2.0
"""The measured rows under conf/measurements."""

from __future__ import annotations

from pathlib import Path

from ..common.errors import ConfigError
from ..perf.measurements import MeasuredRow, packaged_points
from .conf_folders import conf_dirs


def measurements_file(file: str) -> Path:
    """Where a file under conf/measurements stands. Raises ConfigError when there is none of that name."""
    for folder in conf_dirs():
        path = folder / "measurements" / file
        if path.is_file():
            return path
    raise ConfigError(f"no file {file!r} under conf/measurements.")


def measured_points(file: str) -> tuple[MeasuredRow, ...]:
    """The rows of a file under conf/measurements. Raises ConfigError when there is none of that name."""
    return packaged_points(measurements_file(file))
