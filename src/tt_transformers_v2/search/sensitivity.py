# SPDX-License-Identifier: Apache-2.0
"""What every single change costs in quality: measured by running the model again from the layer that changed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .front import Effect
from .measured_variants import BASE, Measured, name_of
from .replay import Replay
from .space import Option, Place, configured
from .subject import Subject
from .target import Divergence

Progress = Callable[[str, int, int | None], None]


@dataclass
class Sensitivities:
    """`found` has the divergence of each change made alone, `base` that of none. `left_out` were not measured in time.

    new, seconds: variants measured now and the time they took; layers: layers run for them, on average.
    """

    base: Divergence
    found: dict[tuple[Place, Option], Divergence]
    left_out: list[tuple[Place, Option]]
    new: int = 0
    seconds: float = 0.0
    layers: float = 0.0

    def effects(self, subject: Subject) -> dict[Place, list[Effect]]:
        """Per place, what its measured options save and cost.

        A change that measures as better than none costs nothing: the difference is noise.
        """
        effects: dict[Place, list[Effect]] = {}
        for (place, option), divergence in self.found.items():
            cost = max(divergence.kl - self.base.kl, 0.0)
            effects.setdefault(place, []).append(Effect(option, subject.costs.saves[place, option], cost))
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
    hardware = subject.base.hardware
    for number, (place, option) in enumerate(order):
        progress("sensitivities", number, len(order))
        divergence = known.get(name_of(place, option))
        if divergence is None:
            if time.monotonic() > deadline:
                result.left_out.append((place, option))
                continue
            run, started = replay(), time.monotonic()
            before = run.layers_run
            divergence = run.variant(place, configured(hardware, {place: option}, subject.space.num_layers))
            known.add(name_of(place, option), divergence)
            result.new += 1
            result.seconds += time.monotonic() - started
            result.layers += run.layers_run - before
        result.found[place, option] = divergence
    progress("sensitivities", len(order), len(order))
    return result
