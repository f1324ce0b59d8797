# SPDX-License-Identifier: Apache-2.0
"""Whether the tests of the configuration's checks notice when a check changes: mutants that they must kill.

A quarter of an hour on two cores. Of planning.split.head_split, which the checks rest on too, cosmic-ray makes none.
"""

from __future__ import annotations

import queue
from concurrent.futures import ThreadPoolExecutor

import pytest
import yaml
from mutation import Mutant, Mutated, copy_of_the_checkout, tried

from places import TESTS

pytestmark = pytest.mark.slow

# The longest first: two are tried at a time.
MUTATED = [
    Mutated("config/checks.py", ("tests/config/test_check_limits.py", "tests/config/test_checks.py")),
    Mutated("config/memory_adjustments.py", ("tests/config/test_memory_adjustments.py",)),
    Mutated("config/model_rules.py", ("tests/config/test_model_rules.py",)),
    Mutated("config/adjustments.py", ("tests/config/test_adjustments.py",)),
    Mutated("perf/footprint.py", ("tests/perf/test_kv_cache.py",), "kv_cache_bytes"),
]
# At least this share is killed; every other mutant stands in the list with the reason why it may live.
KILLED = 0.9
SURVIVORS = TESTS / "config/surviving_mutants.yaml"


def listed():
    """Each survivor that is expected. Raises where one has no reason."""
    return {
        Mutant(entry["module"], entry["line"], becomes): entry["why"]
        for entry in yaml.safe_load(SURVIVORS.read_text(encoding="utf-8"))
        for becomes in entry["becomes"]
    }


def test_mutants_are_killed_or_known_to_change_nothing(tmp_path):
    pytest.importorskip("cosmic_ray", reason='needs cosmic-ray: pip install -e ".[dev]"')
    copies = queue.SimpleQueue()
    for number in range(2):
        copies.put(copy_of_the_checkout(tmp_path / str(number)))

    def in_a_copy(mutated):
        copy = copies.get()
        try:
            return tried(copy, mutated)
        finally:
            copies.put(copy)

    with ThreadPoolExecutor(2) as pool:
        outcomes = [outcome for part in pool.map(in_a_copy, MUTATED) for outcome in part]
    survivors, known = {mutant for mutant, killed in outcomes if not killed}, set(listed())
    share = sum(killed for _, killed in outcomes) / len(outcomes)
    print(f"{len(outcomes)} mutants, {share:.1%} killed, {len(survivors)} survivors")
    assert share >= KILLED
    wrong = [f"not killed, and not known: {mutant}" for mutant in sorted(survivors - known)]
    wrong += [f"listed, but killed or no longer made: {mutant}" for mutant in sorted(known - survivors)]
    assert not wrong, "\n".join(wrong)
