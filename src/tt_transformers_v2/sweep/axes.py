# SPDX-License-Identifier: Apache-2.0
"""What a sweep runs over: overrides in Hydra's grammar, each with its values, and keys that go together."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..common.errors import ConfigError
from ..config.building import raise_all
from ..config.exact_ranges import range_values
from ..config.groups import groups
from ..config.override_grammar import encoded, plain_value, quoted
from ..config.overrides import Override, Overrides, check_overrides, check_value

MOST_JOBS = 1_000_000


@dataclass(frozen=True)
class Axis:
    """One or several keys, and the points they take: for each point one checked override per key."""

    keys: tuple[str, ...]
    points: tuple[tuple[Override, ...], ...]


def axes_of(typed: Sequence[Override], named: Sequence[str], pairs: Sequence[Mapping[str, Any]]) -> list[Axis]:
    """The axes of a sweep, in the order in which the jobs run through them, the last fastest.

    Args:
        typed: checked overrides of the command line; one with a single value is an axis of one point.
        named: overrides of a file in conf/experiment; a typed one for the same key replaces it.
        pairs: mappings of the same keys to values that go together.

    Raises:
        ConfigError: a bad or empty axis, pairs that do not match, a key in two places.
    """
    problems: list[ConfigError] = []
    own = _axes(typed, problems)
    keys = {key for axis in own for key in axis.keys}
    files = [axis for axis in _axes(_read(named, problems), problems) if keys.isdisjoint(axis.keys)]
    together = []
    try:
        together = _paired(pairs)
        for key in (key for axis in together for key in axis.keys):
            if any(key in axis.keys for axis in (*files, *own)):
                raise ConfigError(f"{key} is in sweep.pairs and also set elsewhere.", "Set it in one place.")
    except ConfigError as problem:
        problems.append(problem)
    raise_all(problems)
    found = [*files, *together, *own]
    total = math.prod(len(axis.points) for axis in found)
    if total > MOST_JOBS:
        raise ConfigError(f"that is {total:,} jobs; a sweep may have at most {MOST_JOBS:,}.", "Sweep fewer values.")
    return found


def combinations(axes: Sequence[Axis]) -> Iterator[Overrides]:
    """The overrides of every job, in order."""
    for points in itertools.product(*(axis.points for axis in axes)):
        yield Overrides(tuple(override for point in points for override in point))


def _read(texts: Sequence[str], problems: list[ConfigError]) -> list[Override]:
    """The overrides that a file names, each checked."""
    found: list[Override] = []
    for text in texts:
        try:
            found += check_overrides([text], multirun=True).items
        except ConfigError as problem:
            problems.append(problem)
    return found


def _axes(overrides: Sequence[Override], problems: list[ConfigError]) -> list[Axis]:
    found = []
    for override in overrides:
        try:
            found.append(_axis(override))
        except ConfigError as problem:
            problems.append(problem)
    return found


def _axis(override: Override) -> Axis:
    """One axis; an override of one value is an axis of one point."""
    if override.sweep is None:
        return Axis((override.key,), ((override,),))
    points = override.points or check_all(override.key, _values(override))
    return Axis((override.key,), tuple((point,) for point in points))


def check_all(key: str, values: Iterable[Any]) -> list[Override]:
    """An override of `key` for each value of Hydra's; raises one ConfigError for all that is wrong."""
    problems: list[ConfigError] = []
    checked = []
    for value in values:
        try:
            checked.append(check_value(key, plain_value(value), f"{key}={encoded(value)}"))
        except ConfigError as problem:
            problems.append(problem)
    raise_all(problems)
    return checked


def _values(axis: Override) -> list[Any]:
    """The values of a sweep override, as Hydra's grammar gives them."""
    from hydra.core.override_parser.types import Glob

    text, key, override = axis.text, axis.key, axis.sweep
    if override.is_interval_sweep():
        raise ConfigError(f"{text!r}: an interval cannot be enumerated.", f"Write {key}=range(0,10,2) or {key}=A,B.")
    if isinstance(override.value(), Glob):
        return _matching(override.value(), key, text)
    found = range_values(override.value(), text, MOST_JOBS) if override.is_range_sweep() else []
    if not found:
        raise ConfigError(f"{text!r} is empty.", f"Write {key}=A,B or {key}=range(START,STOP).")
    return found


def _matching(pattern: Any, key: str, text: str) -> list[str]:
    if key not in groups():
        raise ConfigError(f"{text!r}: glob chooses among files, and {key} is a value.", f"Write {key}=A,B.")
    found = [str(name) for name in pattern.filter(list(groups()[key]))]
    if not found:
        raise ConfigError(f"{text!r} matches no {key}.", f"choices: {', '.join(groups()[key])}")
    return found


def _paired(pairs: Sequence[Mapping[str, Any]]) -> list[Axis]:
    """The one axis that `pairs` describes, or none."""
    if not pairs:
        return []
    keys = tuple(str(key) for key in pairs[0])
    if not keys:
        raise ConfigError("sweep.pairs has an entry without keys.", "Write sweep.pairs=[{KEY: A, KEY2: B}, …].")
    points = []
    for number, pair in enumerate(pairs):
        if set(map(str, pair)) != set(keys):
            raise ConfigError(
                f"sweep.pairs[{number}] sets {', '.join(map(str, pair)) or 'nothing'}, but the first entry sets "
                f"{', '.join(keys)}.",
                "Every entry must set the same keys.",
            )
        points.append(tuple(check_all(key, [quoted(pair[key])])[0] for key in keys))
    return [Axis(keys, tuple(points))]
