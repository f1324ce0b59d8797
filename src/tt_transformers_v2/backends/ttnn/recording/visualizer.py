# SPDX-License-Identifier: Apache-2.0
"""The folder that ttnn-visualizer opens, written by ttnn itself from a walk over the described system.

The walk is preflight_walk's: one layer of every kind, in prefill and decode, with the programs that ttnn accepted. Its
durations are those of laying ops out on a described chip, not of running them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ....common.errors import ConfigError
from ....planning.plans import Plan
from ..process.failures import own_words
from .recorder import Call

# What ttnn.graph_report and ttnn write: operations, tensors and buffers; the system; ttnn's settings.
FILES = ("db.sqlite", "cluster_descriptor.yaml", "config.json")

Accepted = Mapping[tuple[str, str, Plan | None], Plan | None]


class Placing:
    """recorder.Recorder that makes every op with the program that ttnn accepted for it before; asks nothing.

    `accepted` gives programs by phase, op and the first program tried.
    """

    def __init__(self, mesh: Any, accepted: Accepted) -> None:
        self.mesh, self._accepted = mesh, accepted
        self.phase = self.part = ""

    def run(self, name: str, call: Call, plan: Plan | None = None, *, fixed: bool = False) -> Any:
        """What the op returns. Raises RuntimeError where ttnn refuses it."""
        return call(self._accepted.get((self.phase, name, plan), plan))


def write_report(folder: Path, walk: Callable[[], None]) -> str | None:
    """Captures what `walk` does and writes FILES into `folder`, each whole or not at all; an op that ttnn refuses ends
    the walk, and what came before it is written.

    Returns what ttnn said of that op, None where there was none. Raises ConfigError for a folder that cannot be
    written.
    """
    import ttnn
    import ttnn.graph_report

    refused = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as name:
            own = Path(name)
            capture = own / "capture.json"
            # Without it ttnn's import counts layouts otherwise than TensorMemoryLayout, which stops the visualizer.
            ttnn.graph.enable_detailed_buffer_tracing()
            ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NORMAL)
            try:
                walk()
            except RuntimeError as error:
                refused = own_words(str(error)) or "RuntimeError"
            finally:
                ttnn.graph.end_graph_capture_to_file(str(capture))
                ttnn.graph.disable_detailed_buffer_tracing()
            ttnn.graph_report.import_report(capture, own / "report")
            ttnn.save_config_to_json_file(own / "report" / "config.json")
            for file in FILES:
                os.replace(own / "report" / file, folder / file)
    except OSError as error:
        raise ConfigError(f"preflight.visualizer: cannot write {folder}: {error.strerror or error}.") from None
    return refused
