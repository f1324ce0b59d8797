# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser, in a few seconds; test_report_browser.py drives all of it."""

import made_sweeps
import pytest

from tt_transformers_v2.report import write_report

pytestmark = pytest.mark.browser


def test_the_report_opens_offline_without_a_complaint_and_answers(show, tmp_path):
    page = show(write_report(made_sweeps.write(tmp_path, made_sweeps.grid())))
    assert page.locator("#plot .marker").count() == 27
    assert page.locator("#jobs tbody tr").count() == 27
    page.locator("#plot .marker.on-front").last.hover()
    assert "on the front" in page.locator("#tooltip").text_content()
    page.click('#jobs [data-column="kl_divergence"]')
    assert page.locator("#jobs tbody tr").first.get_attribute("data-job") == "8"
