# SPDX-License-Identifier: Apache-2.0
"""The N150 and T3K presets against the seed design's table, field by field."""

import pytest

from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.conf_folders import conf_dir
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.hardware import DevicePresets, DeviceType, PrecisionMode

ACCURACY = dict.fromkeys(("mlp_weights", "attention_weights", "kv_cache"), "BF16")
PERFORMANCE = {"mlp_weights": "BFP4", "attention_weights": "BFP8", "kv_cache": "BFP8"}
ACTIVATIONS = {"mlp_activations": "BF16", "attention_activations": "BF16"}
MEMORY = {
    "weights_placement": "DRAM",
    "activations_placement": "L1",
    "use_width_sharding": True,
    "use_height_sharding": False,
}


def kernel(math_fidelity, fp32_dest_acc_en=True):
    return {
        "math_fidelity": math_fidelity,
        "fp32_dest_acc_en": fp32_dest_acc_en,
        "packer_l1_acc": True,
        "math_approx_mode": False,
    }


SEED = {
    ("N150", "accuracy"): {
        "precision": ACCURACY | ACTIVATIONS,
        "compute": {"mlp": kernel("HiFi2", False), "attention": kernel("HiFi4"), "sdpa": kernel("HiFi4")},
        "memory": MEMORY | {"kv_cache_placement": "L1"},
        "parallelism": {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "sequence_parallel": False},
        "limits": {"max_prefill_chunk_size": 4096, "max_batch_size": 32, "l1_memory_size": 1499136},
    },
    ("N150", "performance"): {
        "precision": PERFORMANCE | ACTIVATIONS,
        "compute": {"mlp": kernel("LoFi"), "attention": kernel("HiFi2"), "sdpa": kernel("HiFi2")},
        "memory": MEMORY | {"kv_cache_placement": "DRAM"},
        "parallelism": {"tensor_parallel_size": 1, "pipeline_parallel_size": 1, "sequence_parallel": False},
        "limits": {"max_prefill_chunk_size": 4096, "max_batch_size": 32, "l1_memory_size": 1499136},
    },
    ("T3K", "accuracy"): {
        "precision": ACCURACY | ACTIVATIONS,
        "compute": {"mlp": kernel("HiFi2", True), "attention": kernel("HiFi4"), "sdpa": kernel("HiFi4")},
        "memory": MEMORY | {"kv_cache_placement": "L1"},
        "parallelism": {"tensor_parallel_size": 8, "pipeline_parallel_size": 1, "sequence_parallel": False},
        "limits": {"max_prefill_chunk_size": 32768, "max_batch_size": 32, "l1_memory_size": 1499136},
    },
    ("T3K", "performance"): {
        "precision": PERFORMANCE | ACTIVATIONS,
        "compute": {"mlp": kernel("LoFi"), "attention": kernel("HiFi2"), "sdpa": kernel("HiFi2")},
        "memory": MEMORY | {"kv_cache_placement": "DRAM"},
        "parallelism": {"tensor_parallel_size": 8, "pipeline_parallel_size": 1, "sequence_parallel": False},
        "limits": {"max_prefill_chunk_size": 32768, "max_batch_size": 32, "l1_memory_size": 1499136},
    },
}


@pytest.mark.parametrize(("device", "mode"), SEED)
def test_preset_equals_the_seed_field_by_field(device, mode):
    wanted = SEED[device, mode]
    config = DevicePresets.get_config(device, PrecisionMode(mode))

    assert config.device_type == DeviceType(device)
    for section in ("precision", "memory", "parallelism"):
        found = {name: getattr(getattr(config, section), name) for name in wanted[section]}
        assert found == wanted[section]
    for group, settings in wanted["compute"].items():
        assert {name: getattr(config.compute[group], name) for name in settings} == settings
    assert {name: getattr(config, name) for name in wanted["limits"]} == wanted["limits"]
    assert config.custom_configs is None


@pytest.mark.parametrize("device", ["n150", "t3k"])
def test_an_experiment_differs_from_the_accuracy_preset_in_the_place_of_the_cache_and_says_so(device):
    """docs/preflight.md states it: ttnn's decode attention reads the KV cache from DRAM only."""
    checked = check_overrides([f"device={device}", "precision=accuracy", "model=llama8b"])
    experiment = resolve(compose(checked), checked.typed)
    differs = {
        name: (value, getattr(experiment.hardware.memory, name))
        for name, value in vars(DevicePresets.get_config(device, "accuracy").memory).items()
        if value != getattr(experiment.hardware.memory, name)
    }
    assert differs == {"kv_cache_placement": ("L1", "DRAM")}
    (said,) = [effect for effect in experiment.effects if effect.path == "memory.kv_cache_placement"]
    assert (said.rule, said.previous, said.value) == ("kv-cache-in-dram", "L1", "DRAM")


@pytest.mark.parametrize(("device", "chips"), [("N150", 1), ("T3K", 8)])
def test_bandwidth_is_the_published_one_and_the_file_says_that_the_seed_differs(device, chips):
    assert DevicePresets.get_config(device).dram_bandwidth == 288.0 * chips
    assert "The seed design says 384 GB/s" in (conf_dir() / "chip/wormhole.yaml").read_text()


def test_every_device_has_a_preset_in_every_mode():
    for device, modes in DevicePresets.PRESETS.items():
        for mode, config in modes.items():
            assert config.device_type == device, mode


def test_presets_are_fresh_values():
    first = DevicePresets.get_config("N150")
    first.precision.mlp_weights = "BF16"
    first.compute["mlp"].math_fidelity = "HiFi4"
    again = DevicePresets.get_config("N150")
    assert again.precision.mlp_weights == "BFP4"
    assert again.compute["mlp"].math_fidelity == "LoFi"


def test_named_precisions_of_the_seed():
    assert DevicePresets.ACCURACY_PRECISION.mlp_weights == "BF16"
    assert DevicePresets.PERFORMANCE_PRECISION.mlp_weights == "BFP4"
