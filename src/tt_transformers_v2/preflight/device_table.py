# SPDX-License-Identifier: Apache-2.0
"""The preflight over several devices, each with a model that fits it: one table."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any

from ..common.errors import ConfigError
from ..config.composition import compose
from ..config.groups import device_types, option
from ..config.overrides import check_overrides
from ..config.resolve import Experiment, resolve, resolve_or_refuse
from .preflight_result import Section, failure_of, preflight_section
from .preflight_text import aligned

AUTO = "auto"
LARGEST_FIRST = ("llama70b", "llama8b")  # what `auto` chooses from
MOST_AT_ONCE = 4  # processes; each takes a core and 2 GB

Row = dict[str, Any]

HEADER = (
    "device",
    "mesh",
    "grid",
    "model",
    "TP",
    "ops",
    "prefill, worst op",
    "decode, worst op",
    "fitted",
    "s",
    "verdict",
)
RIGHT = ("TP", "ops", "fitted", "s")


@dataclass(frozen=True)
class Asked:
    """A device with the experiment to ask about, or why there is none."""

    device: str
    model: str
    experiment: Experiment | None
    why_not: str = ""


def chosen_devices(text: str) -> list[str]:
    """Options of the device group: all, or the comma-separated ones. Raises ConfigError for an unknown one."""
    if text == "all":
        return list(device_types().values())
    return list(dict.fromkeys(option("device", name.strip()) for name in text.split(",")))


def ask_about(devices: Sequence[str], model: str, overrides: Sequence[str]) -> list[Asked]:
    """The experiment of each device. Raises ConfigError for overrides that no device takes."""
    for name, flag in (("device", "--devices NAME,NAME"), ("model", "--model NAME")):
        if any(text.partition("=")[0] == name for text in overrides):
            raise ConfigError(f"{name}= does not apply to this command.", f"Use {flag}.")
    check_overrides(overrides)
    return [_asked(device, model, overrides) for device in devices]


def _asked(device: str, model: str, overrides: Sequence[str]) -> Asked:
    if model != AUTO:
        try:
            return Asked(device, model, resolve_or_refuse(*_composed(device, model, overrides)))
        except ConfigError as error:
            return Asked(device, model, None, str(error))
    for name in LARGEST_FIRST:
        experiment = resolve(*_composed(device, name, overrides))
        if not experiment.errors:
            return Asked(device, name, experiment)
    return Asked(device, name, None, "; ".join(str(finding) for finding in experiment.errors))


def _composed(device: str, model: str, overrides: Sequence[str]) -> tuple[dict[str, Any], set[str]]:
    checked = check_overrides([f"device={device}", f"model={model}", "task=preflight", *overrides])
    return compose(checked), checked.typed


def run_all(asked: Sequence[Asked], tell: Callable[[Row], None]) -> list[Row]:
    """A row for each, in order; `tell` gets each as soon as it is done."""

    def answered(one: Asked) -> Row:
        row = _row(one)
        tell(row)
        return row

    # A thread begins without the folders that this context reads configurations from.
    contexts = [copy_context() for _ in asked]
    with ThreadPoolExecutor(min(MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda context, one: context.run(answered, one), contexts, asked))


def _row(asked: Asked) -> Row:
    """What was found about one device: `verdict` ok, fitted, failed or, where nothing could be asked, none."""
    named = {"device": asked.device, "model": asked.model}
    if asked.experiment is None:
        return named | {"verdict": "none", "why": asked.why_not, "section": None}
    try:
        section = preflight_section(asked.experiment, _silent)
    except ConfigError as error:
        return named | {"verdict": "failed", "why": str(error), "section": None}
    why = failure_of(section)
    verdict = "failed" if why else "fitted" if section["fitted_ops"] else "ok"
    return named | {
        "verdict": verdict,
        "why": why,
        "config_hash": asked.experiment.config_hash(),
        "section": section,
    }


def _silent(stage: str, done: int, total: int) -> None:
    """Several bars at once would only confuse."""


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table over all devices, and below it why some did not pass."""
    yield from aligned(HEADER, [_cells(row) for row in rows], RIGHT)
    for row in rows:
        if row["why"]:
            yield f"{row['device']}: {row['why']}"


def _cells(row: Row) -> tuple[str, ...]:
    section = row["section"]
    if section is None:
        return row["device"], "", "", row["model"], *[""] * 6, row["verdict"]
    rows, columns = section["mesh"]
    return (
        row["device"],
        f"{rows}x{columns}",
        "x".join(map(str, section["grid"])),
        row["model"],
        str(section["tensor_parallel"]),
        str(section["asked_ops"]),
        _worst(section, "prefill"),
        _worst(section, "decode"),
        str(section["fitted_ops"]),
        f"{section['seconds']:.0f}",
        row["verdict"],
    )


def _worst(section: Section, phase: str) -> str:
    worst = section["worst"][phase]
    return f"{worst['op']} {worst['peak'] / 1000:.0f} kB {worst['share']:.0%}" if worst else ""
