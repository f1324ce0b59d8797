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
        ((HEADER, GOOD.replace(",1,1,1,", ",0,1,1,")), "row 2: tp must be a whole number of at least 1"),
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


def test_a_missing_file_and_a_binary_one_are_named(tmp_path):
    with pytest.raises(ConfigError, match="cannot read"):
        read_points(tmp_path / "none.csv")
    (tmp_path / "noise.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(ConfigError, match="not a CSV file"):
        read_points(tmp_path / "noise.csv")
