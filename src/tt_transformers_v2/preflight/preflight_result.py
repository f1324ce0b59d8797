# SPDX-License-Identifier: Apache-2.0
"""The `preflight` section of a result: what the real ttnn said of every op, without a card.

Nothing here imports ttnn.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ..backends.ttnn.process.availability import require_ttnn
from ..backends.ttnn.process.failures import TtnnFailure
from ..backends.ttnn.process.isolated import run_isolated
from ..common.errors import ConfigError
from ..config.experiment_json import to_sections
from ..config.fitted_plans import keep_fitted
from ..config.resolve import Experiment
from ..hardware.op_table import DECODE, PREFILL

JOB = f"{__package__}.preflight_job:preflight"
JOB_OF_MANY = f"{__package__}.preflight_job:preflight_each"
LONGEST = 900.0  # seconds; the first Galaxy ever takes a minute, everything else much less
PHASES = (PREFILL, DECODE)

Section = dict[str, Any]
Progress = Callable[[str, int, int], None]


def preflight_section(experiment: Experiment, progress: Progress) -> Section:
    """Asks ttnn about the experiment's ops in a process of its own.

    Bytes are of L1 per core; `peak` of an op is what earlier tensors hold and what the op takes itself, `share` is of
    what ttnn's allocator may hand out, `share_of_limit` of the core's whole L1, firmware included. Where ttnn's process
    gives up, `error` says how. Raises ConfigError when ttnn is not installed and for what no op can be made of.
    """
    section, started = _begun(experiment), time.monotonic()
    try:
        answer = run_isolated(
            JOB,
            {"experiment": to_sections(experiment), "visualizer": _visualizer(experiment)},
            device=experiment.hardware.spec,
            mock=True,
            timeout_s=LONGEST,
            on_progress=lambda facts: progress(facts["phase"], facts["done"], facts["steps"]),
        )
    except TtnnFailure as failure:
        return _failed(section, experiment, failure, time.monotonic() - started)
    return _ended(section, experiment, answer, time.monotonic() - started)


def _visualizer(experiment: Experiment) -> str | None:
    folder = experiment.config.preflight.visualizer
    return None if folder is None else str(Path(folder).absolute())


def preflight_sections(experiments: Sequence[Experiment], *, advise: bool = True) -> Iterator[Section | ConfigError]:
    """`preflight_section` of experiments on one system, in their order, from as few processes as possible.

    Where `preflight_section` would raise a ConfigError, that is in the section's place. When ttnn's process gives up,
    the experiment it was at has the `error`, and another process goes on behind it. `advise`: whether to look for what
    helps where ttnn refused. Raises ConfigError when ttnn is not installed and for experiments on different systems.
    """
    specs = [experiment.hardware.spec for experiment in experiments]
    if any(spec != specs[0] for spec in specs):
        raise ConfigError("the experiments of one preflight process need one and the same system.")
    left = list(experiments)
    while left:
        done = _until_ttnn_gives_up(left, advise)
        yield from done
        left = left[len(done) :]


def _until_ttnn_gives_up(experiments: Sequence[Experiment], advise: bool) -> list[Section | ConfigError]:
    """What one process answers: of all experiments, or of those up to the one at which it gave up."""
    begun = [_begun(experiment) for experiment in experiments]
    done: list[Section | ConfigError] = []

    def note(facts: dict[str, Any]) -> None:
        at, refused = facts["index"], facts["refused"]
        answered = None if refused else _ended(begun[at], experiments[at], facts["answer"], facts["seconds"])
        done.append(answered or ConfigError(refused))

    started = time.monotonic()
    try:
        run_isolated(
            JOB_OF_MANY,
            {"experiments": [to_sections(experiment) for experiment in experiments], "advise": advise},
            device=experiments[0].hardware.spec,
            mock=True,
            timeout_s=LONGEST * len(experiments),
            on_progress=note,
        )
    except TtnnFailure as failure:
        if (at := len(done)) < len(experiments):  # or it only failed to end, with everything answered
            done.append(_failed(begun[at], experiments[at], failure, time.monotonic() - started))
    return done


def _begun(experiment: Experiment) -> Section:
    """A section before ttnn has answered. Raises ConfigError when ttnn is not installed."""
    found = require_ttnn("task=preflight")
    compiler = "stand-in" if found.sfpi is None else "sfpi"
    return {
        "basis": f"checked by ttnn {found.version} on a described {experiment.hardware.device_type}, kernel compiler "
        f"{compiler}: programs were validated and laid out, nothing was run",
        "ttnn": found.version,
        "compiler": compiler,
        "error": None,
        "notes": found.findings,
        **_asked(experiment),
    }


def _ended(section: Section, experiment: Experiment, answer: dict[str, Any], seconds: float) -> Section:
    section = section | _answered(answer, experiment)
    kept = [] if answer is _NOTHING else _kept(experiment, section["ops"])
    return section | {"notes": section["notes"] + kept + _notes(section), "seconds": seconds}


def _failed(section: Section, experiment: Experiment, failure: TtnnFailure, seconds: float) -> Section:
    section = section | {"error": str(failure), "said": failure.said}
    return _ended(section, experiment, _NOTHING, seconds)


def _kept(experiment: Experiment, rows: list[dict[str, Any]]) -> list[str]:
    """Keeps what was fitted for later runs; a folder that cannot be written costs a note, not the preflight."""
    try:
        keep_fitted(experiment, rows)
    except ConfigError as error:
        return [f"later runs will not know what was fitted: {error}"]
    return []


def failure_of(section: Section) -> str | None:
    """Why a preflight did not pass, in a line; None when it did."""
    if section["error"] is not None:
        return str(section["error"])
    failed = [row for row in section["ops"] if row["verdict"] == "failed"]
    if not failed:
        return None
    first = failed[0]
    where = f"{first['phase']} {first['part']} {first['op']}"
    return f"{len(failed)} of {len(section['ops'])} ops rejected, first {where}: {first['said']}"


_NOTHING: dict[str, Any] = {
    "ops": [],
    "tokens": None,
    "chunks": None,
    "users": None,
    "experts": [],
    "visualizer": None,
    "l1_usable": None,
}


def _asked(experiment: Experiment) -> dict[str, Any]:
    hardware, workload = experiment.hardware, experiment.config.workload
    parallel = hardware.parallelism
    return {
        "device": str(hardware.device_type),
        "model": experiment.spec.name,
        "mesh": list(hardware.spec.mesh_shape),
        "grid": list(hardware.spec.grid),
        "tensor_parallel": parallel.tensor_parallel_size,
        "groups": parallel.data_parallel_size,
        "prompt_length": workload.prompt_length,
        "context": experiment.context,
        "l1_limit": hardware.spec.chip.l1_memory_size,
    }


def _answered(answer: dict[str, Any], experiment: Experiment) -> dict[str, Any]:
    usable, limit = answer["l1_usable"], experiment.hardware.spec.chip.l1_memory_size
    rows = [row | _shares(row, usable, limit) for row in answer["ops"]]
    worst = {phase: _worst([row for row in rows if row["phase"] == phase]) for phase in PHASES}
    return {
        "tokens": answer["tokens"],
        "chunks": answer["chunks"],
        "users": answer["users"],
        "experts": answer["experts"],
        "visualizer": answer["visualizer"],
        "l1_usable": usable,
        "asked_ops": len(rows),
        "fitted_ops": sum(row["verdict"] == "fitted" for row in rows),
        "failed_ops": sum(row["verdict"] == "failed" for row in rows),
        "worst_l1": max((row["peak"] for row in worst.values() if row), default=None),
        "worst": worst,
        "ops": rows,
    }


def _shares(row: dict[str, Any], usable: int, limit: int) -> dict[str, float | None]:
    if row["peak"] is None:
        return {"share": None, "share_of_limit": None}
    return {"share": row["peak"] / usable, "share_of_limit": (row["peak"] + limit - usable) / limit}


def _worst(rows: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The op with the highest peak of a phase."""
    passed = [row for row in rows if row["peak"] is not None]
    if not passed:
        return None
    row = max(passed, key=lambda row: row["peak"])
    return {name: row[name] for name in ("part", "op", "peak", "share", "share_of_limit")}


