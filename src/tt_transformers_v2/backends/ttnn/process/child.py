# SPDX-License-Identifier: Apache-2.0
"""The process that `isolated` starts: runs one job and reports on a pipe of its own, apart from what ttnn prints."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ....common.errors import ConfigError
from ....config.building import build
from ....config.conf_folders import add_conf_dir
from ....hardware.schema import DeviceSpec
from .failures import own_words


@dataclass(frozen=True)
class Job:
    """What a job function is told besides its payload."""

    device: DeviceSpec
    mock: bool
    reports: IO[str]

    def progress(self, **facts: Any) -> None:
        """Sends facts, JSON values all, to the parent's `on_progress`."""
        _send(self.reports, "progress", facts)


def main() -> None:
    """Runs the job of the request file named first, reporting on the file descriptor named second."""
    request = json.loads(Path(sys.argv[1]).read_text())
    descriptor = int(sys.argv[2])
    os.set_inheritable(descriptor, False)  # or a compiler that outlives this process would keep the pipe open
    signal.signal(signal.SIGTERM, _leave)
    with os.fdopen(descriptor, "w", encoding="utf-8") as reports:
        try:
            for added in request["conf_dirs"]:
                add_conf_dir(Path(added))
            module, _, function = request["function"].partition(":")
            job = Job(build(DeviceSpec, request["device"]), request["mock"], reports)
            result = getattr(importlib.import_module(module), function)(request["payload"], job)
            _send(reports, "result", result)
        except Exception as error:
            traceback.print_exc()
            _send(reports, "failure", _described(error))


def _send(reports: IO[str], kind: str, content: Any) -> None:
    reports.write(json.dumps({kind: content}) + "\n")
    reports.flush()


def _described(error: Exception) -> dict[str, Any]:
    """What the parent needs to raise it again: a user's mistake stays one, anything else keeps its sentence."""
    if isinstance(error, ConfigError):
        return {"kind": "ConfigError", "message": error.message, "hint": error.hint}
    return {"kind": type(error).__name__, "message": own_words(str(error))}


def _leave(signum: int, frame: object) -> None:
    raise SystemExit(128 + signum)  # so that an open device is closed on the way out


if __name__ == "__main__":
    main()
