# SPDX-License-Identifier: Apache-2.0
"""What is wrong with settings of experts: a model without experts has no op that would see them."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from ..hardware.op_table import EXPERT_GROUPS
from ..models.spec import ModelSpec
from .findings import Finding, Severity, declare, found
from .layers import LayerEntry

ABSENT = "experts-absent"
declare(ABSENT, Severity.error, "a typed setting of experts or a router, and a model that has none")


def expert_findings(spec: ModelSpec, typed: Iterable[str], layers: Iterable[LayerEntry]) -> list[Finding]:
    """Of the dotted paths `typed` and of the entries of `layers` that were typed, those that no op of `spec` sees."""
    if spec.has_experts:
        return []
    by_layer = chain.from_iterable(entry.values() for entry in layers if not entry.origin)
    unseen = sorted({path for path in chain(typed, by_layer) if _is_of_experts(path)})
    if not unseen:
        return []
    names = " and ".join(unseen)
    return [found(ABSENT, f"{spec.name} has no experts.", f"No op would see {names}.", f"Compose it, without {names}.")]


def _is_of_experts(path: str) -> bool:
    section, _, rest = path.partition(".")
    return section in ("precision", "compute") and rest.partition(".")[0] in EXPERT_GROUPS
