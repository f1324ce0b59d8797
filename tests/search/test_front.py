# SPDX-License-Identifier: Apache-2.0
import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.search.front import Effect, assignment_after, spread, walk
from tt_transformers_v2.search.space import Option, Place, read_option

OPTIONS = [read_option(text, "") for text in ("BF16", "BFP8", "BFP4")]
BASE = Option("base")
numbers = st.integers(0, 50)
effects = st.dictionaries(
    st.integers(0, 3).map(lambda layer: Place(layer, "ff2")),
    st.lists(st.tuples(numbers, numbers), min_size=1, max_size=3).map(
        lambda found: [Effect(OPTIONS[i], saves, kl) for i, (saves, kl) in enumerate(found)]
    ),
    min_size=1,
)


def every_assignment(effects):
    """(us saved, KL added) of every combination, by brute force."""
    choices = [[(0, 0), *((e.saves_us, e.kl) for e in found)] for found in effects.values()]
    for combination in itertools.product(*choices):
        yield sum(saves for saves, _ in combination), sum(kl for _, kl in combination)


@given(effects)
@settings(max_examples=200, deadline=None)
def test_no_assignment_is_at_least_as_fast_with_less_kl_than_a_step_of_the_walk(effects):
    every = list(every_assignment(effects))
    steps = walk(effects)
    for saves, kl in [(0, 0), *((step.saves_us, step.kl) for step in steps)]:
        assert not any(theirs >= saves and other < kl for theirs, other in every)
    if steps:
        assert steps[-1].saves_us == max(saves for saves, _ in every)


@given(effects)
@settings(max_examples=100, deadline=None)
def test_totals_of_a_walk_are_those_of_its_assignment(effects):
    steps = walk(effects)
    by_choice = {(place, e.option): e for place, found in effects.items() for e in found}
    base = dict.fromkeys(effects, BASE)
    for count in range(len(steps) + 1):
        chosen = [by_choice[item] for item in assignment_after(base, steps, count).items() if item[1] != BASE]
        total = steps[count - 1] if count else None
        assert sum(e.saves_us for e in chosen) == (total.saves_us if total else 0)
        assert sum(e.kl for e in chosen) == (total.kl if total else 0)


@given(effects, st.integers(2, 12))
@settings(max_examples=100, deadline=None)
def test_points_are_spread_from_end_to_end(effects, points):
    steps = walk(effects)
    chosen = spread(steps, points)
    assert chosen == sorted(set(chosen))
    assert (chosen[0], chosen[-1]) == (0, len(steps))
    assert len(chosen) == min(points, len(steps) + 1) or len(chosen) == min(len(steps) + 1, max(points, 2))
