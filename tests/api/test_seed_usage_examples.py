# SPDX-License-Identifier: Apache-2.0
"""The seed design's usage examples, as written there."""

import pytest

from tt_transformers_v2 import ModelFactory, ModelSpec
from tt_transformers_v2.hardware import AutoHardwareConfig


@pytest.fixture
def model_spec():
    return ModelSpec.uniform(
        vocab_size=32000,
        hidden_dim=4096,
        num_layers=32,
        num_heads=32,
        intermediate_dim=11008,
    )


def test_minimal_configuration(model_spec):
    model = ModelFactory.from_spec(
        model_spec,
        device="N150",  # Just device name!
    )
    assert model.hw_config.device_type == "N150"
    assert model.hw_config.precision.mlp_weights == "BFP4"


def test_mode_selection(model_spec):
    model = ModelFactory.from_spec(
        model_spec,
        device="T3K",
        hw_mode="accuracy",  # Use accuracy presets
    )
    assert model.hw_config.precision.mlp_weights == "BF16"

    hw_config = AutoHardwareConfig.from_device("T3K", mode="accuracy")
    model = ModelFactory.from_spec(model_spec, hw_config=hw_config)
    assert model.hw_config is hw_config


def test_model_aware_configuration(model_spec):
    hw_config = AutoHardwareConfig.from_device(
        "T3K",
        mode="performance",
        model_spec=model_spec,  # 70B model gets BFP4 MLPs automatically
    )
    model = ModelFactory.from_spec(model_spec, hw_config=hw_config)
    assert model.spec is model_spec


def test_custom_configuration(model_spec):
    hw_config = AutoHardwareConfig.custom(
        device="N150",
        precision={
            "mlp_weights": "BFP8",  # Override MLP precision
            "attention_weights": "BF16",  # Keep attention in BF16
        },
        compute={
            "mlp": {"math_fidelity": "HiFi4"},  # Use HiFi4 for MLP
        },
        max_prefill_chunk_size=8192,  # Custom prefill size
    )
    model = ModelFactory.from_spec(model_spec, hw_config=hw_config)
    assert model.hw_config.precision.mlp_weights == "BFP8"
    assert model.hw_config.precision.attention_weights == "BF16"
    assert model.hw_config.compute["mlp"].math_fidelity == "HiFi4"
    assert model.hw_config.max_prefill_chunk_size == 8192


def test_building_block_gets_its_settings_from_a_device_name():
    import torch

    from tt_transformers_v2 import MultiHeadAttention

    attention = MultiHeadAttention(hidden_dim=64, num_heads=4, device="N150")
    assert attention.hw_config.compute.get("attention").math_fidelity == "HiFi2"
    x = torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(0))
    y = attention.forward(x)
    assert y.shape == x.shape

    exact = AutoHardwareConfig.from_device("N150", mode="accuracy")
    z = MultiHeadAttention(hidden_dim=64, num_heads=4, hw_config=exact)(x)
    assert not torch.equal(y, z)


def test_a_70b_model_costs_nothing_until_it_runs():
    spec = ModelSpec.uniform(128256, 8192, 80, 64, 28672, num_kv_heads=8, name="Llama-3.1-70B", family="llama-3.1")
    model = ModelFactory.from_spec(spec, device="T3K", hw_mode="accuracy")
    assert 70e9 < model.spec.num_parameters < 71e9
    assert model.hw_config.precision.mlp_weights == "BFP4"


@pytest.mark.parametrize("arguments", [{}, {"device": "N150", "hw_config": AutoHardwareConfig.from_device("N150")}])
def test_factory_wants_exactly_one_of_device_and_configuration(model_spec, arguments):
    with pytest.raises(ValueError, match="either a device or an hw_config"):
        ModelFactory.from_spec(model_spec, **arguments)
