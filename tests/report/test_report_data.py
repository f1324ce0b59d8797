# SPDX-License-Identifier: Apache-2.0
"""What a report is made of: reading folders, differences, effects of knobs, fronts, comparisons."""

import itertools
import json
import math

import made_sweeps
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.report.compare import changes, match_jobs, status_verdict
from tt_transformers_v2.report.differences import MISSING, split_common
from tt_transformers_v2.report.document import UNTYPED, build_document
from tt_transformers_v2.report.filters import parse_condition
from tt_transformers_v2.report.knob_effects import cells_of, effects
from tt_transformers_v2.report.loading import BROKEN, read_sweep, read_sweeps
from tt_transformers_v2.report.metrics import BY_NAME, shown
from tt_transformers_v2.report.pareto import pareto_front


def document(*folders, **options):
    return build_document(read_sweeps(folders), **options)


def job(overrides, **figures):
    """A job as read back from a file."""
    from tt_transformers_v2.report.loading import Job

    made = made_sweeps.result(overrides, **figures)
    return Job("0", made["status"], made["overrides"], made["config_hash"], result=made)


# Reading


def test_jobs_come_in_the_order_of_their_numbers_with_their_figures(tmp_path):
    made_sweeps.write(tmp_path, made_sweeps.grid())
    found = document(tmp_path)
    assert [entry["name"] for entry in found["jobs"]] == [str(number) for number in range(27)]
    speed = [metric["name"] for metric in found["metrics"]].index("decode_tokens_per_s_per_user")
    stored = json.loads((tmp_path / "13" / "result.json").read_text())
    assert found["jobs"][13]["numbers"][speed] == stored["performance"]["decode_tokens_per_s_per_user"]
    assert found["held"] == ["task=both"]
    assert [knob["key"] for knob in found["knobs"]] == ["device", "precision.mlp_weights", "compute.mlp.math_fidelity"]


def test_numbered_folders_with_slugs_are_called_by_their_number(tmp_path):
    for name, content in zip(("0010_bfp8_ab", "0002_bfp4_cd"), made_sweeps.grid(), strict=False):
        made_sweeps.write(tmp_path / "made", [content])
        (tmp_path / "made" / "0").rename(tmp_path / name)
    (tmp_path / "made").rmdir()
    found = document(tmp_path)["jobs"]
    assert [(entry["name"], entry["folder"]) for entry in found] == [("0002", "0002_bfp4_cd"), ("0010", "0010_bfp8_ab")]


def test_a_single_run_is_a_sweep_of_one(tmp_path):
    folder = made_sweeps.write(tmp_path, made_sweeps.grid()[:1]) / "0"
    found = document(folder)
    assert (len(found["jobs"]), found["knobs"], found["sensitivity"]) == (1, [], {})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{ not json", "not a result"),
        ("[]", "expected an object, found list"),
        ('{"schema_version": 1, "status": "ok"}', "overrides is missing"),
        ('{"schema_version": 1, "status": "ok", "overrides": [3]}', "not all strings"),
        ('{"schema_version": 1, "status": "ok", "overrides": [], "config": 3}', "config is not an object"),
        ("[" * 100_000, "not a result"),
        (b"\xff\xfe", "not a result"),
    ],
)
def test_a_corrupt_result_is_listed_as_broken_with_its_path(tmp_path, text, why):
    made_sweeps.write(tmp_path, made_sweeps.grid()[:2])
    path = tmp_path / "1" / "result.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    (sweep,) = read_sweeps([tmp_path])
    assert [entry.status for entry in sweep.jobs] == ["ok", BROKEN]
    assert why in sweep.jobs[1].reason
    assert sweep.warnings[0].startswith(str(path))
    assert str(tmp_path.parent) not in json.dumps(build_document([sweep]))


def test_sections_of_another_kind_give_no_figures_and_no_error(tmp_path):
    odd = made_sweeps.result(["device=n150"]) | {"accuracy": "?", "performance": [1], "findings": "x", "rules": 3}
    made_sweeps.write(tmp_path, [odd | {"git": "x", "environment": [], "seconds": float("nan")}])
    found = document(tmp_path)
    assert found["metrics"] == []
    assert found["sweeps"][0]["git"] == []


