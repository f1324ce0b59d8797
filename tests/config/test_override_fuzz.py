# SPDX-License-Identifier: Apache-2.0
"""Made-up override lists: every one is either refused with a clear error or does what it says."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.config.building import nested_dataclass
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.experiment_schema import ExperimentConfig
from tt_transformers_v2.config.groups import groups
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware import ConfigError


def schema_paths(cls=ExperimentConfig, prefix=""):
    for name, annotation in field_types(cls).items():
        yield f"{prefix}{name}"
        nested = nested_dataclass(annotation)
        if nested is not None:
            yield from schema_paths(nested, f"{prefix}{name}.")


PATHS = sorted(schema_paths())
WORDS = [*PATHS, *groups(), *(part for path in PATHS for part in path.split("."))]
typo = st.builds(
    lambda word, at, char: word[: at % (len(word) + 1)] + char + word[at % (len(word) + 1) :],
    st.sampled_from(WORDS),
    st.integers(0, 40),
    st.sampled_from(list("abcxyz_.@/~+-0 ")),
)
keys = st.one_of(st.sampled_from(PATHS), st.sampled_from(sorted(groups())), typo, st.text(max_size=12))
options = [option for names in groups().values() for option in names]
values = st.one_of(
    st.sampled_from(
        ["BFP4", "BFP8", "BF16", "LoFi", "HiFi2", "HiFi4", "true", "false", "null", "DRAM", "L1", "", "nan"]
    ),
    st.sampled_from(options),
    st.integers(-5, 10**12).map(str),
    st.floats(allow_nan=True).map(str),
    st.text(max_size=10),
    st.sampled_from(
        ["[1,2]", "{a: b}", "{math_fidelity: LoFi}", "[[", "'x'", "${device}", "${oc.env:HOME}", "a,b", "?"]
    ),
    st.sampled_from(['[{select: "0", precision: {ff2: BFP8}}]', '[{select: "99", precision: {ff2: BFP8}}]', "[{}]"]),
)
prefix = st.sampled_from(["", "", "", "", "", "", "+", "++", "~"])
override = st.builds(
    lambda p, k, e, v: f"{p}{k}{e}{v}", prefix, keys, st.sampled_from(["=", "=", "=", "=", ""]), values
)


@settings(max_examples=500, deadline=None, derandomize=True)
@given(st.lists(override, max_size=4))
def test_no_override_list_ends_in_a_traceback_or_is_silently_ignored(texts):
    assert_refused_or_reached(texts)


@pytest.mark.slow
@settings(max_examples=4000, deadline=None, derandomize=True)
@given(st.lists(override, max_size=4))
def test_no_more_override_lists_do(texts):
    assert_refused_or_reached(texts)


def assert_refused_or_reached(texts):
    if refused(texts):
        return
    for text in texts:
        key = text.partition("=")[0]
        assert not text.startswith(("+", "~"))
        assert key in groups() or key.split(".")[0].split("/")[0] == "hydra" or reached(key), f"{text!r} was ignored"


ODD_VALUES = [
    "null",
    "{}",
    "{a: 1}",
    "[]",
    "[0, -1]",
    "3",
    "-1",
    "0",
    "1e30",
    "nan",
    "true",
    "x",
    "''",
    "BFP8",
    "[[1]]",
]


@pytest.mark.parametrize("value", ODD_VALUES)
def test_no_value_of_any_key_ends_in_a_traceback(value):
    for path in PATHS:
        refused([f"{path}={value}"])


def refused(texts):
    """Whether the list ends in a ConfigError with words in it; any other exception fails the test."""
    try:
        checked = check_overrides(texts)
        resolve(compose(checked.texts), checked.typed)
    except ConfigError as error:
        return bool(str(error).strip())
    return False


def reached(key):
    """Whether the schema has the key; below calibration its own reader has checked it."""
    return key in PATHS or key.split(".")[0] == "calibration" or ".sources." in key
