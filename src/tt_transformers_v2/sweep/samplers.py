# SPDX-License-Identifier: Apache-2.0
"""Which of the planned jobs run, and in which order: all of them, or those that Optuna asks for.

Every combination is planned, checked and frozen beforehand either way. Optuna then chooses among them, told of each
result as it comes: jobs that cannot be count as failed trials, duplicates as what they duplicate. A sweep that goes on
first tells it all results there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ..common.errors import ConfigError, did_you_mean
from ..config.sweep_schema import SamplerName, SweepConfig
from ..run.result_files import COLUMNS
from .axes import Axis

# Trials that lead to nothing new before Optuna is taken to have seen all it wants to see.
_MOST_REPEATS = 200


@dataclass(frozen=True)
class Objective:
    """A column of the tables, and whether more of it is better."""

    figure: str
    maximize: bool

    def of(self, row: dict[str, Any]) -> float:
        """The row's figure; NaN where it has none."""
        value = row.get(self.figure)
        return float(value) if isinstance(value, (int, float)) else math.nan


def read_objectives(written: Sequence[str]) -> list[Objective]:
    """Objectives as `max FIGURE` or `min FIGURE`. Raises ConfigError naming the nearest figure."""
    found = []
    for text in written:
        direction, _, figure = text.strip().partition(" ")
        figure = figure.strip()
        if direction not in ("max", "min") or not figure:
            raise ConfigError(
                f"sweep.objectives: {text!r} is not an objective.",
                "Write ['max decode_tokens_per_s_per_user', 'min kl_divergence'].",
            )
        if figure not in COLUMNS:
            raise ConfigError(f"sweep.objectives: no figure named {figure!r}.", did_you_mean(figure, COLUMNS))
        found.append(Objective(figure, direction == "max"))
    return found


class Sampler(Protocol):
    """`numbers` are the jobs to run, drawn as they are started; `tell` says what came of one."""

    total: int

    def numbers(self) -> Iterator[int]:
        """Yields the number of a job each time another may start; may end before `total` of them."""
        ...

    def tell(self, number: int, row: dict[str, Any]) -> None:
        """Takes in the row of a job that has ended, in this run of the sweep or in an earlier one."""
        ...


class Grid:
    """Every pending job, in order."""

    def __init__(self, pending: Sequence[int]) -> None:
        self._pending = pending
        self.total = len(pending)

    def numbers(self) -> Iterator[int]:
        return iter(self._pending)

    def tell(self, number: int, row: dict[str, Any]) -> None:
        pass


class Optuna:
    """`sweep.trials` jobs, chosen by Optuna's TPE sampler under `sweep.seed`."""

    def __init__(self, axes: Sequence[Axis], settings: SweepConfig, pending: Sequence[int]) -> None:
        optuna = _optuna()
        self._objectives = read_objectives(settings.objectives)
        if not self._objectives:
            raise ConfigError(
                "sweep.sampler=optuna needs something to optimise.",
                "Add \"sweep.objectives=['max decode_tokens_per_s_per_user', 'min kl_divergence']\".",
            )
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._study = optuna.create_study(
            directions=["maximize" if each.maximize else "minimize" for each in self._objectives],
            sampler=optuna.samplers.TPESampler(seed=settings.seed),
        )
        self._failed, self._complete = optuna.trial.TrialState.FAIL, optuna.trial.TrialState.COMPLETE
        self._create_trial = optuna.trial.create_trial
        # The swept axes by name; a point is chosen by its number.
        self._sizes = [len(axis.points) for axis in axes]
        self._space = {
            "/".join(axis.keys): optuna.distributions.CategoricalDistribution(tuple(range(len(axis.points))))
            for axis in axes
            if len(axis.points) > 1
        }
        self._names = ["/".join(axis.keys) for axis in axes]
        self._pending = set(pending)
        self._running: dict[int, Any] = {}
        self._values: dict[int, list[float] | None] = {}
        self.total = min(settings.trials, len(pending))

    def numbers(self) -> Iterator[int]:
        repeats = 0
        for _ in range(self.total):
            number = None
            while number is None and self._pending and repeats < _MOST_REPEATS:
                trial = self._study.ask(self._space)
                asked = self._number(trial.params)
                if asked in self._pending:
                    number = asked
                    self._running[number] = trial
                else:
                    repeats += 1
                    self._finish(trial, self._values.get(asked))
            if number is None and self._pending:  # Optuna repeats itself: take the next that it has not seen
                number = min(self._pending)
            if number is None:
                return
            self._pending.discard(number)
            repeats = 0
            yield number

    def tell(self, number: int, row: dict[str, Any]) -> None:
        values = [objective.of(row) for objective in self._objectives]
        known = None if row["status"] != "ok" or any(map(math.isnan, values)) else values
        self._values[number] = known
        trial = self._running.pop(number, None)
        if trial is not None:
            self._finish(trial, known)
        else:  # of an earlier run of the sweep
            self._study.add_trial(
                self._create_trial(
                    state=self._failed if known is None else self._complete,
                    params=self._params(number),
                    distributions=self._space,
                    values=known,
                )
            )

    def _finish(self, trial: Any, values: list[float] | None) -> None:
        if values is None:
            self._study.tell(trial, state=self._failed)
        else:
            self._study.tell(trial, values)

    def _number(self, params: dict[str, int]) -> int:
        """The job of a choice of points: combinations run through the last axis fastest."""
        number = 0
        for name, size in zip(self._names, self._sizes, strict=True):
            number = number * size + params.get(name, 0)
        return number

    def _params(self, number: int) -> dict[str, int]:
        params = {}
        for name, size in reversed(list(zip(self._names, self._sizes, strict=True))):
            number, point = divmod(number, size)
            if size > 1:
                params[name] = point
        return params


def open_sampler(axes: Sequence[Axis], settings: SweepConfig, pending: Sequence[int]) -> Sampler:
    """The sampler that `settings` ask for. Raises ConfigError where it cannot be."""
    return Grid(pending) if settings.sampler is SamplerName.grid else Optuna(axes, settings, pending)


def check_sampler(settings: SweepConfig) -> None:
    """What is wrong with the choice of sampler, said before jobs are planned."""
    objectives = read_objectives(settings.objectives)
    if settings.sampler is SamplerName.optuna:
        _optuna()
        if not objectives:
            Optuna([], settings, [])


def best_trials(rows: Sequence[dict[str, Any]], objectives: Sequence[Objective]) -> list[dict[str, Any]]:
    """The rows that no other row beats in one objective without losing in another."""
    scored = []
    for row in rows:
        values = [each.of(row) * (1 if each.maximize else -1) for each in objectives]
        if row["status"] == "ok" and not any(map(math.isnan, values)):
            scored.append((values, row))
    return [
        row
        for values, row in scored
        if not any(other != values and all(map(_at_least, other, values)) for other, _ in scored)
    ]


def _at_least(one: float, other: float) -> bool:
    return one >= other


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "sweep.sampler=optuna needs optuna, which is not installed.",
            "Install it with pip install 'tt-transformers-v2[optuna]'.",
        ) from None
    return optuna
