# SPDX-License-Identifier: Apache-2.0
"""What a field of a configuration makes of a value is what OmegaConf's typed node makes of it."""

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from tt_transformers_v2.common.checked import coerce, field_types
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.experiment_schema import ExperimentConfig
from tt_transformers_v2.hardware.enums import MathFidelity, PrecisionMode


@dataclass
class Fields:
    flag: bool = False
    count: int = 1
    number: float = 1.0
    text: str = ""
    fidelity: MathFidelity = MathFidelity.LoFi
    mode: PrecisionMode = PrecisionMode.custom
    perhaps: int | None = None
    perhaps_text: str | None = None
    perhaps_fidelity: MathFidelity | None = None
    counts: list[int] = field(default_factory=list)
    modes: list[PrecisionMode] = field(default_factory=list)
    programs: dict[str, dict[str, int]] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 10**6),
    st.floats(allow_nan=False, width=32),
    st.sampled_from(["", "5", "-1", "1.5", "1e3", "yes", "No", "ON", "off", "true", "y", "n", "0", "2", "x", "1_0"]),
    st.sampled_from(["LoFi", "MathFidelity.LoFi", "HiFi4", "lofi", "accuracy", "ACCURACY", "Accuracy", "CUSTOM"]),
)
VALUES = st.one_of(
    SCALARS,
    st.lists(SCALARS, max_size=3),
    st.dictionaries(st.sampled_from(["a", "b", "5"]), SCALARS, max_size=2),
    st.dictionaries(st.sampled_from(["a", "b"]), st.dictionaries(st.just("c"), SCALARS, max_size=1), max_size=2),
)


def ours(name, value):
    try:
        return coerce(name, field_types(Fields)[name], value)
    except ConfigError:
        return "refused"


def omegaconfs(name, value):
    config = OmegaConf.structured(Fields)
    try:
        setattr(config, name, value)
        return getattr(OmegaConf.to_object(config), name)
    except OmegaConfBaseException:
        return "refused"


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(list(field_types(Fields))), VALUES)
@example("flag", 2)
@example("count", True)
@example("count", 1.0)
@example("text", 5)
@example("number", "nan")
def test_a_value_becomes_the_same_or_is_refused_by_both(name, value):
    mine, theirs = ours(name, value), omegaconfs(name, value)
    assert repr(mine) == repr(theirs)


def test_the_whole_schema_is_a_structured_config():
    file = {"device": {"device_type": "N150"}, "model": {"name": "mine"}}
    config = OmegaConf.merge(OmegaConf.structured(ExperimentConfig), file)
    assert OmegaConf.get_type(config) is ExperimentConfig
    with pytest.raises(OmegaConfBaseException, match="Invalid value 'BFP9', expected one of"):
        config.precision.mlp_weights = "BFP9"
    config.precision.mlp_weights = "BF16"
    assert isinstance(OmegaConf.to_object(config), ExperimentConfig)
