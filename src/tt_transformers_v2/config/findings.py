# SPDX-License-Identifier: Apache-2.0
"""Findings: what a reader should know about a configuration, by stable ids. docs/findings.md lists those declared."""

from __future__ import annotations

from dataclasses import dataclass

from ..hardware.enums import Named


class Severity(Named):
    """What a finding does: an error stops a run, a warning is printed and stored, a hint is stored only."""

    error = "error"
    warning = "warning"
    hint = "hint"


@dataclass(frozen=True)
class Finding:
    """One thing a reader should know. `id` is stable; errors stop a run."""

    id: str
    severity: Severity
    what: str
    why: str
    fix: str

    def __str__(self) -> str:
        return f"{self.what} {self.why} {self.fix}"


@dataclass(frozen=True)
class Kind:
    """What all findings of an id have in common; `when` is their condition in words, for the page."""

    id: str
    severity: Severity
    when: str


_kinds: dict[str, Kind] = {}


def declare(id: str, severity: Severity, when: str) -> None:
    """Makes an id known. Raises ValueError when it stands for something else already."""
    kind = Kind(id, severity, when)
    if _kinds.setdefault(id, kind) != kind:
        raise ValueError(f"the finding {id} is declared twice")


def declared() -> list[Kind]:
    """Every kind that the modules loaded so far declare, in their order."""
    return list(_kinds.values())


def found(id: str, what: str, why: str, fix: str) -> Finding:
    """A finding of a declared id. Raises KeyError for another."""
    return Finding(id, _kinds[id].severity, what, why, fix)
