# SPDX-License-Identifier: Apache-2.0
"""The section of a report that shows calibrated weights."""

import json

from tt_transformers_v2.report import write_report
from tt_transformers_v2.run.runner import blank_result

FIGURES = {"kl_divergence": 0.25, "top1": 0.75}
SECTION = {
    "basis": "second-order rounding <of> weights",
    "text": "a text",
    "tokens": 4096,
    "warnings": ["w2 has 96 inputs & few tokens"],
    "verified": [
        {
            "how": "other texts",
            "text": "b.txt",
            "tokens": 512,
            "numerics": "exact",
            "nearest": FIGURES,
            "calibrated": FIGURES | {"kl_divergence": 0.1},
        }
    ],
    "layers": [{"layer": 3, "matrices": 5, "nearest": 0.12, "calibrated": 0.06}],
}


def page_of(folder, **sections):
    result = blank_result([]) | {"status": "ok", "config": {}, "config_hash": "0" * 12, "seconds": 1.0} | sections
    (folder / "result.json").write_text(json.dumps(result))
    return write_report(folder).read_text()


def test_quality_and_errors_of_layers_are_shown_before_and_after(tmp_path):
    page = page_of(tmp_path, quantize=SECTION)
    assert "<h2>Calibrated weights</h2>" in page
    assert "second-order rounding &lt;of&gt; weights" in page
    assert "w2 has 96 inputs &amp; few tokens" in page
    assert "<td>other texts (b.txt)</td><td>512</td><td>exact</td><td>0.2500</td><td>0.1000</td>" in page
    assert "<td>3</td><td>5</td><td>12.00%</td><td>6.00%</td><td>0.50</td>" in page


def test_other_jobs_have_no_such_section(tmp_path):
    assert "Calibrated weights" not in page_of(tmp_path)
