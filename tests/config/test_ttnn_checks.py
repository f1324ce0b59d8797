# SPDX-License-Identifier: Apache-2.0
"""What is said of what the real ttnn cannot run, word for word."""

from __future__ import annotations

import pytest
from finding_cases import findings, said


@pytest.mark.parametrize("case", said("ttnn_checks"), ids=lambda case: " ".join(case["typed"]))
def test_a_finding_says_what_is_wrong_why_and_what_to_type(case):
    found = [str(finding) for finding in findings(case["typed"]) if finding.id == case["id"]]
    assert found[:1] == [case["says"]]
    assert len(found) == len(set(found))
