# SPDX-License-Identifier: Apache-2.0
import subprocess
import sys

import pytest

from tt_transformers_v2.config.building import build
from tt_transformers_v2.config.precedence import governed_by, leaf_paths, release_finer
from tt_transformers_v2.hardware import AutoHardwareConfig, ComputeConfig, ConfigError, DevicePresets, PrecisionConfig
from tt_transformers_v2.hardware.schema import ComputeGroups, DeviceSpec, HardwareSections


def test_defaults_are_the_seeds():
    assert vars(ComputeConfig()) == {
        "math_fidelity": "HiFi2",
        "fp32_dest_acc_en": True,
        "packer_l1_acc": True,
        "math_approx_mode": False,
        "dst_full_sync_en": False,
        "throttle_level": 0,
    }
    assert PrecisionConfig().mlp_weights == "BFP8"


@pytest.mark.parametrize(
    ("assign", "message"),
    [
        (lambda c: setattr(c.precision, "mlp_weights", "BFP5"), "Did you mean BFP"),
        (lambda c: setattr(c.compute["mlp"], "math_fidelity", "HiFi5"), "Did you mean HiFi"),
        (lambda c: setattr(c.compute["mlp"], "fp32_dest_acc_en", "maybe"), "must be true or false"),
        (lambda c: setattr(c, "max_batch_size", 1.5), "must be a whole number"),
    ],
)
def test_a_wrong_value_is_refused_wherever_it_is_assigned(assign, message):
    with pytest.raises(ConfigError, match=message):
        assign(DevicePresets.get_config("N150"))


def test_a_wrong_name_is_refused_with_the_nearest_one():
    with pytest.raises(AttributeError, match="Did you mean mlp_weights"):
        DevicePresets.get_config("N150").precision.mlp_weight = "BFP8"


@pytest.mark.parametrize(("name", "meant"), [("N151", "N150"), ("t3", "T3K"), ("P150y4", "P150x4")])
def test_an_unknown_device_is_a_value_error_that_suggests(name, meant):
    with pytest.raises(ValueError, match=f"Did you mean {meant}"):
        AutoHardwareConfig.from_device(name)


def test_device_and_mode_names_ignore_case():
    assert AutoHardwareConfig.from_device("p150X4", "ACCURACY").device_type == "P150x4"


def test_custom_reports_every_mistake_at_once():
    with pytest.raises(ConfigError) as caught:
        AutoHardwareConfig.custom(
            "N150", precision={"mlp_weight": "BFP8"}, compute={"mpl": {}, "mlp": {"fidelity": "LoFi"}}, max_chunk=1
        )
    text = str(caught.value)
    for hint in ("Did you mean mlp_weights", "Did you mean mlp?", "math_fidelity", "max_chunk"):
        assert hint in text


def test_custom_reports_every_bad_value_at_once():
    with pytest.raises(ConfigError) as caught:
        AutoHardwareConfig.custom("N150", precision={"mlp_weights": "BFP9"}, compute={"mlp": {"packer_l1_acc": "x"}})
    assert "precision.mlp_weights" in str(caught.value)
    assert "compute.mlp.packer_l1_acc" in str(caught.value)


def test_a_coarse_value_reaches_the_finer_groups():
    preset = AutoHardwareConfig.from_device("N150")
    assert preset.precision.of("ff2") == "BFP8"
    assert preset.compute_for("ff2").math_fidelity == "HiFi2"

    custom = AutoHardwareConfig.custom(
        "N150", precision={"mlp_weights": "BF16"}, compute={"mlp": {"math_fidelity": "HiFi4"}}
    )
    assert custom.precision.of("ff2") == "BF16"
    assert custom.compute_for("ff2").math_fidelity == "HiFi4"
    assert custom.compute_for("ff2").fp32_dest_acc_en is False, "what nobody typed stays as the file has it"


def test_layers_from_python():
    entries = [{"select": "0, -1", "precision": {"mlp_weights": "BF16"}}]
    config = AutoHardwareConfig.custom("N150", layers=entries, num_layers=4)
    assert [str(config.for_layer(i).precision.of("ff2")) for i in range(4)] == ["BF16", "BFP8", "BFP8", "BF16"]
    with pytest.raises(ConfigError, match="num_layers"):
        AutoHardwareConfig.custom("N150", layers=entries)


def test_a_finer_value_wins_over_a_coarse_one_typed_beside_it():
    custom = AutoHardwareConfig.custom("N150", precision={"mlp_weights": "BF16", "ff2": "BFP4"})
    assert (custom.precision.of("ff1_ff3"), custom.precision.of("ff2")) == ("BF16", "BFP4")


def test_finer_op_groups_inherit_through_their_parents():
    groups = build(ComputeGroups, {"attention": {"math_fidelity": "HiFi3"}, "qkv": {"packer_l1_acc": False}})
    config = AutoHardwareConfig.from_device("N150")
    config.compute = groups.table()
    settings = config.compute_for("qkv_decode")
    assert (settings.math_fidelity, settings.packer_l1_acc) == ("HiFi3", False)


def test_unknown_groups_are_refused_with_the_nearest_one():
    config = AutoHardwareConfig.from_device("N150")
    with pytest.raises(ConfigError, match="Did you mean sdpa"):
        config.compute_for("sdpa_")
    with pytest.raises(ConfigError, match="Did you mean kv_cache"):
        config.precision.of("kvcache")


def test_governing_paths():
    assert governed_by("compute.qkv_decode.math_fidelity", {"compute.attention.math_fidelity"})
    assert governed_by("compute.qkv_decode.math_fidelity", {"compute.attention.packer_l1_acc"}) is None
    assert leaf_paths("compute.mlp", {"math_fidelity": "LoFi", "packer_l1_acc": True}) == {
        "compute.mlp.math_fidelity": "LoFi",
        "compute.mlp.packer_l1_acc": True,
    }
    parts = HardwareSections(DeviceSpec(), PrecisionConfig(ff2="BFP8"))
    parts.compute.ff2.math_fidelity = "HiFi2"
    assert release_finer(parts, {"precision.mlp_weights", "compute.mlp.math_fidelity"}) == [
        "compute.ff2.math_fidelity",
        "precision.ff2",
    ]
    assert (parts.precision.ff2, parts.compute.ff2.math_fidelity) == (None, None)


def test_hardware_imports_neither_torch_nor_ttnn():
    code = (
        "import sys; from tt_transformers_v2.hardware import AutoHardwareConfig as A; A.from_device('N150'); "
        "print([m for m in ('torch', 'ttnn', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
