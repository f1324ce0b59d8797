# SPDX-License-Identifier: Apache-2.0
"""The measured rows under conf/measurements."""

from __future__ import annotations

from ..common.errors import ConfigError
from ..perf.measurements import MeasuredRow, packaged_points
from .conf_folders import conf_dirs


def measured_points(file: str) -> tuple[MeasuredRow, ...]:
    """The rows of a file under conf/measurements. Raises ConfigError when there is none of that name."""
    for folder in conf_dirs():
        path = folder / "measurements" / file
        if path.is_file():
            return packaged_points(path)
    raise ConfigError(f"no file {file!r} under conf/measurements.")
