# SPDX-License-Identifier: Apache-2.0
"""The values of `range(START,STOP,STEP)`, in decimal as it was typed, STOP left out.

Hydra counts in binary and in ways that differ by version: 1.3.8 gives `range(1.0,1.3,0.1)` the value 1.3 as well, and
`range(-0.3,0.3,0.1)` the value 2.8e-17 in place of 0. A sweep has to be the same jobs under each.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from ..common.errors import ConfigError


def range_values(swept: Any, text: str, most: int) -> list[int | float]:
    """The values of a parsed range (hydra's RangeSweep), whole numbers where all three are; shuffled where it says so.

    `text` is what was typed. Raises ConfigError for a step of 0, for what is no number and for more values than `most`.
    """
    numbers = (0 if swept.start is None else swept.start, swept.stop, swept.step)
    if not all(isinstance(number, (int, float)) and math.isfinite(number) for number in numbers):
        raise ConfigError(f"{text!r}: a range is of numbers.", "Write KEY=range(START,STOP,STEP).")
    start, stop, step = (Decimal(str(number)) for number in numbers)
    if step == 0:
        raise ConfigError(f"{text!r} has a step of 0.", "Write KEY=range(START,STOP,STEP) with another step.")
    if (stop - start) / step > most:
        raise ConfigError(
            f"{text!r} has more values than the {most:,} jobs that a sweep may have.", "Sweep fewer values."
        )
    whole = all(isinstance(number, int) for number in numbers)
    values = [int(value) if whole else float(value) for value in _counted(start, stop, step)]
    if swept.shuffle:
        random.shuffle(values)
    return values


def _counted(start: Decimal, stop: Decimal, step: Decimal) -> Iterator[Decimal]:
    for place in range(max(0, math.ceil((stop - start) / step))):
        yield start + place * step
