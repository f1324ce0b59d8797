# SPDX-License-Identifier: Apache-2.0
"""The preflight in the process that runs ttnn: asks about every op, then tries what may help where ttnn refused."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ..backends.ttnn.advice import Fix, candidates
from ..backends.ttnn.preflight_walk import EXPERTS_ASKED, Progress, Question, ask, asked, group_mesh, place, question_of
from ..backends.ttnn.process.child import Job
from ..backends.ttnn.process.session import open_mesh
from ..backends.ttnn.recording.asking import Row, l1_bytes
from ..backends.ttnn.recording.visualizer import write_report
from ..common.errors import ConfigError
from ..config.experiment_json import from_sections
from ..config.precedence import leaf_paths, set_path
from ..config.resolve import Experiment, plain, resolve

MOST_FIXES = 2  # that are said to help


def preflight(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """Rows for every op, with what was asked and L1 bytes per core.

    `payload` has the resolved `experiment` (config.experiment_json), and under `visualizer`, if any, the folder that
    ttnn-visualizer shall open, or None. Raises ConfigError for what no op can be made of, such as heads that cannot be
    split, and for a folder that cannot be written.
    """
    experiment = from_sections(payload["experiment"])
    return _answer(
        experiment,
        lambda phase, done, steps: job.progress(phase=phase, done=done, steps=steps),
        visualizer=payload.get("visualizer"),
    )


def preflight_each(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """The same for several experiments on one system, one after the other: starting ttnn is most of a preflight.

    `payload` has the resolved `experiments`, and whether to look for what helps where ttnn refused (`advise`). Each
    answer is reported as it is found, with its `index`, `seconds`, and under `refused` what a ConfigError said (None
    where there is an `answer`).
    """
    for index, sections in enumerate(payload["experiments"]):
        started = time.monotonic()
        answer = refused = None
        try:
            answer = _answer(from_sections(sections), _no_progress, advise=payload["advise"])
        except ConfigError as error:
            refused = str(error)
        job.progress(index=index, answer=answer, refused=refused, seconds=time.monotonic() - started)
    return {}


def _answer(
    experiment: Experiment, progress: Progress, *, advise: bool = True, visualizer: str | None = None
) -> dict[str, Any]:
    """Nothing here outlives the call: a mesh that is still referred to cannot be opened again."""
    question = question_of(experiment)
    with open_mesh(experiment.hardware, mock=True) as whole:  # placing tensors is harmless on described chips only
        mesh = group_mesh(whole, question.config, question.spec)
        asking = asked(question, mesh, progress)
        rows = asking.rows
        refused = None
        if visualizer is not None:
            refused = write_report(Path(visualizer), partial(place, question, mesh, asking.accepted))
        if advise:
            _Advising(experiment, question, mesh, rows).advise()
        answer = {
            "ops": rows,
            "tokens": question.tokens,
            "chunks": question.chunks,
            "users": question.users,
            "experts": _experts(question),
            "l1_usable": l1_bytes(mesh),
            "mesh": [mesh.shape[0], mesh.shape[1]],
            "visualizer": None if visualizer is None else {"folder": visualizer, "ended_at": refused},
        }
        del mesh  # a part of the system must be gone before the whole is closed
        return answer


def _experts(question: Question) -> list[dict[str, int]]:
    """Of each different kind of experts: how many there are, how many a token uses, and how many were asked about."""
    kinds = dict.fromkeys(kind.experts for kind in question.spec.layer_counts if kind.experts is not None)
    return [{"count": own.count, "top_k": own.top_k, "asked": min(own.count, EXPERTS_ASKED)} for own in kinds if own]


Key = tuple[str, str, int]  # phase, op, how many of that name came before it


def keyed(rows: list[Row]) -> dict[Key, Row]:
    """The rows by what stays the same when a configuration changes a little."""
    seen: Counter[tuple[str, str]] = Counter()
    found: dict[Key, Row] = {}
    for row in rows:
        phase, op = row["phase"], row["op"]
        found[phase, op, seen[phase, op]] = row
        seen[phase, op] += 1
    return found


@dataclass
class _Advising:
    """Finds what to type for every op that ttnn refused, and asks ttnn whether that would do.

    It adds to each such row `fixes`, those that were found to help, and `no_help`, those that were not.
    """

    experiment: Experiment
    question: Question
    mesh: Any
    rows: list[Row]

    def advise(self) -> None:
        self._tried: dict[str, dict[Key, Row] | None] = {}
        failed = {key: row for key, row in keyed(self.rows).items() if row["verdict"] == "failed"}
        for key, row in failed.items():
            row["fixes"], row["no_help"] = [], []
            for fix in candidates(row, self.question):
                if len(row["fixes"]) == MOST_FIXES:
                    break
                found = self._with(fix)
                others = set() if found is None else {k for k, r in found.items() if r["verdict"] == "failed"}
                if found is None or not _helps(key, found, others, failed):
                    row["no_help"].append(fix.text)
                else:
                    row["fixes"].append(_described(fix, found.get(key), not others))

    def _with(self, fix: Fix) -> dict[Key, Row] | None:
        """The answers to the same question with a fix; None where the configuration then has errors of its own."""
        if fix.text not in self._tried:
            try:
                experiment = self._resolved(fix)
                asked = None if experiment.errors else ask(question_of(experiment), self.mesh, _no_progress)
            except ConfigError:
                asked = None
            self._tried[fix.text] = None if asked is None else keyed(asked)
        return self._tried[fix.text]

    def _resolved(self, fix: Fix) -> Experiment:
        composed, typed = plain(self.experiment.config), set(self.experiment.typed)
        for path, value in fix.overrides.items():
            set_path(composed, path, value)
            typed.update(leaf_paths(path, value))
        for key in fix.left_out:
            del composed["runtime"]["programs"][key]
        return resolve(composed, typed)


def _helps(key: Key, found: Mapping[Key, Row], others: set[Key], failed: Mapping[Key, Row]) -> bool:
    """Whether the op at `key` passes and nothing fails that passed before. Ops that a failure cut off are not asked."""
    return key not in others and not others - set(failed) and (key in found or not others)


def _described(fix: Fix, row: Row | None, all_pass: bool) -> dict[str, Any]:
    """A fix that ttnn was asked about: what to type, why, the program that the op then has, whether all ops pass."""
    now = {"program": None, "peak": None} if row is None else {"program": row["program"], "peak": row["peak"]}
    return {"do": fix.text, "why": fix.why, **now, "all_pass": all_pass}


def _no_progress(phase: str, done: int, steps: int) -> None:
    """Nobody is shown how far a second question is."""
