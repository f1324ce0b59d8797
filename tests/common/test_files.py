# SPDX-License-Identifier: Apache-2.0
"""The one way CSV is written."""

import pytest

from tt_transformers_v2.common.files import csv_text


def test_csv_quotes_what_needs_it_and_leaves_nothing_for_none():
    rows = [{"job": "a,b", "top1": 0.5, "why": None}, {"job": 'say "no"', "top1": 1, "why": "two\nlines"}]
    assert csv_text(rows) == 'job,top1,why\n"a,b",0.5,\n"say ""no""",1,"two\nlines"\n'


def test_chosen_columns_stand_in_their_order_whatever_the_rows_have():
    assert csv_text([{"b": 1, "a": 2, "c": 3}, {"a": 4}], ["a", "b"]) == "a,b\n2,1\n4,\n"


def test_a_row_with_columns_that_the_first_lacks_is_refused():
    with pytest.raises(ValueError, match="late"):
        csv_text([{"a": 1}, {"a": 1, "late": 2}])


def test_no_rows_give_an_empty_text():
    assert csv_text([]) == ""
