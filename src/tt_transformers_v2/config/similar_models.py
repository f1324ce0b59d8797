# SPDX-License-Identifier: Apache-2.0
"""Which models a user may have meant by a name that no model has."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping

from .refused_models import refused_names

_NEAR = 0.6  # of difflib's ratio: a name that shares fewer letters is another model's
_MOST = 3
_OTHERS = "Any other: model=hf model.path=DIR."


def suggestion(name: str, known: Mapping[str, str]) -> str:
    """The models most like `name` of `known` (option, name, hf_id or alias -> option), refused ones as such, and how
    to load any other."""
    near = nearest(name, known, refused_names())
    if not near:
        return f"--help lists the models. {_OTHERS}"
    offered = [each for each in near if each in known.values()]
    parts = []
    if offered:
        parts.append(f"Did you mean model={' or '.join(offered)}?")
    if known_ones := [each for each in near if each not in offered]:
        verb = "are" if len(known_ones) > 1 else "is"
        parts.append(f"{' and '.join(known_ones)} {verb} known but not supported.")
    return " ".join([*parts, _OTHERS])


def nearest(name: str, known: Mapping[str, str], refused: Iterable[str]) -> list[str]:
    """At most three of the options in `known` (other name -> option) and of the `refused`, the most similar first.

    Case, separators and what stands before the slash of an hf_id do not count.
    """
    wanted = _letters(name)
    scores: dict[str, float] = {}
    for other, meant in [*known.items(), *((each, each) for each in refused)]:
        score = difflib.SequenceMatcher(None, wanted, _letters(other)).ratio()
        scores[meant] = max(score, scores.get(meant, 0.0))
    best = sorted(scores, key=lambda each: -scores[each])[:_MOST]
    # What is much less alike than the best one is noise.
    return [each for each in best if scores[each] >= max(_NEAR, scores[best[0]] - 0.1)]


def _letters(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[-._](instruct|it)\b.*$", "", name.casefold().rpartition("/")[2]))
