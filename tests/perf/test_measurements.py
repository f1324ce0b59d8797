# SPDX-License-Identifier: Apache-2.0
import pytest
from perf_cases import ROOT

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.perf.measurements import read_points

HEADER = "model,device,tp,dp,batch,seq,mode,ttft_ms,tsu,source"
GOOD = "Llama-3.1-8B,N150,1,1,1,128,performance,104,28.3,mine"


def written(tmp_path, *lines):
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(lines) + "\n")
    return path


def test_the_published_rows_read():
    rows = read_points(ROOT / "conf/measurements/tt_metal_perf_md.csv")
    assert len(rows) == 133
    assert rows[0].tokens_per_s_per_user == 87.8
    assert sum(bool(row.flag) for row in rows) > 30


def test_optional_columns_may_be_left_out(tmp_path):
    (row,) = read_points(written(tmp_path, HEADER, GOOD))
    assert (row.tensor_parallel, row.ttft_ms, row.flag, row.line) == (1, 104.0, "", 2)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), "lacks the columns model"),
        ((HEADER,), "no rows"),
        ((HEADER.replace("tsu", "tokens"), GOOD), "lacks the column tsu"),
        ((HEADER + ",flags", GOOD + ","), "unknown column 'flags'"),
        ((HEADER, GOOD.replace(",1,1,1,", ",0,1,1,")), "line 2: tp must be a whole number of at least 1"),
        ((HEADER, GOOD.replace("28.3", "fast")), "tsu must be a positive number"),
        ((HEADER, GOOD.replace("28.3", "nan")), "tsu must be a positive number"),
        ((HEADER, GOOD.replace("104,28.3", ",")), "neither ttft_ms nor tsu"),
        ((HEADER, GOOD + ",more"), "more or fewer fields"),
        ((HEADER, GOOD.replace("performance", "")), "mode is empty"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, lines, message):
    with pytest.raises(ConfigError, match=message):
        read_points(written(tmp_path, *lines))


NEW_HEADER = HEADER + ",sampling,prefill,stack,context,release,date,flag"


@pytest.mark.parametrize(
    ("end", "message"),
    [
        ("gpu,,,,,,", "rows.csv, line 2: sampling must be host, device, device_argmax or empty, not 'gpu'"),
        (",both,,,,,", "prefill must be untraced, traced, batched or empty"),
        (",,tgi,,,,", "stack must be tt_transformers, vllm or empty"),
        (",,,127,,,", "context=127 is less than the prompt, seq=128"),
        (",,,,,July,", "date must be YYYY"),
        (",,,,,2026-02-31,", "date must be YYYY"),
        (",,,,,,gate_valu", "flag 'gate_valu' is not known. Did you mean gate_value"),
        ("host,,,,,,device_argmax", "flag device_argmax contradicts sampling=host"),
        (",traced,,,,,ttft_per_user_batched_prefill", "contradicts prefill=traced"),
        (",,,,,,device_argmax device_full_sampler", "contradicts flag device_argmax"),
        (",,tt_transformers,,,,server_overhead", "contradicts stack=tt_transformers"),
    ],
)
def test_what_is_wrong_in_the_columns_of_how_a_row_was_run_is_named(tmp_path, end, message):
    with pytest.raises(ConfigError, match=message):
        read_points(written(tmp_path, NEW_HEADER, f"{GOOD},{end}"))


@pytest.mark.parametrize(
    ("ttft", "tsu", "name"), [("0.104", "28.3", "ttft_ms"), ("104", "0.0283", "tsu"), ("104", "28300", "tsu")]
)
def test_figures_a_thousand_times_off_are_in_another_unit(tmp_path, ttft, tsu, name):
    with pytest.raises(ConfigError, match=f"line 2: {name}=.*check the unit"):
        read_points(written(tmp_path, HEADER, GOOD.replace("104,28.3", f"{ttft},{tsu}")))


def test_the_limits_of_plausible_figures_are_allowed(tmp_path):
    for ttft, tsu in (("0.5", "0.1"), ("5e6", "2000")):
        (row,) = read_points(written(tmp_path, HEADER, GOOD.replace("104,28.3", f"{ttft},{tsu}")))
        assert (row.ttft_ms, row.tokens_per_s_per_user) == (float(ttft), float(tsu))


def test_flags_say_which_figures_count(tmp_path):
    def row(flag):
        return read_points(written(tmp_path, NEW_HEADER, f"{GOOD},,,,,,,{flag}"))[0]

    assert row("gate_value").counts("decode")
    assert row("server_overhead tpot_21.8").counts("decode")
    assert not row("server_overhead").counts("prefill")
    assert not row("gate_value degenerate_host_readback").counts("decode")
    assert not row("other_stack").counts("decode")


def test_the_rows_of_2026_read_and_state_how_they_were_run():
    rows = read_points(ROOT / "conf/measurements/tt_metal_2026.csv")
    assert len(rows) == 328
    assert {row.sampling for row in rows} == {None, "host", "device", "device_argmax"}
    assert sum(row.stack == "vllm" for row in rows) > 50
    assert all(row.context is not None for row in rows)


def test_a_missing_file_and_a_binary_one_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "noise.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="not a CSV file"):
        read_points(tmp_path / "noise.csv")


def test_a_line_is_that_of_the_file_and_a_mark_at_its_start_is_no_column(tmp_path):
    path = written(tmp_path, f"\ufeff{HEADER}", "", "", GOOD)
    assert [found.line for found in read_points(path)] == [4]


@pytest.mark.parametrize(("word", "said"), [("gate_vlaue", "Did you mean gate_value"), ("qqqq", "Known: gate_value")])
def test_an_unknown_flag_is_refused_with_its_line(tmp_path, word, said):
    with pytest.raises(ConfigError, match=rf"line 2: flag '{word}' is not known. {said}"):
        read_points(written(tmp_path, NEW_HEADER, f"{GOOD},,,,,,,{word}"))
