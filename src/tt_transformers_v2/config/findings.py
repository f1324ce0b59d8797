# SPDX-License-Identifier: Apache-2.0
"""Findings: what a reader should know about a configuration, by stable ids. docs/findings.md lists those declared."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass

from ..hardware.enums import Named


class Severity(Named):
    """What a finding does: an error stops a run, a warning is printed and stored, a hint is stored only."""

    error = "error"
    warning = "warning"
    hint = "hint"


class TtnnUse(Named):
    """What a configuration is about to be used for with the real ttnn: to run on a card, or to be checked without."""

    run = "run"
    preflight = "preflight"


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
    """What all findings of an id have in common; `when` is their condition in words, for the page.

    `stops`: the uses of ttnn for which they are errors, whatever `severity` says elsewhere. `settings`: what they
    judge, as beginnings of dotted paths; a warning about values that nobody chose there is a hint: they are published.
    """

    id: str
    severity: Severity
    when: str
    stops: tuple[TtnnUse, ...] = ()
    settings: tuple[str, ...] = ()


_kinds: dict[str, Kind] = {}


def declare(
    id: str, severity: Severity, when: str, stops: Iterable[TtnnUse] = (), settings: Iterable[str] = ()
) -> None:
    """Makes an id known. Raises ValueError when it stands for something else already."""
    kind = Kind(id, severity, when, tuple(stops), tuple(settings))
    if _kinds.setdefault(id, kind) != kind:
        raise ValueError(f"the finding {id} is declared twice")


def declared() -> list[Kind]:
    """Every kind that the modules loaded so far declare, in their order."""
    return list(_kinds.values())


def found(id: str, what: str, why: str, fix: str) -> Finding:
    """A finding of a declared id. Raises KeyError for another."""
    return Finding(id, _kinds[id].severity, what, why, fix)


def for_choice(finding: Finding, typed: Iterable[str]) -> Finding:
    """The finding as it counts where the user has set the paths `typed`: a hint where it judges none of them."""
    settings = _kinds[finding.id].settings
    if not settings or finding.severity is not Severity.warning or any(path.startswith(settings) for path in typed):
        return finding
    return dataclasses.replace(finding, severity=Severity.hint)


def for_use(finding: Finding, use: TtnnUse | None) -> Finding:
    """The finding as it counts for a use of ttnn: an error where its kind stops that use."""
    if use is None or use not in _kinds[finding.id].stops:
        return finding
    return dataclasses.replace(finding, severity=Severity.error)