def _notes(section: Section) -> list[str]:
    """What was left out of the question."""
    notes = []
    if (written := section["visualizer"]) is not None:
        part = "" if written["ended_at"] is None else f", up to the op that ttnn refused: {written['ended_at']}"
        notes.append(f"{written['folder']} is for ttnn-visualizer{part}")
    tokens, groups = section["tokens"], section["groups"]
    if tokens is not None and section["chunks"] > 1:
        notes.append(
            f"a prompt of {section['prompt_length']} tokens is {section['chunks']} chunks of {tokens}; only the first "
            "and the layers of the second (2) were checked"
        )
    if groups > 1 and section["users"] is not None:
        notes.append(
            f"one of {groups} data-parallel groups was checked, with {section['users']} users; the others are the same"
        )
    for experts in section["experts"]:
        count, top_k, asked = experts["count"], experts["top_k"], experts["asked"]
        notes.append(
            f"every one of {count} experts is computed for every token, {count / top_k:.3g} times the products of the "
            f"{top_k} that it uses; {asked} were checked, the others are the same"
        )
    for phase in PHASES:
        own = [row for row in section["ops"] if row["phase"] == phase]
        if own and own[-1]["verdict"] == "failed" and own[-1]["passes_with"] is None:
            notes.append(f"{phase} ended at {own[-1]['part']} {own[-1]['op']}: later ops were not checked")
    return notes
