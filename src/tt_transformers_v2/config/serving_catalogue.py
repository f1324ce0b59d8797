# SPDX-License-Identifier: Apache-2.0
"""What tt-inference-server's catalogue ships: contexts, prefill chunks and trace regions by model and device.

conf/measurements/serving_catalogue.csv has the entries of PyPI tenstorrent 1.2.1, modelhub/release_model_spec.json
(169 entries, release 0.25.0), that vLLM serves and whose models conf/model describes: 67. Left out are models that are
not described (81 entries), other engines (8), a GPU (2), and T3Ks made of a Galaxy's chips (11).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..common.csv_rows import count, count_or_none, read_rows, text
from .conf_folders import conf_dirs, remembered
from .measured_points import measurements_file
from .model_rules import base_name

FILE = "serving_catalogue.csv"
COLUMNS = (
    *("model", "device", "implementation", "version", "tt_metal", "max_concurrency", "data_parallel"),
    *("max_context", "max_prefill_chunk_size", "trace_region_size", "unlike"),
)


@dataclass(frozen=True)
class ServingEntry:
    """One entry: `max_concurrency` users in all groups, `max_context` and `max_prefill_chunk_size` in tokens,
    `trace_region_size` in bytes; None where the entry leaves it to the software.

    implementation: the code that runs it; version, tt_metal: the releases it was made for. unlike: why its context does
    not fit here, "" where it does.
    """

    model: str
    device: str
    implementation: str
    version: str
    tt_metal: str
    max_concurrency: int
    data_parallel: int | None
    max_context: int
    max_prefill_chunk_size: int | None
    trace_region_size: int | None
    unlike: str


def serving_entries() -> tuple[ServingEntry, ...]:
    """Every entry of the catalogue. Raises ConfigError with file and line for what is wrong in it."""
    return _entries(conf_dirs())


@remembered
def _entries(roots: tuple[Path, ...]) -> tuple[ServingEntry, ...]:
    return tuple(read_rows(measurements_file(FILE), COLUMNS, _entry))


def _entry(row: Mapping[str, str], line: int) -> ServingEntry:
    return ServingEntry(
        model=text(row, "model"),
        device=text(row, "device"),
        implementation=text(row, "implementation"),
        version=text(row, "version"),
        tt_metal=text(row, "tt_metal"),
        max_concurrency=count(row, "max_concurrency"),
        data_parallel=count_or_none(row, "data_parallel"),
        max_context=count(row, "max_context"),
        max_prefill_chunk_size=count_or_none(row, "max_prefill_chunk_size"),
        trace_region_size=count_or_none(row, "trace_region_size", least=0),
        unlike=row["unlike"],
    )


def serving_trace_region(model_name: str, device_type: str) -> int | None:
    """Bytes of trace region that the catalogue ships for a model on a device, the most where implementations differ;
    None where every entry leaves it to vLLM's plugin, and where there is none."""
    name = base_name(model_name).casefold()
    sizes = [
        entry.trace_region_size
        for entry in serving_entries()
        if entry.trace_region_size is not None
        and (base_name(entry.model).casefold(), entry.device) == (name, device_type)
    ]
    return max(sizes, default=None)
