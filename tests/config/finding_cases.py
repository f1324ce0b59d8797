# SPDX-License-Identifier: Apache-2.0
"""What the tests of findings share: the findings of a command line, and what their fixes say to type."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import yaml

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.findings import Finding, Severity
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve

SAID = Path(__file__).parent / "said_of_programs.yaml"
# KEY=VALUE as a fix prints it, or an entry for `layers`; the full stop of the sentence is no part of the value.
_ASSIGNMENT = re.compile(r"(?<![\w.])[a-z_]+(?:\.\w+)*=\w+(?:\.\w+)*|(?<=Add )\{.*\}(?= to layers)")


def findings(overrides: Sequence[str]) -> list[Finding]:
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed).findings


def said(module: str) -> list[dict[str, Any]]:
    """Overrides (`typed`), the `id` of a finding that a module of config makes of them, and what it `says`."""
    cases: list[dict[str, Any]] = yaml.safe_load(SAID.read_text(encoding="utf-8"))[module]
    return cases


def of_kind(kind: str, found: Iterable[Finding]) -> list[Finding]:
    return [finding for finding in found if finding.id == kind]


def errors(found: Iterable[Finding]) -> set[str]:
    return {finding.id for finding in found if finding.severity is Severity.error}


def ways(fixes: Iterable[str]) -> list[list[str]]:
    """What several findings of a kind print to type, one list for each way out; a key alone is to be left out.

    Sentences, and what `or` joins, are ways of their own; those in words alone are left out.
    """
    printed = [[found for part in re.split(r"\. | or ", fix) if (found := _typed(part))] for fix in fixes]
    number = max(map(len, printed))
    assert all(len(each) in (1, number) for each in printed), printed
    return [list(dict.fromkeys(text for each in printed for text in each[way % len(each)])) for way in range(number)]


def _typed(words: str) -> list[str]:
    left_out = re.search(r", without (.*?)\.?$", words)
    return _ASSIGNMENT.findall(words) + (left_out[1].split(" and ") if left_out else [])


def typed_instead(overrides: Sequence[str], way: Iterable[str]) -> list[str]:
    """The overrides with what a way out says: assigned anew or added, added to `layers`, or left out."""
    old = {text.partition("=")[0]: text for text in overrides}
    for text in way:
        key, equals, _ = text.partition("=")
        if text.startswith("{"):
            typed = old.get("layers", "layers=[]")[:-1]
            old["layers"] = f"{typed}{'' if typed.endswith('[') else ', '}{text}]"
        elif equals:
            old[key] = text
        else:
            del old[key]
    return list(old.values())
