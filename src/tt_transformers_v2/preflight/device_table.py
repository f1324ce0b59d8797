# SPDX-License-Identifier: Apache-2.0
"""The preflight over several devices, each with a model that fits it or with several models: one table."""

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
from .preflight_result import Section, failure_of, preflight_sections
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


def chosen_models(text: str) -> list[str]:
    """Options of the model group, comma-separated, or AUTO alone. Raises ConfigError for an unknown one."""
    if text == AUTO:
        return [AUTO]
    return list(dict.fromkeys(option("model", name.strip()) for name in text.split(",")))


def ask_about(devices: Sequence[str], models: Sequence[str], overrides: Sequence[str]) -> list[Asked]:
    """The experiment of each device and model. Raises ConfigError for overrides that no device takes."""
    for name, flag in (("device", "--devices NAME,NAME"), ("model", "--model NAME,NAME")):
        if any(text.partition("=")[0] == name for text in overrides):
            raise ConfigError(f"{name}= does not apply to this command.", f"Use {flag}.")
    check_overrides(overrides)
    return [_asked(device, model, overrides) for device in devices for model in models]


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
    """A row for each, in order; `tell` gets each as soon as its device's process has ended."""
    by_device: dict[str, list[Asked]] = {}
    for one in asked:
        by_device.setdefault(one.device, []).append(one)

    def answered(group: list[Asked]) -> list[Row]:
        rows = _rows(group)
        for row in rows:
            tell(row)
        return rows

    # A thread begins without the folders that this context reads configurations from.
    contexts = [copy_context() for _ in by_device]
    with ThreadPoolExecutor(min(MOST_AT_ONCE, os.cpu_count() or 1)) as pool:
        groups = pool.map(lambda context, group: context.run(answered, group), contexts, by_device.values())
        return [row for rows in groups for row in rows]


def _rows(asked: Sequence[Asked]) -> list[Row]:
    """What was found about one device, a row for each model."""
    experiments = [one.experiment for one in asked if one.experiment is not None]
    answers: Iterator[Section | ConfigError]
    try:
        answers = iter(list(preflight_sections(experiments)))
    except ConfigError as error:
        answers = iter([error] * len(experiments))
    return [_row(one, None if one.experiment is None else next(answers)) for one in asked]


def _row(asked: Asked, answer: Section | ConfigError | None) -> Row:
    """One model on one device: `verdict` ok, fitted, failed or, where nothing could be asked, none."""
    named = {"device": asked.device, "model": asked.model}
    if asked.experiment is None or answer is None:
        return named | {"verdict": "none", "why": asked.why_not, "section": None}
    if isinstance(answer, ConfigError):
        return named | {"verdict": "failed", "why": str(answer), "section": None}
    why = failure_of(answer)
    verdict = "failed" if why else "fitted" if answer["fitted_ops"] else "ok"
    return named | {
        "verdict": verdict,
        "why": why,
        "config_hash": asked.experiment.config_hash(),
        "section": answer,
    }


def table_lines(rows: Sequence[Row]) -> Iterator[str]:
    """The table over all devices, and below it why some did not pass."""
    yield from aligned(HEADER, [_cells(row) for row in rows], RIGHT)
    for row in rows:
        if row["why"]:
            yield f"{row['device']} {row['model']}: {row['why']}"


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
