# SPDX-License-Identifier: Apache-2.0
"""Findings in general; where each begins is in test_check_limits.py, what each advises in test_finding_fixes.py."""

import pytest
from finding_cases import findings

from places import ROOT
from tt_transformers_v2.config.findings import Severity, declare, declared, found


def test_every_declared_finding_is_on_its_page():
    page = (ROOT / "docs/findings.md").read_text(encoding="utf-8")
    assert all(f"| `{kind.id}` | {kind.severity} | " in page for kind in declared())


def test_an_id_stands_for_one_thing():
    declare("throttle-level", Severity.error, "a throttle level outside ttnn's 0 to 5")
    with pytest.raises(ValueError, match="throttle-level is declared twice"):
        declare("throttle-level", Severity.warning, "something else")
    with pytest.raises(KeyError):
        found("no-such-id", "", "", "")


def test_the_default_configuration_has_nothing_to_complain_about():
    assert findings([]) == []
