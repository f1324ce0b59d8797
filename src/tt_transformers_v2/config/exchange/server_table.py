# SPDX-License-Identifier: Apache-2.0
"""Every entry of a server catalogue next to what it comes to here: does it fit, and with which context, prefill chunk
and trace region."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from ...common.errors import ConfigError
from ..building import build
from ..composition import compose
from ..experiment_schema import ExperimentConfig
from ..findings import Finding, Severity
from ..groups import device_types
from ..overrides import check_overrides
from ..resolve import Experiment, model_spec, resolve
from .imported import Imported
from .server_entries import ServerEntry, model_option, server_entries

HEADS = ("entry", "fits", "context", "chunk", "trace region", "findings")
# Kinds of models that have no decoder to predict.
OTHER_KINDS = ("IMAGE", "AUDIO", "CNN", "VIDEO", "TEXT_TO_SPEECH", "TRAINING")


@dataclass(frozen=True)
class Row:
    """One entry. fits: yes, no, or – where nothing here could tell; context and chunk in tokens, trace_region in bytes,
    None where the device or the model is not described; findings are ids, or why the entry could not be read."""

    entry: str
    fits: str
    context: int | None
    chunk: int | None
    trace_region: int | None
    findings: tuple[str, ...]

    @property
    def cells(self) -> tuple[str, ...]:
        """The row as text, in the order of HEADS."""
        numbers = ("–" if value is None else f"{value:,}" for value in (self.context, self.chunk, self.trace_region))
        return (self.entry, self.fits, *numbers, ", ".join(self.findings) or "–")


def table_rows(text: str) -> tuple[list[Row], list[Finding], str]:
    """A row for every entry of a file that serves a language model, warnings for what is no entry, and what was left
    out, "" where nothing was. Raises ConfigError as `server_entries` does."""
    entries, unread = server_entries(text)
    others = Counter(entry.kind for entry in entries if entry.kind.upper() in OTHER_KINDS)
    rows = [_row(entry) for entry in entries if entry.kind not in others]
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(others.items()))
    return rows, unread, f"left out, of other kinds: {kinds}" if others else ""


def _row(entry: ServerEntry) -> Row:
    name = entry.name or entry.path
    model = model_option(entry.model)
    try:
        imported = entry.read(_model_context(model))
    except ConfigError as problem:
        return Row(name, "–", None, None, None, (str(problem),))
    ids = dict.fromkeys(finding.id for finding in imported.findings if finding.severity is not Severity.hint)
    context = imported.workload.get("workload.context")
    values = imported.values
    chunk, trace = values.get("device.max_prefill_chunk_size"), values.get("device.trace_region_size")
    if model is None or "device.device_type" not in values:
        why = "model not described here" if model is None else "device not described here"
        return Row(name, "–", context, chunk, trace, (why, *(id for id in ids if id != "exchange-device")))
    try:
        experiment = _experiment(imported, model)
    except ConfigError as problem:
        return Row(name, "no", context, chunk, trace, (*ids, str(problem).splitlines()[0]))
    found = (finding for finding in experiment.findings if finding.severity is not Severity.hint)
    hardware = experiment.hardware
    return Row(
        name,
        "no" if experiment.errors else "yes",
        experiment.context,
        hardware.max_prefill_chunk_size,
        hardware.trace_region_size,
        (*ids, *dict.fromkeys(finding.id for finding in found)),
    )


def _model_context(model: str | None) -> int:
    if model is None:
        return 0
    config = build(ExperimentConfig, compose([f"model={model}"]))
    return model_spec(config.model).max_context


def _experiment(imported: Imported, model: str) -> Experiment:
    checked = check_overrides([*_overrides(imported), f"model={model}"])
    return resolve(compose(checked), checked.typed)


def _overrides(imported: Imported) -> Iterator[str]:
    """What to type for an entry."""
    yield f"device={device_types()[imported.values['device.device_type']]}"
    if imported.mode is not None:
        yield f"precision={imported.mode}"
    for path, value in (*imported.values.items(), *imported.workload.items()):
        if path != "device.device_type":
            yield f"{path}={value}".replace(" ", "")
