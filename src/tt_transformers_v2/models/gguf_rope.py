# SPDX-License-Identifier: Apache-2.0
"""Rotary tables of a GGUF file, said as config.json says them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .families import Family
from .gguf_file import GgufFile, dequantisable, dequantised
from .rotary_spec import RopeScaling

if TYPE_CHECKING:
    from .gguf_config import Metadata

_LLAMA3 = "rope_freqs.weight"
# Tensors that are read with the metadata.
OF_METADATA = (_LLAMA3, "rope_factors_long.weight", "rope_factors_short.weight")
_WINDOWS_BASE = 10000.0  # llama.cpp's base for gemma's layers with a window where the file has none


def rope_values(data: Metadata, family: Family, head_dim: int, *, truncate: bool) -> dict[str, Any]:
    """`rope_parameters` and, where layers with a window have a table of their own, its base.

    `truncate`: as RopeScaling's. Raises ConfigError for a scaling that is not known or contradicts itself.
    """
    theta = data.positive("rope.freq_base", 10000.0)
    rope: dict[str, Any] = {"rope_theta": theta}
    rotated = data.whole("rope.dimension_count", head_dim)
    if data.whole("rope.dimension_count_swa", rotated) != rotated:
        raise data.fail("heads of layers with a window rotate otherwise, which is not supported.")
    if rotated != head_dim:
        if family.partial is None:
            raise data.fail(
                f"it rotates {rotated} of a head's {head_dim} dimensions; only rotating all of them is supported."
            )
        # A little more, so that whole dimensions come out of a division that was rounded.
        rope["partial_rotary_factor"] = (rotated + 0.25) / head_dim
    if data.get("rope.scaling.finetuned") is False and family.name == "granite":
        raise data.fail("metadata granite.rope.scaling.finetuned = False (no rotary embedding) is not supported.")
    rope |= _scaling(data, rotated, theta, truncate=truncate)
    # Phi-3's config.json says it beside the table, which goes before the class's own default.
    beside = {key: rope[key] for key in ("original_max_position_embeddings",) if key in rope}
    if family.query_beta and data.given("attention.temperature_scale"):
        rope["llama_4_scaling_beta"] = data.positive("attention.temperature_scale")
    windowed = data.positive("rope.freq_base_swa", _WINDOWS_BASE if family.own_window_rope else theta)
    if family.own_window_rope:
        return beside | {"rope_parameters": rope, family.own_window_rope: windowed}
    if windowed != theta:
        raise data.fail(f"metadata {data.architecture}.rope.freq_base_swa = {windowed} is not supported.")
    return beside | {"rope_parameters": rope}


def _scaling(data: Metadata, rotated: int, theta: float, *, truncate: bool) -> dict[str, Any]:
    """The scaling of the frequencies: its type and numbers, or what llama.cpp stores in their place."""
    file, context = data.file, data.whole("context_length", 131072)
    original = context
    if data.given("rope.scaling.original_context_length"):
        original = data.whole("rope.scaling.original_context_length")
    stored = [name for name in OF_METADATA if name in file.tensors]
    if stored == [_LLAMA3]:
        return _llama3(data, rotated, theta)
    if _LLAMA3 in stored:
        raise data.fail(f"it has both {_LLAMA3!r} and {stored[-1]!r}.")
    if stored:
        return _longrope(data, rotated, context, original)
    kind = data.get("rope.scaling.type", "linear" if data.given("rope.scaling.factor") else "none")
    if kind == "none":
        return {}
    if kind not in ("linear", "yarn"):
        raise data.fail(f"rope scaling {str(kind)[:40]!r} is not supported (only linear and yarn are).")
    factor = data.positive("rope.scaling.factor")
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    scaling: dict[str, Any] = {
        "rope_type": "yarn",
        "factor": factor,
        "original_max_position_embeddings": original,
        "beta_fast": data.positive("rope.scaling.yarn_beta_fast", 32.0),
        "beta_slow": data.positive("rope.scaling.yarn_beta_slow", 1.0),
        "truncate": truncate,
    }
    attention = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
    if data.given("rope.scaling.yarn_log_multiplier"):
        multiplier = data.positive("rope.scaling.yarn_log_multiplier")
        scaling |= {"mscale": 1.0, "mscale_all_dim": multiplier}
        attention /= 0.1 * multiplier * math.log(factor) + 1 if factor > 1 else 1.0
    # What the converter copies from config.json is the whole factor; the other one multiplies it.
    given = data.get("rope.scaling.yarn_attn_factor", 1.0)
    if given not in (-1, 1):
        attention = scaling["attention_factor"] = data.positive("rope.scaling.yarn_attn_factor")
    if data.get("rope.scaling.attn_factor", 1.0) not in (0, 1):
        scaling["attention_factor"] = attention * data.positive("rope.scaling.attn_factor")
    return scaling


def _longrope(data: Metadata, rotated: int, context: int, original: int) -> dict[str, Any]:
    found: dict[str, Any] = {"rope_type": "longrope", "original_max_position_embeddings": original}
    if data.get("rope.scaling.type", "longrope") != "longrope":
        raise data.fail(f"it has factors of longrope, but rope.scaling.type is {data.get('rope.scaling.type')!r}.")
    for length in ("long", "short"):
        values = _vector(data.file, f"rope_factors_{length}.weight", rotated // 2)
        if values is None:
            raise data.fail(f"'rope_factors_{length}.weight' must have {rotated // 2} numbers.")
        found[f"{length}_factor"] = [float(f"{value:.7g}") for value in values]
    usual = math.sqrt(1 + math.log(context / original) / math.log(original)) if context > original > 1 else 1.0
    stored = data.positive("rope.scaling.attn_factor", usual)
    if not math.isclose(stored, usual, rel_tol=1e-6):
        found["attention_factor"] = stored
    return found


def _llama3(data: Metadata, rotated: int, theta: float) -> dict[str, Any]:
    """Llama 3's scaling from its divisors: only they are stored, and the usual constants must reproduce them."""
    stored = _vector(data.file, _LLAMA3, rotated // 2)
    scaling = None if stored is None else RopeScaling("llama3", float(f"{stored.max():.7g}"), 8192)
    if (
        stored is None
        or scaling is None
        or not np.allclose(stored, llama3_divisors(rotated, theta, scaling), rtol=1e-3)
    ):
        raise data.fail(f"the rotary factors in {_LLAMA3!r} are not Llama 3's.")
    return {
        "rope_type": "llama3",
        "factor": scaling.factor,
        "original_max_position_embeddings": scaling.original_max_context,
        "low_freq_factor": scaling.low_freq_factor,
        "high_freq_factor": scaling.high_freq_factor,
    }


def llama3_divisors(rotated: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    """What Llama 3's scaling divides each of the `rotated` / 2 frequencies of base `theta` by."""
    wave = 2 * math.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = np.clip((scaling.original_max_context / wave - low) / (high - low), 0, 1)
    with np.errstate(all="ignore"):  # a corrupt factor of 0 is found out by the comparison
        return 1 / ((1 - smooth) / np.float64(scaling.factor) + smooth)


def _vector(file: GgufFile, name: str, length: int) -> np.ndarray | None:
    """A stored vector of that length, None for another one."""
    tensor = file.tensors.get(name)
    if tensor is None or tensor.shape != (length,) or not dequantisable(tensor.kind):
        return None
    return dequantised(file, tensor, slice(0, 1)).ravel()
