# SPDX-License-Identifier: Apache-2.0
"""The report in a real browser without a network: everything a reader can do, and no error on the console.

The fixtures, and what they need, are in conftest.py.
"""

import csv
import json
import random
import re
from pathlib import Path

import made_sweeps
import pytest

from tt_transformers_v2.report import write_report
from tt_transformers_v2.report.filters import parse_condition
from tt_transformers_v2.report.loading import read_sweep, read_sweeps
from tt_transformers_v2.report.page import write_page
from tt_transformers_v2.report.pareto import pareto_front

expect = pytest.importorskip("playwright.sync_api", reason='needs playwright: pip install -e ".[browser]"').expect

pytestmark = [pytest.mark.slow, pytest.mark.browser]

HOSTILE = '<img src=x onerror="document.title=1"> </script><script>document.title=1</script>'
SPEED = "decode_tokens_per_s_per_user"


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """27 jobs, of which one failed and one is broken, and one that was skipped."""
    results = made_sweeps.grid()
    results[3] = made_sweeps.result([*results[3]["overrides"]], status="failed", error=HOSTILE)
    folder = made_sweeps.write(tmp_path_factory.mktemp("report") / "sweep", results)
    (folder / "5" / "result.json").write_text("{")
    skipped = {"job": "27", "overrides": ["device=tg"], "status": "skipped", "reason": "tg has no ring"}
    (folder / "jobs.jsonl").write_text(json.dumps(skipped))
    return folder


@pytest.fixture(scope="module")
def report(sweep):
    return write_report(sweep)


def column(page, name):
    """The texts of one column of the table, top to bottom."""
    index = page.locator("#jobs thead button").evaluate_all(
        "(heads, name) => heads.findIndex((h) => h.dataset.column === name)", name
    )
    rows = page.locator("#jobs tbody tr[data-job]").all()
    return [row.locator("td").nth(index).text_content() for row in rows if row.locator("td").count() > index]


def jobs_shown(page):
    return [re.sub(r"\D", "", text) for text in column(page, "job")]


def head(page, name):
    return page.locator(f'#jobs [data-column="{name}"]')


def test_the_page_says_what_it_is_made_of(show, report):
    page = show(report)
    assert page.title() == "sweep: report"
    for text in ("git 0123456789", "tt-transformers-v2 0.1.0"):
        assert text in page.locator("#subtitle").text_content()
    bases = page.locator("#bases").text_content()
    assert "predicted (roofline" in bases
    assert page.locator("#bases .badge").all_text_contents() == ["emulated", "predicted"]
    assert "predicted" in page.locator("#plot .axis-title").first.text_content()
    assert "sweep/5/result.json" in page.locator("#warnings").text_content()
    assert page.locator(".tile .value").first.text_content() == "25 of 28"


def test_columns_sort_both_ways_with_what_is_missing_last(show, report):
    page = show(report)
    assert jobs_shown(page) == [str(number) for number in range(28)]
    head(page, SPEED).click()
    assert page.locator("th[aria-sort=descending]").text_content().startswith("decode speed")
    speeds = [float(text) for text in column(page, SPEED)[:25]]
    assert speeds == sorted(speeds, reverse=True)
    assert set(jobs_shown(page)[25:]) == {"3", "5", "27"}
    head(page, SPEED).click()
    speeds = [float(text) for text in column(page, SPEED)[:25]]
    assert speeds == sorted(speeds)
    assert set(jobs_shown(page)[25:]) == {"3", "5", "27"}
    head(page, "kl_divergence").click()
    assert page.locator("th[aria-sort=ascending]").text_content().startswith("KL divergence")


def test_filters_narrow_table_and_plot_together(show, report):
    page = show(report)
    assert page.locator("#plot .marker").count() == 25
    page.fill("#words", "device=t3k kl_divergence<0.05")
    expect(page.locator("#plot .marker")).to_have_count(6)
    assert page.locator("#shown").text_content().startswith("6 of 28 jobs shown")
    assert set(column(page, "knob:device")) == {"t3k"}
    page.click("#reset")
    assert page.locator("#shown").text_content().startswith("28 of 28")
    page.click('[data-filter="precision.mlp_weights"] summary')
    page.uncheck('[data-filter="precision.mlp_weights"] [data-value="BFP4"]')
    assert "BFP4" not in column(page, "knob:precision.mlp_weights")
    assert page.locator('[data-filter="precision.mlp_weights"].active').count() == 1
    page.keyboard.press("Escape")
    page.click('[data-filter="status"] summary')
    for status in ("failed", "broken", "skipped"):
        page.uncheck(f'[data-filter="status"] [data-value="{status}"]')
    assert set(column(page, "status")) == {"✓ ok"}
    page.fill("#words", "no such words")
    expect(page.locator("#jobs tbody tr")).to_have_count(0)
    assert "No finished job" in page.locator("#plot").text_content()


