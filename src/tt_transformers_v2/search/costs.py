# SPDX-License-Identifier: Apache-2.0
"""What each option costs in predicted time. The time of a step is a sum over layers, so single changes add up."""

from __future__ import annotations

from dataclasses import dataclass

from ..common.command_names import command
from ..common.errors import ConfigError
from ..config.resolve import Experiment
from ..config.search_schema import Objective
from ..run.performance import predict
from .roundings import unrounded
from .space import Assignment, Option, Place, Space, configured, with_assignment

# Savings below this share of a step are none: they come from rounding.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Costs:
    """`base_us` is a decode step (or the time to first token) with the base assignment, `saves` what each other option
    saves of it at its place, in us."""

    base_us: float
    saves: dict[tuple[Place, Option], float]

    def time_us(self, assignment: Assignment) -> float:
        """The time of an assignment, as the sum of its savings."""
        return self.base_us - sum(self.saves.get(chosen, 0.0) for chosen in assignment.items())


def step_us(experiment: Experiment, objective: Objective) -> float:
    """The predicted time that the objective is about. Raises ConfigError where there is no prediction."""
    speed = predict(experiment).speed
    return speed.decode_us if objective is Objective.decode else 1e3 * speed.ttft_ms


def measure_costs(experiment: Experiment, space: Space, objective: Objective) -> Costs:
    """Predicts the base and every single change of it. Layers whose settings are alike are predicted once."""
    base = space.base()
    plain = with_assignment(experiment, base)
    base_us = step_us(plain, objective)
    saves: dict[tuple[Place, Option], float] = {}
    known: dict[tuple[int, str, tuple[object, ...]], float] = {}
    for place in space.places():
        kind = id(plain.hardware.for_layer(place.layer)) if place.layer >= 0 else -1
        for option in space.options[place.site][1:]:
            key = (kind, place.site, unrounded(option))
            if key not in known:
                known[key] = base_us - _with(plain, place, option, objective)
            saves[place, option] = known[key] if abs(known[key]) > _NOTHING * base_us else 0.0
    return Costs(base_us, saves)


def _with(plain: Experiment, place: Place, option: Option, objective: Objective) -> float:
    hardware = configured(plain.hardware, {place: option}, plain.spec.num_layers)
    changed = Experiment(plain.config, hardware, plain.spec, plain.calibration)
    return step_us(changed, objective)


def worth_measuring(space: Space, costs: Costs) -> list[tuple[Place, Option]]:
    """The changes that could pay: faster than the base and than every more accurate option of the site, or one of those
    (or of the base) but for its rounding.

    Raises ConfigError when there is none.
    """
    found = []
    for place in space.places():
        best, last = 0.0, unrounded(space.options[place.site][0])
        for option in space.options[place.site][1:]:
            saved = costs.saves[place, option]
            if saved > best or unrounded(option) == last:
                found.append((place, option))
                best, last = saved, unrounded(option)
    if not any(costs.saves[change] > 0 for change in found):
        raise ConfigError(
            "nothing in search.space is predicted to be faster than its most accurate options.",
            f"Run `{command('predict')} --what-if` to see what bounds this workload, or change search.objective.",
        )
    return found
