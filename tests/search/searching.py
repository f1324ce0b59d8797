# SPDX-License-Identifier: Apache-2.0
"""Searches of a tiny model."""

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve_or_refuse
from tt_transformers_v2.run.runner import run

SMALL = ("search.tokens=64", "search.verify_tokens=64", "search.window=32", "search.points=5")
# The tiny model's matrices are read in no time; attention's cost does not show in a decode step of its own.
QUICK = (*SMALL, "search.verify_numerics=fast")


def resolved(model, *overrides):
    given = {text.partition("=")[0] for text in overrides}
    small = [text for text in QUICK if text.partition("=")[0] not in given]
    task = [] if "task" in given else ["task=search"]
    checked = check_overrides([*task, "model=hf", f"model.path={model}", *small, *overrides])
    return resolve_or_refuse(compose(checked.texts), checked.typed)


def search(model, folder, *overrides):
    return run(resolved(model, *overrides), folder, show_progress=False)["search"]
