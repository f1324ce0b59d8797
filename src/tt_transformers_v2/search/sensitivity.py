# SPDX-License-Identifier: Apache-2.0
"""What every single change costs in quality, and how that is measured: by running the model again from the layer that
changed. Where it is estimated instead, `gradient_sensitivity.py` says how."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from ..config.search_schema import SearchMethod
from .front import Effect
from .measured_variants import BASE, Measured
from .replay import Replay
from .space import Option, Place, configured
from .subject import Subject
from .target import Divergence

Progress = Callable[[str, int, int | None], None]


Change = tuple[Place, Option]


@dataclass
class Sensitivities:
    """`found` has the divergence of each change made alone, `base` that of none. `left_out` were not reached in time.

    method: measured or gradient. With gradients, `estimated` has the KL that each change adds, and `scale` what it is
    to be multiplied by (None: the changes in `found`, which were measured to tell, are lost in noise).
    new, seconds: variants measured now and the time they took; layers: layers run for them, on average.
    estimate_seconds: for the estimates.
    """

    base: Divergence
    found: dict[Change, Divergence]
    left_out: list[Change]
    new: int = 0
    seconds: float = 0.0
    layers: float = 0.0
    method: SearchMethod = SearchMethod.measured
    estimated: dict[Change, float] = field(default_factory=dict)
    scale: float | None = None
    estimate_seconds: float = 0.0

    def changes(self) -> list[Change]:
        """Every change that something is known of."""
        return [*self.found, *(change for change in self.estimated if change not in self.found)]

    def scaled(self, change: Change) -> float | None:
        """The estimate of a change, in the scale of what was measured; None where there is none."""
        estimate = self.estimated.get(change)
        return None if estimate is None else estimate * (1.0 if self.scale is None else self.scale)

    def kl_change(self, change: Change) -> float:
        """Nats that a change adds: measured where it was, otherwise estimated."""
        if (divergence := self.found.get(change)) is not None:
            return divergence.kl - self.base.kl
        estimate = self.scaled(change)
        assert estimate is not None
        return estimate

    def effects(self, subject: Subject) -> dict[Place, list[Effect]]:
        """Per place, what its options save and cost, as far as it is known.

        A change that comes out better than none costs nothing: the difference is noise. One that saves no time, which
        is the base with another rounding, is there to be better.
        """
        effects: dict[Place, list[Effect]] = {}
        for place, option in self.changes():
            saves, cost = subject.costs.saves[place, option], self.kl_change((place, option))
            effects.setdefault(place, []).append(Effect(option, saves, max(cost, 0.0) if saves else cost))
        return effects


def measure_sensitivities(
    subject: Subject, replay: Callable[[], Replay], known: Measured, *, deadline: float, progress: Progress
) -> Sensitivities:
    """Measures the changes that `subject` wants and `known` lacks, those that save most first, until `deadline`
    (time.monotonic). `replay` is called when something is to be measured."""
    base = known.get(BASE)
    if base is None:
        base = replay().base
        known.add(BASE, base)
    result = Sensitivities(base, {}, [])
    order = sorted(subject.wanted, key=lambda change: -subject.costs.saves[change])
    measure_changes(result, subject, order, replay, known, deadline=deadline, progress=progress)
    return result


def measure_changes(
    result: Sensitivities,
    subject: Subject,
    order: Sequence[Change],
    replay: Callable[[], Replay],
    known: Measured,
    *,
    deadline: float,
    progress: Progress,
) -> None:
    """Adds to `result` the changes of `order`, one after the other; those that `deadline` leaves out as such."""
    hardware, base = subject.base.hardware, subject.space.base()
    for number, (place, option) in enumerate(order):
        progress("sensitivities", number, len(order))
        divergence = known.get(subject.name_of(place, option))
        if divergence is None:
            if time.monotonic() > deadline:
                result.left_out.append((place, option))
                continue
            run, started = replay(), time.monotonic()
            before = run.layers_run
            changed = configured(hardware, {place: option}, subject.space.num_layers)
            divergence = run.variant(place, changed, subject.weights(base | {place: option}, changed))
            known.add(subject.name_of(place, option), divergence)
            result.new += 1
            result.seconds += time.monotonic() - started
            result.layers += run.layers_run - before
        result.found[place, option] = divergence
    progress("sensitivities", len(order), len(order))
