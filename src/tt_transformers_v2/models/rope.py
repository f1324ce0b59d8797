# SPDX-License-Identifier: Apache-2.0
"""Rotary position embeddings in Hugging Face's convention: a head's halves rotate against each other.

Everything is float32 and in Hugging Face's order of operations, so that tables agree to the last bits with
the model the weights were trained as, also at long positions where float32 angles are coarse.
"""

from __future__ import annotations

import math

import torch

from ..common.errors import ConfigError, did_you_mean
from .spec import ModelSpec, RopeScaling

_KINDS = ("llama3", "linear", "yarn", "longrope")


def rope_tables(spec: ModelSpec, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosines and sines for `positions` [T] (whole numbers), each float32 [T, head_dim], both halves filled.

    A scaling's attention factor is already multiplied in. With longrope the long factors hold as soon as the
    last position lies beyond the original context, as in Hugging Face: pass all positions of a forward pass.
    """
    length = int(positions.max()) + 1 if positions.numel() else 0
    angles = positions.to(torch.float32)[:, None] * inverse_frequencies(spec, length)[None, :]
    angles = torch.cat((angles, angles), dim=-1)
    factor = attention_factor(spec)
    return angles.cos() * factor, angles.sin() * factor


def apply_rope(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate queries or keys `x` [B, H, T, D] by tables [T, D] of `rope_tables`; same shape and type as x."""
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), dim=-1)
    return x * cos + turned * sin


def inverse_frequencies(spec: ModelSpec, length: int = 0) -> torch.Tensor:
    """Radians per position, float32 [head_dim / 2]; `length` (tokens) chooses among longrope's factors.

    Raises ConfigError for an unknown kind of scaling, and for longrope factors that are not head_dim / 2 many.
    """
    dim, scaling = spec.head_dim, spec.rope_scaling
    base = torch.pow(spec.rope_theta, torch.arange(0, dim, 2, dtype=torch.float32) / dim)
    if scaling is None:
        return 1.0 / base
    if scaling.kind == "linear":
        return 1.0 / base / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(1.0 / base, scaling)
    if scaling.kind == "yarn":
        return _yarn(base, spec, scaling)
    if scaling.kind == "longrope":
        factors = scaling.long_factor if length > _original(spec, scaling) else scaling.short_factor
        if len(factors) != dim // 2:
            raise ConfigError(f"longrope needs {dim // 2} short and long factors, one per pair of dimensions.")
        return 1.0 / (torch.tensor(factors, dtype=torch.float32) * base)
    raise ConfigError(f"unknown rope scaling {scaling.kind!r}.", did_you_mean(scaling.kind, _KINDS))


def attention_factor(spec: ModelSpec) -> float:
    """What multiplies cosines and sines; 1.0 but for yarn and longrope."""
    scaling = spec.rope_scaling
    if scaling is None or scaling.kind not in ("yarn", "longrope"):
        return 1.0
    if scaling.attention_factor is not None:
        return scaling.attention_factor
    if scaling.factor <= 1.0:
        return 1.0
    if scaling.kind == "yarn":
        return 0.1 * math.log(scaling.factor) + 1.0
    return math.sqrt(1.0 + math.log(scaling.factor) / math.log(_original(spec, scaling)))


def _original(spec: ModelSpec, scaling: RopeScaling) -> int:
    """Context in tokens that the model was trained with before its rotary embedding was stretched."""
    return scaling.original_max_context or spec.max_context


def _llama3(plain: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Slow waves divided by the factor, fast ones kept, those between blended. `plain` and result [D/2]."""
    original, low, high = scaling.original_max_context, scaling.low_freq_factor, scaling.high_freq_factor
    wave = 2 * math.pi / plain
    scaled = torch.where(wave > original / low, plain / scaling.factor, plain)
    smooth = (original / wave - low) / (high - low)
    blended = (1 - smooth) * scaled / scaling.factor + smooth * scaled
    between = ~(wave < original / high) & ~(wave > original / low)
    return torch.where(between, blended, scaled)


def _yarn(base: torch.Tensor, spec: ModelSpec, scaling: RopeScaling) -> torch.Tensor:
    """Blend of kept and stretched frequencies along a ramp over the dimensions. `base` and result [D/2]."""
    dim, original = spec.head_dim, _original(spec, scaling)

    def dimension(rotations: float) -> float:
        """The dimension whose wave turns that often within the original context."""
        return dim * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(spec.rope_theta))

    low = max(math.floor(dimension(scaling.beta_fast)), 0)
    high: float = min(math.ceil(dimension(scaling.beta_slow)), dim - 1)
    if low == high:
        high += 0.001  # a ramp of no width would divide by zero
    ramp = ((torch.arange(dim // 2, dtype=torch.float32) - low) / (high - low)).clamp(0, 1)
    kept = 1 - ramp
    return 1.0 / (scaling.factor * base) * (1 - kept) + 1.0 / base * kept
