# SPDX-License-Identifier: Apache-2.0
"""CSV files of facts: what is wrong is said with file and line."""

from __future__ import annotations

import pytest

from tt_transformers_v2.common.csv_rows import count, count_or_none, read_rows, text
from tt_transformers_v2.common.errors import ConfigError


def parse(row, line):
    return text(row, "name"), count(row, "size"), count_or_none(row, "more", least=0), line


def read(tmp_path, content):
    path = tmp_path / "facts.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_rows(path, ("name", "size", "more"), parse)


def test_rows_are_stripped_and_know_their_lines(tmp_path):
    rows = read(tmp_path, 'more,name,size\n0, a ,1\n,"b\nc",2\n5,d,3\n')
    assert rows == [("a", 1, 0, 2), ("b\nc", 2, None, 4), ("d", 3, 5, 5)]


def test_a_file_of_a_header_alone_has_no_rows(tmp_path):
    assert read(tmp_path, "name,size,more\n") == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "lacks the columns name, size, more."),
        ("name,size\n", "lacks the column more."),
        ("name,size,more,mor\n", "unknown column 'mor'. Did you mean more?"),
        ("name,size,more,size\n", "has a column twice."),
        ("name,size,more\na,1\n", "line 2: it has more or fewer fields than the header."),
        ("name,size,more\na,1,,2\n", "line 2: it has more or fewer fields than the header."),
        ("name,size,more\n,1,\n", "line 2: name is empty."),
        ("name,size,more\na,0,\n", "line 2: size must be a whole number of at least 1, not '0'."),
        ("name,size,more\na,1.5,\n", "line 2: size must be a whole number"),
        ("name,size,more\na,1,-1\n", "line 2: more must be a whole number of at least 0, not '-1'."),
        (b"name,size,more\n\xff,1,\n", "is not a CSV file"),
        ('name,size,more\n"a"b,1,\n', "is not a CSV file"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, content, message):
    with pytest.raises(ConfigError) as problem:
        read(tmp_path, content)
    assert message in str(problem.value)
    assert "facts.csv" in str(problem.value)


def test_ten_wrong_rows_are_told_and_the_others_counted(tmp_path):
    with pytest.raises(ConfigError) as problem:
        read(tmp_path, "name,size,more\n" + "a,0,\n" * 12)
    lines = str(problem.value).splitlines()
    assert len(lines) == 11
    assert lines[-1] == "… and 2 more."


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(ConfigError, match=r"cannot read .*nowhere\.csv"):
        read_rows(tmp_path / "nowhere.csv", ("name",), parse)