def test_jobs_that_did_not_finish_say_why(show, report):
    page = show(report)
    failed = page.locator('tr[data-job="3"]')
    assert HOSTILE in failed.text_content()
    assert "5/result.json: not a result" in page.locator('tr[data-job="5"]').text_content()
    assert "tg has no ring" in page.locator('tr[data-job="27"]').text_content()
    failed.locator(".opener").click()
    assert HOSTILE in page.locator("tr.details").text_content()
    assert page.title() == "sweep: report"
    assert page.locator("img").count() == 0


def test_axes_can_be_chosen_and_the_front_follows(show, report, sweep):
    page = show(report)
    jobs = [job for job in read_sweep(sweep).jobs if job.finished]

    def expected(x, y, ways):
        points = [(x(job.result), y(job.result)) for job in jobs]
        return {jobs[index].name for index in pareto_front(points, ways)}

    def marked():
        plotted = page.locator("#plot .marker.on-front").evaluate_all("(all) => all.map((m) => m.dataset.job)")
        starred = page.locator("#jobs tr.on-front").evaluate_all("(all) => all.map((r) => r.dataset.job)")
        assert set(plotted) == set(starred)
        return set(plotted)

    speed, loss = (lambda r: r["performance"][SPEED]), (lambda r: r["accuracy"]["kl_divergence"])
    assert marked() == expected(speed, loss, ("high", "low"))
    assert page.locator("#plot path.front").count() == 1
    page.select_option("#axis-x", "top1")
    page.select_option("#axis-y", "ttft_ms")
    assert "time to first token" in page.locator("#plot .axis-title").last.text_content()
    top1, wait = (lambda r: r["accuracy"]["top1"]), (lambda r: r["performance"]["ttft_ms"])
    assert marked() == expected(top1, wait, ("high", "low"))
    ticks = page.locator("#plot .tick").all_text_contents()
    page.set_checked("#log-y", not page.is_checked("#log-y"))
    assert page.locator("#plot .tick").all_text_contents() != ticks
    page.select_option("#color-by", "compute.mlp.math_fidelity")
    assert "HiFi4" in page.locator("#legend").text_content()
    assert page.locator("#plot path.bands").count() == 0
    page.check("#bands")
    assert page.locator("#plot path.bands").count() == 1
    page.select_option("#axis-y", "top1")
    assert page.locator("#plot .on-front").count() == 0


def test_front_filters_and_bounds_agree_with_python_on_random_data(show, report, sweep):
    page = show(report)
    chance = random.Random(11)
    for _ in range(60):
        values = [None, *range(chance.randint(1, 12))]
        points = [[chance.choice(values), chance.choice(values)] for _ in range(chance.randint(0, 40))]
        ways = [chance.choice(["high", "low"]) for _ in range(2)]
        assert page.evaluate("([points, ways]) => paretoFront(points, ways)", [points, ways]) == pareto_front(
            points, ways
        )
    jobs = read_sweep(sweep).jobs
    for text in (
        "kl_divergence<0.05",
        "top1>=0.9",
        "device=t3k",
        "precision.mlp_weights!=BFP4",
        "bound=DRAM",
        "status=ok",
    ):
        own = [index for index, job in enumerate(jobs) if parse_condition(text, jobs)(job)]
        assert page.evaluate("(text) => report.jobs.filter(wordTest(text)).map((job) => job.index)", text) == own, text


