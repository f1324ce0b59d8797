# SPDX-License-Identifier: Apache-2.0
"""recorder.Recorder that runs ops; where L1 overflows it tries the next smaller plan and stays with what fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ....common.errors import ConfigError
from ....planning.plans import Plan, smaller_plans
from ..process.failures import own_words
from .recorder import OpRefused, overflows_l1


class Fitting:
    """`autofit`: whether smaller plans may be tried. `smaller` counts the plans that were replaced."""

    def __init__(self, autofit: bool) -> None:
        self.autofit = autofit
        self.fitted: dict[tuple[str, Plan], Plan] = {}

    @property
    def smaller(self) -> int:
        """How many plans a smaller one has replaced, counted once for each op."""
        return sum(first != found for (_, first), found in self.fitted.items())

    def run(self, name: str, call: Callable[[Any], Any], plan: Plan | None = None, *, fixed: bool = False) -> Any:
        """What `call` returns. Raises OpRefused."""
        if plan is None or fixed or not self.autofit:
            return self._named(name, call, plan)
        refusals: list[RuntimeError] = []
        # What fitted one layer may be too large for another, whose formats or Dst need more.
        for tried in smaller_plans(self.fitted.get((name, plan), plan)):
            try:
                value = self._named(name, call, tried)
            except RuntimeError as refusal:
                refusals.append(refusal)
                if _full_of_dram(str(refusal)) or not overflows_l1(str(refusal)):
                    break
            else:
                self.fitted[name, plan] = tried
                return value
        raise refusals[0]

    @staticmethod
    def _named(name: str, call: Callable[[Any], Any], plan: Plan | None) -> Any:
        try:
            return call(plan)
        except RuntimeError as refusal:
            raise OpRefused(name, own_words(str(refusal)), plan) from refusal


@contextmanager
def memory_named(device: str) -> Iterator[None]:
    """What ttnn says when DRAM or L1 of `device` is full, as a ConfigError with what to do; all else passes."""
    try:
        yield
    except RuntimeError as error:
        said = own_words(str(error))
        if _full_of_dram(said):
            raise ConfigError(
                f"the DRAM of {device} is full: {said}",
                "Use fewer users (workload.batch), a shorter workload.context, smaller formats, or more chips.",
            ) from error
        if overflows_l1(said):
            raise ConfigError(
                f"the L1 of {device}'s cores is full: {said}",
                "task=preflight shows how much L1 every op needs and which program configs fit.",
            ) from error
        raise


def _full_of_dram(said: str) -> bool:
    return "Out of Memory" in said and "DRAM" in said
