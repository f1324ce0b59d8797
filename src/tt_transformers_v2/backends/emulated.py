# SPDX-License-Identifier: Apache-2.0
"""What the card computes, on this machine.

Tensors are rounded to their formats exactly as the host packs them. With numerics "exact", every linear, both products
of attention and the residual additions have the matrix unit's own bits; with "fast", operands are cut to the bits their
fidelity uses and sums are float32. The vector unit (norm, rotary embedding, softmax, silu) is float32 rounded to the
activation format: not bit exact. Tensor-parallel sums are taken as on one chip.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..hardware.schema import DataFormat, DeviceConfig
from ..models.rope import apply_rope
from ..numerics import quantize
from .matrix_units import ExactUnit, FastUnit, MatrixUnit
from .prepared import PreparedWeights
from .reference import HostLayout, causal_mask, repeat_kv_heads, rms_norm

_MLP_GROUPS = ("ff1_ff3", "ff2")


class EmulatedOps(HostLayout):
    """models.decoder.Ops under a hardware configuration. `prepared` keeps weights for further runs."""

    name = "emulated"

    def __init__(self, hardware: DeviceConfig, numerics: str = "fast", prepared: PreparedWeights | None = None) -> None:
        self.hardware = hardware
        self.numerics = numerics
        self.prepared = prepared
        self._residual = format_name(hardware.precision.of("attention_activations"))
        self.unit: MatrixUnit = ExactUnit(hardware.spec.chip.arch) if numerics == "exact" else FastUnit()

    def at_layer(self, layer: int) -> EmulatedOps:
        own = self.hardware.for_layer(layer)
        return self if own is self.hardware else EmulatedOps(own, self.numerics, self.prepared)

    def matrix(self, weight: Tensor, tensor_group: str, op_group: str) -> Any:
        stored, kernel = format_name(self.hardware.precision.of(tensor_group)), self._kernel(op_group)

        def make() -> Any:
            return self.unit.prepare(quantize(weight, stored), kernel)

        if self.prepared is None:
            return make()
        return self.prepared.get(weight, (self.numerics, stored, kernel.math_fidelity), make)

    def vector(self, weight: Tensor) -> Tensor:
        return quantize(weight, "bf16")

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        rows = functional.embedding(tokens, table)
        return self.rounded(quantize(rows, format_name(self.hardware.precision.embedding)))

    def linear(self, x: Tensor, weight: Any, bias: Tensor | None, op_group: str) -> Tensor:
        out = self._activations(op_group)
        # What gated gave is in the MLP's format, everything else in the residual stream's: rounding again is for a
        # change of format.
        if op_group != "ff2" and out != self._residual:
            x = quantize(x, out)
        return self.unit.linear(x, weight, bias, self._kernel(op_group), out)

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        return self.rounded(rms_norm(x, weight, eps))

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return self.rounded(apply_rope(x, cos, sin))

    def attention(self, q: Tensor, k: Tensor, v: Tensor, window: int | None) -> Tensor:
        kernel = self._kernel("sdpa_prefill")
        cache = format_name(self.hardware.precision.kv_cache)
        k, v = repeat_kv_heads(quantize(k, cache), q), repeat_kv_heads(quantize(v, cache), q)
        scores = self.unit.matmul(q, k.transpose(-1, -2), kernel, "bf16") * q.shape[-1] ** -0.5
        shares = torch.softmax(scores + causal_mask(q.shape[-2], window), dim=-1)
        return self.unit.matmul(quantize(shares, "bf16"), v, kernel, self._activations("sdpa"))

    def gated(self, gate: Tensor, up: Tensor) -> Tensor:
        return quantize(functional.silu(gate) * up, self._activations("ff2"))

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return self.unit.add(x, y, self._residual)

    def _kernel(self, op_group: str) -> Any:
        # Accuracy is measured on whole windows, so the prefill settings apply where they differ from decode.
        return self.hardware.compute_for({"qkv": "qkv_prefill", "o": "o_prefill"}.get(op_group, op_group))

    def _activations(self, op_group: str) -> str:
        precision = self.hardware.precision
        mlp = op_group in _MLP_GROUPS
        return format_name(precision.of("mlp_activations" if mlp else "attention_activations"))

    def rounded(self, x: Tensor) -> Tensor:
        """x in the format of the residual stream and of what feeds attention: the attention path's activations."""
        return quantize(x, self._residual)


def format_name(data_format: DataFormat) -> str:
    """The name `numerics` uses for a tensor format."""
    return data_format.value.lower()