def test_the_tooltip_comes_with_the_pointer_and_with_the_keyboard(show, report):
    page = show(report)
    tip = page.locator("#tooltip")
    assert tip.is_hidden()
    page.locator('#plot .marker[data-job="19"]').hover()
    assert tip.is_visible()
    text = tip.text_content()
    for part in ("job 19, on the front", "device t3k", "decode speed", "±12 %", "predicted", "emulated"):
        assert part in text
    assert "null" not in text
    assert page.locator("tr.pointed").get_attribute("data-job") == "19"
    page.mouse.move(5, 5)
    assert tip.is_hidden()
    page.locator("#plot svg").focus()
    seen = []
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        seen.append(tip.locator("strong").text_content())
    assert len(set(seen)) == 3
    page.keyboard.press("ArrowLeft")
    assert tip.locator("strong").text_content() == seen[1]
    page.keyboard.press("Enter")
    assert page.locator("tr.details").count() == 1
    page.locator('tr[data-job="8"]').hover()
    assert page.locator("#ring").get_attribute("visibility") == "visible"


def test_the_tooltip_stays_on_the_page(show, report):
    page = show(report)
    for index in range(25):
        page.evaluate("(index) => showPoint(index)", index)
        box, card = page.locator("#tooltip").bounding_box(), page.locator("#charts section").first.bounding_box()
        assert box["x"] >= card["x"]
        assert box["x"] + box["width"] <= card["x"] + card["width"] + 1


def test_a_row_opens_what_differs_and_against_a_pinned_job(show, report):
    page = show(report)
    page.locator('tr[data-job="0"] td').nth(2).click()
    details = page.locator("tr.details")
    assert "device=n150 precision.mlp_weights=BFP4" in details.locator(".overrides").text_content()
    rows = [row.split("\t") for row in details.locator(".differences tbody").inner_text().splitlines()]
    assert ["device.device_type", "N150", "N300, T3K"] in rows
    assert page.locator('tr[data-job="0"] .opener').get_attribute("aria-expanded") == "true"
    details.locator(".whole summary").click()
    expect(page.locator(".whole pre")).to_contain_text("calibration.constant_7.value: 1.0")
    details.locator(".pin").click()
    page.locator('tr[data-job="0"] .opener').click()
    page.locator('tr[data-job="2"] .opener').click()
    rows = [row.split("\t") for row in details.locator(".differences tbody").inner_text().splitlines()]
    assert rows[0] == ["compute.mlp.math_fidelity", "HiFi4", "LoFi"]
    assert any(row[0] == "KL divergence" for row in rows)
    page.locator('tr[data-job="2"] .opener').click()
    assert details.count() == 0


def test_copy_and_csv_hand_out_what_is_shown(show, report):
    page = show(report, permissions=["clipboard-read", "clipboard-write"])
    page.locator('tr[data-job="4"] .opener').click()
    page.click("tr.details .copy")
    expect(page.locator(".copy")).to_have_text("copied")
    assert page.evaluate("navigator.clipboard.readText()").startswith("device=n150 precision.mlp_weights=BFP8")
    page.fill("#words", "device=n300")
    expect(page.locator("#plot .marker")).to_have_count(9)
    head(page, SPEED).click()
    with page.expect_download() as downloaded:
        page.click("#csv")
    rows = list(csv.DictReader(Path(downloaded.value.path()).read_text(encoding="utf-8").splitlines()))
    speeds = [float(row[SPEED]) for row in rows]
    assert len(rows) == 9
    assert speeds == sorted(speeds, reverse=True)
    assert {row["device"] for row in rows} == {"n300"}


def test_the_panel_of_knobs_shows_paired_differences(show, report, sweep):
    page = show(report)
    assert page.locator(".effects").evaluate_all("(all) => all.map((t) => t.dataset.metric)") == [
        "kl_divergence",
        SPEED,
    ]
    row = page.locator('.effects[data-metric="kl_divergence"] [data-knob="precision.mlp_weights"] tr', has_text="BFP8")
    assert "−0.0700" in row.text_content()
    assert "7 pairs" in row.text_content()
    assert row.locator(".said.better").count() == 1
    page.select_option("#sensitivity-of", "ttft_ms")
    assert page.locator(".effects").count() == 1
    assert page.locator(".effects .said.worse").count() > 0


@pytest.mark.parametrize("system", ["light", "dark"])
def test_the_theme_follows_the_system_and_the_button(show, report, system):
    page = show(report, color_scheme=system)

    def brightness():
        color = page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", color)[:3])) / 3

    assert (brightness() > 128) == (system == "light")
    page.click("#theme")
    assert (brightness() > 128) == (system == "dark")
    page.reload()
    assert (brightness() > 128) == (system == "dark")
    page.emulate_media(media="print")
    assert page.locator("#table-controls").is_hidden()
    assert page.evaluate("getComputedStyle(document.documentElement).colorScheme") == "light"


