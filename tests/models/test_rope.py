# SPDX-License-Identifier: Apache-2.0
"""Rotary tables against the formulas in their plainest form; test_huggingface.py compares whole models."""

from __future__ import annotations

import math

import pytest
import torch

from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models import rope
from tt_transformers_v2.models.rope import apply_rope, rotary_table
from tt_transformers_v2.models.spec import ModelSpec, RopeScaling


def spec(scaling: RopeScaling | None = None, theta: float = 5e5, head_dim: int = 128) -> ModelSpec:
    return ModelSpec.uniform(
        256, 64, 1, 1, 64, head_dim=head_dim, rope_theta=theta, rope_scaling=scaling, max_context=131072
    )


def tables(model: ModelSpec, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    table = rotary_table(model, model.rotaries[0], positions)
    assert table.query_cos is table.cos
    return table.cos, table.sin


def inverse_frequencies(model: ModelSpec, length: int = 0) -> torch.Tensor:
    return rope.inverse_frequencies(model, model.rotaries[0], length)


def attention_factor(model: ModelSpec) -> float:
    return rope.attention_factor(model, model.rotaries[0])


def test_plain_tables() -> None:
    positions = torch.tensor([0, 1, 5, 1000])
    cos, sin = tables(spec(theta=1e4), positions)
    assert cos.shape == sin.shape == (4, 128)
    assert cos.dtype == sin.dtype == torch.float32
    for row, position in enumerate(positions.tolist()):
        for pair in (0, 1, 17, 63):
            angle = position * 1e4 ** (-2 * pair / 128)
            for column in (pair, pair + 64):
                assert float(cos[row, column]) == pytest.approx(math.cos(angle), abs=2e-4)
                assert float(sin[row, column]) == pytest.approx(math.sin(angle), abs=2e-4)


def test_rotation_keeps_lengths_and_sees_distances_only() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 1, 128), torch.randn(1, 1, 1, 128)

    def rotated(x: torch.Tensor, position: int) -> torch.Tensor:
        return apply_rope(x, *tables(spec(), torch.tensor([position])))

    assert torch.allclose(rotated(q, 77).norm(), q.norm(), rtol=1e-5)
    near, far = rotated(q, 12) * rotated(k, 5), rotated(q, 107) * rotated(k, 100)
    assert torch.allclose(near.sum(), far.sum(), atol=2e-3)
    assert rotated(q, 0).equal(q)


def test_linear_scaling_stretches_positions() -> None:
    scaled, _ = tables(spec(RopeScaling("linear", 4.0)), torch.tensor([8, 40]))
    plain, _ = tables(spec(), torch.tensor([2, 10]))
    assert torch.allclose(scaled, plain, atol=1e-5)


def test_llama3_scaling_keeps_fast_waves_and_stretches_slow_ones() -> None:
    plain = inverse_frequencies(spec())
    ratio = plain / inverse_frequencies(spec(RopeScaling("llama3", 8.0, 8192, 1.0, 4.0)))
    wave = 2 * math.pi / plain
    assert torch.allclose(ratio[wave < 2048], torch.tensor(1.0))
    assert torch.allclose(ratio[wave > 8192], torch.tensor(8.0))
    between = ratio[(wave > 2048) & (wave < 8192)]
    assert between.numel() > 3
    assert bool((between.diff() > 0).all())
    assert attention_factor(spec(RopeScaling("llama3", 8.0, 8192))) == 1.0


def test_yarn_scaling() -> None:
    scaling = RopeScaling("yarn", 4.0, 32768)
    ratio = inverse_frequencies(spec(theta=1e6)) / inverse_frequencies(spec(scaling, theta=1e6))
    assert float(ratio[0]) == 1.0
    assert float(ratio[-1]) == pytest.approx(4.0)
    assert bool((ratio.diff() > -1e-6).all())
    assert attention_factor(spec(scaling)) == pytest.approx(0.1 * math.log(4) + 1)
    cos, _ = tables(spec(scaling), torch.tensor([0]))
    assert torch.allclose(cos, torch.tensor(0.1 * math.log(4) + 1))
    assert attention_factor(spec(RopeScaling("yarn", 4.0, 32768, attention_factor=1.5))) == 1.5


def test_longrope_changes_factors_beyond_the_original_context() -> None:
    scaling = RopeScaling("longrope", 32.0, 4096, short_factor=(1.0,) * 64, long_factor=(3.0,) * 64)
    scaled = spec(scaling)
    assert torch.allclose(inverse_frequencies(scaled, 4096), inverse_frequencies(spec()))
    assert torch.allclose(inverse_frequencies(scaled, 4097), inverse_frequencies(spec()) / 3)
    assert attention_factor(scaled) == pytest.approx(math.sqrt(1 + math.log(32) / math.log(4096)))
    short, _ = tables(scaled, torch.arange(4096))
    long, _ = tables(scaled, torch.arange(4097))
    assert not torch.allclose(short[100], long[100])


def test_impossible_scalings_are_refused() -> None:
    with pytest.raises(ConfigError, match="Did you mean llama3"):
        inverse_frequencies(spec(RopeScaling("lama3", 8.0)))
    with pytest.raises(ConfigError, match="longrope needs 64"):
        inverse_frequencies(spec(RopeScaling("longrope", 8.0, 4096, short_factor=(1.0,))))


def test_no_positions() -> None:
    cos, sin = tables(spec(), torch.arange(0))
    assert cos.shape == sin.shape == (0, 128)