def test_figures_that_are_not_finite_are_none(tmp_path):
    content = made_sweeps.grid()[0]
    content["accuracy"] |= {"kl_divergence": math.nan, "top1": math.inf}
    made_sweeps.write(tmp_path, [content])
    (tmp_path / "0/result.json").write_text(
        (tmp_path / "0/result.json").read_text().replace('"pcc": 0.991', '"pcc": 1e999')
    )
    names = {metric["name"] for metric in document(tmp_path)["metrics"]}
    assert "perplexity" in names
    assert names.isdisjoint({"kl_divergence", "top1", "pcc"})


def test_a_newer_schema_is_refused(tmp_path):
    made_sweeps.write(tmp_path, [made_sweeps.grid()[0] | {"schema_version": 99}])
    with pytest.raises(ConfigError, match=r"newer version \(schema 99.*Update"):
        read_sweep(tmp_path)


def test_folders_without_results_are_refused_with_the_way_on(tmp_path):
    with pytest.raises(ConfigError, match="does not exist"):
        read_sweep(tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is a file"):
        read_sweep(tmp_path / "file")
    with pytest.raises(ConfigError, match=r"has no results.*results\.py ls"):
        read_sweep(tmp_path)
    made_sweeps.write(tmp_path / "one", made_sweeps.grid()[:1])
    with pytest.raises(ConfigError, match="Choose a sweep in it: one"):
        read_sweep(tmp_path)
    with pytest.raises(ConfigError, match="given twice"):
        read_sweeps([tmp_path / "one", tmp_path / "." / "one"])


def test_jobs_without_a_result_come_from_the_plan_with_their_reason(tmp_path):
    made_sweeps.write(tmp_path, made_sweeps.grid()[:1])
    records = [
        {"job": "0", "overrides": ["a=1"], "status": "planned"},
        {"job": "1", "overrides": ["a=2"], "status": "skipped", "reason": "no such thing"},
        {"job": "2", "overrides": ["a=3"], "status": "planned"},
        {"job": "2", "overrides": ["a=3"], "status": "duplicate", "reason": "as 0"},
        {"job": "3", "overrides": ["a=4"], "status": "planned"},
    ]
    lines = [*(json.dumps(record) for record in records), '{"job": "4", "overr']
    (tmp_path / "jobs.jsonl").write_text("\n".join(lines))
    (sweep,) = read_sweeps([tmp_path])
    found = [(entry.status, entry.reason) for entry in sweep.jobs]
    assert found == [("ok", ""), ("skipped", "no such thing"), ("duplicate", "as 0"), ("planned", "no result yet")]
    assert ["line 6" in warning for warning in sweep.warnings] == [True]


def test_git_and_environment_may_stand_once_for_the_sweep(tmp_path):
    bare = {key: value for key, value in made_sweeps.grid()[0].items() if key not in ("git", "environment")}
    made_sweeps.write(tmp_path, [bare])
    shared = {"git": {"revision": "abc", "dirty": True}, "environment": {"python": "3.11"}}
    shared |= {"command": ["a=1,2"], "created": "2026-11-22T20:00:01+00:00"}
    (tmp_path / "sweep.json").write_text(json.dumps(shared))
    found = document(tmp_path)["sweeps"][0]
    assert found["git"] == [{"revision": "abc", "dirty": True}]
    assert (found["environments"], found["command"]) == ([{"python": "3.11"}], "a=1,2")
    assert found["when"] == "2026-11-22 20:00 UTC"
    (tmp_path / "sweep.json").write_text("{")
    assert "sweep.json" in document(tmp_path)["warnings"][0]


def test_sweeps_of_one_name_are_told_apart(tmp_path):
    folders = [made_sweeps.write(tmp_path / name / "same", made_sweeps.grid()[:2]) for name in ("a", "b")]
    found = document(*folders)
    assert [sweep["name"] for sweep in found["sweeps"]] == ["a/same", "b/same"]
    assert found["knobs"][0] == {"key": "sweep", "values": ["a/same", "b/same"]}


def test_overrides_that_add_or_remove_are_knobs_too():
    typed = job(["+experiment=x", "++seed=3", "~tuning", "a.b=c=d"]).typed
    assert typed == {"experiment": "x", "seed": "3", "tuning": "removed", "a.b": "c=d"}


# Differences


def test_what_is_shared_stands_once_and_what_differs_by_path():
    common, varying = split_common(
        [
            {"a": {"b": 1, "c": 2}, "l": [1, 2], "e": [{"x": 1}], "n": None},
            {"a": {"b": 1, "c": 3}, "l": [1, 3], "e": [{"x": 1}, {"x": 2}], "n": {"t": 1}, "new": 5},
        ]
    )
    assert common == {"a.b": 1, "e.0.x": 1}
    assert varying == {
        "a.c": [2, 3],
        "l": [[1, 2], [1, 3]],
        "e.1.x": [MISSING, 2],
        "n": [None, {"t": 1}],
        "new": [MISSING, 5],
    }


def test_every_configuration_can_be_had_back_from_the_document(tmp_path):
    made_sweeps.write(tmp_path, made_sweeps.grid())
    found = document(tmp_path)
    assert len(found["config"]["varying"]) == 3
    for number, entry in enumerate(found["jobs"]):
        own = {
            column["path"]: column["values"][index]
            for column, index in zip(found["config"]["varying"], entry["config"], strict=True)
        }
        stored = json.loads((tmp_path / str(number) / "result.json").read_text())["config"]
        assert own["device.device_type"] == stored["device"]["device_type"]
        assert own["compute.mlp.math_fidelity"] == stored["compute"]["mlp"]["math_fidelity"]
        assert found["config"]["common"] | own == {
            path: value if isinstance(value, str) else json.dumps(value)
            for path, value in split_common([stored])[0].items()
        }


def test_a_job_without_a_configuration_says_nothing_of_it(tmp_path):
    failed = made_sweeps.result(["device=tg"], status="failed", error="no") | {"config": None}
    made_sweeps.write(tmp_path, [*made_sweeps.grid()[:2], failed])
    assert document(tmp_path)["jobs"][2]["config"] is None


# Effects of knobs


def test_differences_are_paired_where_all_other_knobs_agree():
    settings = [("x", "1"), ("y", "1"), ("x", "2"), ("y", "2"), ("y", "3")]
    figures = [10.0, 13.0, 20.0, 21.0, 99.0]
    first, second = effects(cells_of(0, settings), ["x", "y"], figures)
    assert (first.jobs, first.mean, first.pairs, first.difference) == (2, 15.0, 0, None)
    assert (second.jobs, second.pairs, second.difference) == (3, 2, 2.0)
    assert (second.low, second.high, second.percent) == (1.0, 3.0, pytest.approx(100 * 2 / 15))


def test_repeated_settings_count_once_and_missing_figures_not_at_all():
    settings = [("x",), ("x",), ("y",), ("y",), ("z",)]
    found = effects(cells_of(0, settings), ["x", "y", "z"], [1.0, 3.0, 5.0, None, None])
    assert [effect.difference for effect in found] == [None, 3.0, None]
    assert [effect.jobs for effect in found] == [2, 1, 0]
    assert found[2].mean is None


def test_percent_is_left_out_where_the_start_is_zero():
    found = effects(cells_of(0, [("x",), ("y",)]), ["x", "y"], [0.0, 5.0])
    assert (found[1].difference, found[1].percent) == (5.0, None)


def test_failed_jobs_do_not_count(tmp_path):
    failed = made_sweeps.result(["device=n300"], speed=1e9, status="failed", error="x")
    made_sweeps.write(
        tmp_path, [made_sweeps.result([f"device={d}"], speed=s) for d, s in (("n150", 10), ("t3k", 30))] + [failed]
    )
    effect = document(tmp_path)["sensitivity"]["device"]["decode_tokens_per_s_per_user"]
    assert [(entry["value"], entry["difference"]) for entry in effect] == [("n150", None), ("t3k", 20.0)]


def test_a_knob_with_a_value_per_job_has_no_effects(tmp_path):
    made_sweeps.write(tmp_path, [made_sweeps.result([f"seed={n}"], speed=n + 1) for n in range(60)])
    found = document(tmp_path)
    assert found["sensitivity"] == {}
    assert len(found["knobs"][0]["values"]) == 60


# The front

COORDINATE = st.one_of(st.none(), st.integers(-3, 3).map(float))


@given(
    st.lists(st.tuples(COORDINATE, COORDINATE), max_size=30),
    st.sampled_from(["high", "low"]),
    st.sampled_from(["high", "low"]),
)
def test_the_front_is_what_nothing_beats(points, way_x, way_y):
    signs = [1 if way == "high" else -1 for way in (way_x, way_y)]

    def beats(one, other):
        gains = [sign * (a - b) for sign, a, b in zip(signs, one, other, strict=True)]
        return min(gains) >= 0 and max(gains) > 0

    known = [(index, point) for index, point in enumerate(points) if None not in point]
    expected = [index for index, point in known if not any(beats(other, point) for _, other in known)]
    assert pareto_front(points, (way_x, way_y)) == expected


# Comparisons


def test_jobs_match_by_configuration_first_then_by_overrides():
    before = [job(["a=1"]), job(["a=2"]), job(["a=3"]), job(["a=9"])]
    after = [job(["a=2"]), job(["a=1", "b=1"]), job(["a=3"])]
    after[1].config_hash = before[0].config_hash
    after[2].config_hash = "changed"
    found = [(match.before, match.after, match.by) for match in match_jobs(before, after)]
    assert found == [(0, 1, "configuration"), (1, 0, "configuration"), (2, 2, "overrides")]


def test_repeated_configurations_are_matched_one_to_one():
    jobs = [job(["a=1"]), job(["a=1"])]
    assert [(match.before, match.after) for match in match_jobs(jobs, jobs)] == [(0, 0), (1, 1)]
    assert len(match_jobs(jobs, jobs[:1])) == 1


def test_broken_jobs_are_not_taken_for_each_other(tmp_path):
    for name in ("a", "b"):
        made_sweeps.write(tmp_path / name, made_sweeps.grid()[:1])
        (tmp_path / name / "0" / "result.json").write_text("{")
    assert match_jobs(read_sweep(tmp_path / "a").jobs, read_sweep(tmp_path / "b").jobs) == []


def test_verdicts_follow_the_direction_of_each_figure():
    before, after = job(["a=1"], speed=100.0, kl=0.1, ttft=50.0), job(["a=1"], speed=90.0, kl=0.05, ttft=50.4)
    found = {change.metric: change for change in changes(before, after)}
    assert (found["decode_tokens_per_s_per_user"].verdict, found["decode_tokens_per_s_per_user"].percent) == (
        "worse",
        -10.0,
    )
    assert (found["kl_divergence"].verdict, found["top1"].verdict) == ("better", "better")
    assert found["ttft_ms"].verdict == "same"
    assert {change.metric: change for change in changes(before, after, 0.5)}["ttft_ms"].verdict == "worse"
    assert "seconds" not in found
    lost = {change.metric: change.verdict for change in changes(before, job(["a=1"], kl=0.1))}
    assert lost["decode_tokens_per_s_per_user"] == "changed"


def test_a_change_from_zero_has_a_verdict_without_percent():
    (found,) = [c for c in changes(job([], kl=0.0), job([], kl=0.2)) if c.metric == "kl_divergence"]
    assert (found.percent, found.verdict) == (None, "worse")


def test_a_job_that_no_longer_finishes_is_worse():
    ok, failed = job([], speed=1.0), job([], status="failed")
    assert [status_verdict(*pair) for pair in itertools.product((ok, failed), repeat=2)] == [
        "same",
        "worse",
        "better",
        "same",
    ]


# Conditions


@pytest.mark.parametrize(
    ("text", "passing"),
    [
        ("kl_divergence<0.05", [0]),
        ("kl_divergence>=0.05", [1]),
        ("device=n150", [0, 2]),
        ("device!=n150", [1]),
        ("bound=DRAM", [0, 1]),
        ("status=failed", [2]),
        ("decode_tokens_per_s_per_user=20", [1]),
    ],
)
def test_conditions_pick_jobs(text, passing):
    jobs = [
        job(["device=n150"], speed=10.0, kl=0.01),
        job(["device=t3k"], speed=20.0, kl=0.05),
        job(["device=n150"], status="failed"),
    ]
    test = parse_condition(text, jobs)
    assert [index for index, entry in enumerate(jobs) if test(entry)] == passing


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("kl_divergence", "is not a condition"),
        ("kl_divergense<1", "Did you mean kl_divergence"),
        ("kl_divergence<small", "is not a number"),
        ("device<n150", "is a word"),
    ],
)
def test_a_mistaken_condition_is_explained(text, said):
    with pytest.raises(ConfigError, match=said):
        parse_condition(text, [job(["device=n150"], speed=10.0, kl=0.01)])


def test_figures_are_shown_by_their_form():
    assert shown(BY_NAME["top1"], 0.9142) == "91.4%"
    assert shown(BY_NAME["pcc"], 0.99999) == "0.99999"
    assert shown(BY_NAME["ttft_ms"], None) == UNTYPED