def test_text_can_be_read_in_both_themes(show, report):
    for system in ("light", "dark"):
        page = show(report, color_scheme=system)
        page.locator('tr[data-job="3"] .opener').click()
        weak = page.evaluate(CONTRAST)
        assert weak == [], (system, weak)


# Every element with text of its own whose contrast to the nearest painted background is below WCAG's 4.5.
CONTRAST = """() => {
  const parse = (color) => color.match(/[\\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);
  const behind = (element) => {
    for (; element; element = element.parentElement) {
      const color = parse(getComputedStyle(element).backgroundColor);
      if (color[3] !== 0) return color;
    }
    return [255, 255, 255];
  };
  const hasText = (element) => [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
  const contrast = (element) => {
    const style = getComputedStyle(element);
    const own = light(parse(element.closest("svg") ? style.fill : style.color)), other = light(behind(element));
    return (Math.max(own, other) + 0.05) / (Math.min(own, other) + 0.05);
  };
  return [...document.querySelectorAll("body *:not(script, noscript, option)")]
    .filter((element) => hasText(element) && element.checkVisibility() && !element.disabled && contrast(element) < 4.5)
    .map((element) => `${contrast(element).toFixed(2)} ${element.className} ${element.textContent.slice(0, 30)}`);
}"""


def test_paper_gets_every_row(show, tmp_path):
    page = show(write_report(made_sweeps.write(tmp_path, made_sweeps.grid(seeds=3))))
    assert page.locator("#jobs tbody tr").count() == 50
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("#jobs tbody tr").count() == 81
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("#jobs tbody tr").count() == 50
    page.click("text=next ›")
    assert jobs_shown(page)[0] == "50"


def test_a_comparison_shows_what_got_worse_first(show, sweep, tmp_path):
    after = made_sweeps.grid(faster=0.9)
    after[9] = made_sweeps.result(after[9]["overrides"], speed=40.0, kl=0.2)
    after[8] = made_sweeps.result(after[8]["overrides"], status="failed", error="gone")
    other = made_sweeps.write(tmp_path / "after", after)
    page = show(write_page(read_sweeps([sweep, other]), tmp_path / "c.html", compared=True))
    section = page.locator("#comparison")
    assert "after compared with sweep" in section.text_content()
    assert "▼ 25 jobs worse" in section.text_content()
    rows = section.locator("tbody tr")
    assert "ok → failed" in rows.nth(0).text_content()
    assert rows.nth(1).text_content().startswith("9: ")
    assert "▼ −10 %" in rows.nth(2).text_content()
    assert "▲ 1 better" in section.text_content()
    page.check("#only-worse")
    assert section.locator("tbody tr.regressed").count() == section.locator("tbody tr").count() == 25
    rows.nth(1).locator("button").click()
    assert page.locator("tr.details").count() == 1
    assert page.locator("#color-by").input_value() == "sweep"


@pytest.mark.parametrize("finished", [0, 1])
def test_one_job_finished_or_not_makes_a_page(show, tmp_path, finished):
    failed = made_sweeps.result(["device=n150"], status="failed", error="out of memory")
    page = show(write_report(made_sweeps.write(tmp_path, made_sweeps.grid()[:1] if finished else [failed])))
    assert page.locator("#charts").is_visible() == bool(finished)
    assert page.locator("#plot .marker").count() == finished
    if not finished:
        assert "out of memory" in page.locator("#jobs").text_content()


def test_5000_jobs_open_small_and_sort_within_a_second(show, tmp_path):
    path = write_report(made_sweeps.write(tmp_path, made_sweeps.grid(seeds=186)))
    assert path.stat().st_size < 6_000_000
    page = show(path)
    assert page.locator("#shown").text_content().startswith("5022 of 5022")
    sort = "document.querySelector('#jobs [data-column=ttft_ms]').click()"
    assert milliseconds(page, sort) < 1000
    waits = [float(text) for text in column(page, "ttft_ms")]
    assert len(waits) == 50
    assert waits == sorted(waits)
    assert milliseconds(page, "view.words = 'device=t3k'; refresh()") < 1000


def milliseconds(page, work):
    """How long `work` and the layout after it take in the page."""
    return page.evaluate(
        f"() => {{ const start = performance.now(); {work}; document.body.offsetHeight;"
        " return performance.now() - start; }"
    )
