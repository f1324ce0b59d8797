# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from tt_transformers_v2.common.checked import field_types
from tt_transformers_v2.config.exchange import kernel_settings, setting_name
from tt_transformers_v2.config.kernel_words import find, nearest_setting, words
from tt_transformers_v2.hardware import ComputeConfig, ConfigError
from tt_transformers_v2.hardware.op_table import OP_GROUPS
from tt_transformers_v2.hardware.schema import PrecisionConfig

# value: fidelity, approximation, fp32 destination, L1 accumulation, as tt_transformers sets them
TABLE = {
    "lofi": ("LoFi", False, False, True),
    "hifi2": ("HiFi2", True, True, True),
    "hifi2fp16": ("HiFi2", False, False, True),
    "hifi2na": ("HiFi2", False, False, False),
    "hifi2nol1acc": ("HiFi2", True, True, False),
    "hifi4": ("HiFi4", False, True, True),
    "hifi4fp32": ("HiFi4", True, True, True),
    "hifi4fp16": ("HiFi4", False, False, True),
}
FIELDS = ("math_fidelity", "math_approx_mode", "fp32_dest_acc_en", "packer_l1_acc")


def test_the_table_is_complete():
    assert {word.value for word in words("fidelities")} == set(TABLE)


@pytest.mark.parametrize("value", TABLE)
def test_a_setting_has_its_fields_by_name_and_by_value_in_any_case(value):
    name = next(word.name for word in words("fidelities") if word.value == value)
    for spelled in (value, name, name.lower(), value.upper(), f" {name} "):
        assert tuple(kernel_settings(spelled)[field] for field in FIELDS) == TABLE[value]


@pytest.mark.parametrize("value", TABLE)
def test_a_setting_is_recognised_exactly(value):
    config = ComputeConfig(**kernel_settings(value))
    assert setting_name(config) == value
    config.throttle_level = 1
    assert setting_name(config) is None
    config.throttle_level = 0
    config.dst_full_sync_en = True
    assert setting_name(config) is None


def test_what_tttv1_has_no_name_for():
    assert setting_name(ComputeConfig()) is None  # HiFi2 without approximation
    assert setting_name(ComputeConfig(math_fidelity="HiFi3")) is None
    assert nearest_setting(ComputeConfig()) == "hifi2"
    assert nearest_setting(ComputeConfig(math_fidelity="HiFi3")) is None


def test_settings_are_fresh_each_time():
    kernel_settings("lofi")["packer_l1_acc"] = False
    assert kernel_settings("lofi")["packer_l1_acc"] is True


@pytest.mark.parametrize("name", ["hifi3", "", "HIFI2-FP16", 3, None, [], "x" * 10_000, "lofi\n\nlofi"])
def test_an_unknown_setting_is_refused_with_the_nearest_one(name):
    with pytest.raises(ConfigError) as caught:
        kernel_settings(name)
    assert "choices: lofi" in str(caught.value)
    assert len(str(caught.value)) < 300
    assert "\n" not in str(caught.value)


def test_every_word_has_a_place_here():
    groups = field_types(PrecisionConfig)
    assert all(word.ours in groups for word in words("tensors"))
    assert all(word.ours in OP_GROUPS for word in words("ops"))
    assert find("tensors", "ff1_3") is find("tensors", "FF1_FF3")
    assert find("ops", "li_ff1_3").ours == find("tensors", "ff1_3").ours == "ff1_ff3"
    assert find("ops", "ACCURACY").ours == "norm"


def test_neither_torch_nor_numpy_nor_ttnn_is_loaded():
    code = (
        "import sys; from tt_transformers_v2.config.exchange import *; import tt_transformers_v2.config.exchange."
        "conversion; sys.exit(bool({'torch', 'numpy', 'ttnn'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
