# SPDX-License-Identifier: Apache-2.0
"""Points of the front, run as a whole: on the text of the search, and on text that it has not seen."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.resolve import Experiment
from .front import Step, assignment_after
from .measured_variants import Measured, key_of
from .replay import Replay
from .space import Assignment, Option, Place, with_assignment
from .subject import Subject
from .target import Divergence


@dataclass(frozen=True)
class Point:
    """A configuration of the front: `steps` of its walk taken. `estimated_kl` is the sum of sensitivities, `searched`
    the whole run on the search's text, `verified` that on unseen text."""

    steps: int
    assignment: dict[Place, Option]
    experiment: Experiment
    estimated_kl: float
    searched: Divergence
    verified: Divergence


@dataclass(frozen=True)
class Preset:
    """A configuration to compare the front with, measured like a point."""

    name: str
    experiment: Experiment
    searched: Divergence
    verified: Divergence


class Runs:
    """Whole runs on one text, remembered."""

    def __init__(self, subject: Subject, replay: Callable[[], Replay], known: Measured) -> None:
        self._subject, self._replay, self._known = subject, replay, known
        self.seconds: list[float] = []

    def of(self, experiment: Experiment, assignment: Assignment | None = None) -> Divergence:
        """The divergence of a whole run, made where it is not known, with the weights of the assignment that made it.

        Raises ConfigError when it cannot be kept.
        """
        chosen = {} if assignment is None else assignment
        name = _name(experiment, self._subject.rounding_of(chosen))
        found = self._known.get(name)
        if found is None:
            run, started = self._replay(), time.monotonic()
            found = run.whole(experiment.hardware, self._subject.weights(chosen, experiment.hardware))
            self.seconds.append(time.monotonic() - started)
            self._known.add(name, found)
        return found


def _name(experiment: Experiment, rounding: dict[str, Any]) -> str:
    """A name for a whole configuration, as far as it changes what is computed."""
    tree = experiment.to_dict()
    return "whole/" + key_of({key: tree[key] for key in ("precision", "compute", "layers")} | rounding)


class Front:
    """The walk of a search, its points measured when asked for."""

    def __init__(self, subject: Subject, base_kl: float, steps: Sequence[Step], seen: Runs, unseen: Runs) -> None:
        self.subject, self.steps, self.seen = subject, steps, seen
        self._base_kl, self._unseen = base_kl, unseen
        self._searched: dict[int, float] = {}

    def experiment(self, count: int) -> Experiment:
        """The configuration after `count` steps."""
        return with_assignment(self.subject.base, self.assignment(count))

    def assignment(self, count: int) -> dict[Place, Option]:
        """What each place has after `count` steps."""
        return assignment_after(self.subject.space.base(), self.steps, count)

    def estimated_kl(self, count: int) -> float:
        """The sum of sensitivities after `count` steps."""
        return self._base_kl + (self.steps[count - 1].kl if count else 0.0)

    def search(self, count: int) -> Divergence:
        """The whole run on the search's text."""
        found = self.seen.of(self.experiment(count), self.assignment(count))
        self._searched[count] = found.kl
        return found

    def verify(self, count: int) -> Point:
        """The point after `count` steps, run on the search's text and on unseen text."""
        experiment, chosen = self.experiment(count), self.assignment(count)
        searched, verified = self.search(count), self._unseen.of(experiment, chosen)
        return Point(count, chosen, experiment, self.estimated_kl(count), searched, verified)

    def preset(self, name: str, experiment: Experiment) -> Preset:
        """A configuration from outside the walk, run on the same two texts."""
        return Preset(name, experiment, self.seen.of(experiment), self._unseen.of(experiment))

    def expected_kl(self, count: int) -> float:
        """KL on the search's text: measured there, or between its measured neighbours as the estimates lie."""
        if count in self._searched:
            return self._searched[count]
        known = sorted(self._searched)
        right = bisect_left(known, count)
        if right in (0, len(known)):
            return self.estimated_kl(count)
        low, high = known[right - 1], known[right]
        left_estimate, right_estimate = self.estimated_kl(low), self.estimated_kl(high)
        if right_estimate <= left_estimate:
            return self._searched[high]
        share = (self.estimated_kl(count) - left_estimate) / (right_estimate - left_estimate)
        return self._searched[low] + share * (self._searched[high] - self._searched[low])

    def last_within(self, bar: float) -> int:
        """The largest number of steps whose expected KL stays within `bar`; 0 where none does."""
        return max((count for count in range(len(self.steps) + 1) if self.expected_kl(count) <= bar), default=0)


def dominated(point: Point | Preset, others: Sequence[Point], time_of: Callable[[Experiment], float]) -> bool:
    """Whether another point is at least as fast and as close to the reference on unseen text, and better in one."""
    own = (time_of(point.experiment), point.verified.kl)
    return any(
        theirs != own and theirs[0] <= own[0] and theirs[1] <= own[1]
        for theirs in ((time_of(other.experiment), other.verified.kl) for other in others)
    )
