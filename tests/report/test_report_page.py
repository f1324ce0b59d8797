# SPDX-License-Identifier: Apache-2.0
"""The page as a file: whole, closed to injection, small, quick, and made without heavy imports."""

import json
import os
import re
import subprocess
import sys
import time

import made_sweeps
import pytest

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.report import write_report
from tt_transformers_v2.report.page import embedded_json

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)> {{script}} <!-- & \u2028 \ud800"


def data_of(page):
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_the_page_holds_all_it_needs_and_names_no_other_place(tmp_path):
    page = write_report(made_sweeps.write(tmp_path, made_sweeps.grid())).read_text(encoding="utf-8")
    assert len(data_of(page)["jobs"]) == 27
    assert re.findall(r"(?:src|href)\s*=\s*[\"'][^\"']", page.split("<body>")[0]) == []
    assert re.findall(r"https?://(?!www\.w3\.org/2000/svg)", page) == []
    assert "default-src 'none'" in page
    assert "{{" not in page.split('id="data"')[0]


def test_text_from_a_result_cannot_leave_its_script_element(tmp_path):
    failed = made_sweeps.result([f"device={HOSTILE}"], status="failed", error=HOSTILE)
    page = write_report(made_sweeps.write(tmp_path / "a & <b>", [failed])).read_text(encoding="utf-8")
    assert page.count("<script") == 2
    assert page.count("</script>") == 2
    assert data_of(page)["jobs"][0]["reason"] == HOSTILE
    assert "<" not in embedded_json({"x": HOSTILE})


def test_a_report_that_cannot_be_written_is_a_clear_error(tmp_path):
    folder = made_sweeps.write(tmp_path, made_sweeps.grid()[:1])
    (folder / "report.html").mkdir()
    with pytest.raises(ConfigError, match=r"cannot write .*report\.html"):
        write_report(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "report.html"]


def test_500_jobs_take_about_half_a_second(tmp_path):
    folder = made_sweeps.write(tmp_path, made_sweeps.grid(seeds=19))
    spent = []
    for _ in range(3):  # the quickest one: beside other work half a second of computing was 1.3
        started = time.process_time()
        path = write_report(folder)
        spent.append(time.process_time() - started)
    assert min(spent) < 2
    assert path.stat().st_size < 700_000


def test_writing_a_report_loads_nothing_heavy(tmp_path):
    folder = made_sweeps.write(tmp_path, made_sweeps.grid()[:3])
    code = (
        "import sys; from pathlib import Path; from tt_transformers_v2.report import write_report; "
        "write_report(Path(sys.argv[1])); "
        "print([m for m in ('torch', 'ttnn', 'numpy', 'pandas', 'hydra', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, env=os.environ)
    assert done.stdout.strip() == "[]", done.stderr
