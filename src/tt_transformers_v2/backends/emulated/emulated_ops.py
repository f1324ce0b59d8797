# SPDX-License-Identifier: Apache-2.0
"""What the card computes, on this machine.

Tensors are rounded to their formats exactly as the host packs them. With numerics "exact", every linear, both products
of attention and the residual additions have the matrix unit's own bits; with "fast", operands are cut to the bits their
fidelity uses and sums are float32. With either, attention, norms, the rotary embedding, silu and what the device
converts take the steps of ttnn's kernels (`numerics.flash_attention`, `vector_unit`, `typecast`). Products of matrices
that are split by their inputs over tensor-parallel chips are computed chip by chip and added as `tensor_parallel` says.
"""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ...common.units import TILE
from ...hardware.enums import DataFormat
from ...hardware.op_table import DECODE, MATRICES, NORM, PREFILL, RESIDUAL_ADD, SDPA, SILU_MUL, ModelOp
from ...hardware.schema import DeviceConfig
from ...models.decoder import LayerWeights
from ...models.layer_spec import AttentionSpec, ExpertsSpec, MlpSpec
from ...models.spec import ModelSpec
from ...numerics import quantize
from ...numerics.flash_attention import flash_attention
from ...numerics.packer import pack_output
from ...numerics.typecast import typecast
from ...numerics.vector_unit import limited_product, product, rms_norm, rope, silu_product
from ...perf.ops import padded_prompt
from ...planning.dst import dst_tiles
from ...planning.op_plans import OpPlans, Planned
from ...planning.plans import SdpaPlan
from ..reference import HostLayout, activation, largest, route
from .card_heads import CardHeads, from_card, to_card
from .matrix_units import ExactUnit, FastUnit, MatrixUnit
from .prepared_weights import KEPT_FORMATS, PackedMatrices, PreparedWeights
from .tensor_parallel import ONE_CHIP, TensorParallel

_QKV = MATRICES["wqkv"]


class EmulatedOps(HostLayout):
    """models.decoding.PhasedOps under a hardware configuration, in prefill unless `in_phase` says otherwise.

    `prepared` keeps weights for further runs in memory, `packed` in a place of its own; without `tensor_parallel`
    everything is computed as on one chip. `plans` decide how many tiles of K a matmul takes at a time; without any they
    are the configuration's own. `used` and `attended` are what they decided, by configuration, op, phase and shape.
    """

    name = "emulated"

    def __init__(
        self,
        hardware: DeviceConfig,
        numerics: str = "fast",
        prepared: PreparedWeights | None = None,
        *,
        packed: PackedMatrices | None = None,
        plans: OpPlans | None = None,
        tensor_parallel: bool = True,
    ) -> None:
        self.hardware = hardware
        self.numerics = numerics
        self.prepared = prepared
        self.packed = packed
        self.phase = PREFILL
        self.rows: int | None = None  # of the matmul that a linear is a part of, where it is not all
        self.plans = OpPlans(hardware) if plans is None else plans
        self.used: dict[tuple[int, str, str, int, int], UsedProgram] = {}
        self.attended: dict[tuple[int, str, int, int | None], tuple[str, DeviceConfig, SdpaPlan, str]] = {}
        self.chips = TensorParallel.of(hardware) if tensor_parallel else ONE_CHIP
        self._residual = format_name(hardware.activations(RESIDUAL_ADD))
        self._heads: CardHeads | None = None
        self.unit: MatrixUnit = ExactUnit(hardware.spec.chip.arch) if numerics == "exact" else FastUnit()

    def at_layer(self, layer: int) -> EmulatedOps:
        own = self.hardware.for_layer(layer)
        if own is self.hardware and not self.plans.fitted:
            return self
        changed = self._changed(own, self.phase)
        changed.plans = self.plans.at_layer(layer)
        changed.chips = ONE_CHIP if self.chips is ONE_CHIP else TensorParallel.of(own)  # a layer may have its own `ccl`
        return changed

    def in_phase(self, phase: str) -> EmulatedOps:
        return self if phase == self.phase else self._changed(self.hardware, phase)

    def _changed(self, hardware: DeviceConfig, phase: str) -> EmulatedOps:
        changed = copy.copy(self)
        changed.hardware, changed.phase = hardware, phase
        changed._residual = format_name(hardware.activations(RESIDUAL_ADD))
        return changed

    def for_heads(self, spec: ModelSpec) -> EmulatedOps:
        heads = CardHeads.of(spec)
        if heads == self._heads:
            return self
        changed = copy.copy(self)
        changed._heads = heads
        return changed

    def _heads_of(self, op: ModelOp) -> CardHeads | None:
        return self._heads if op is _QKV else None

    def matrix(self, weight: Tensor, op: ModelOp) -> Any:
        if self.prepared is None:
            return self._made_ready(self._packed(weight, op), op)
        stored, fidelity = self._stored(op), self.hardware.kernel(op, self.phase).math_fidelity
        how = (self.numerics, stored, fidelity, self.chips.chips(op), self._heads_of(op))
        return self.prepared.get(weight, how, lambda: self._made_ready(self._packed(weight, op), op))

    def layer_matrix(self, weights: LayerWeights, name: str, op: ModelOp) -> Any:
        kept, stored = self.packed, self._stored(op)
        if kept is None or kept.fingerprint != weights.source.fingerprint or stored not in KEPT_FORMATS:
            return self.matrix(weights[name], op)
        named = f"{weights.layer}.{name}.{stored}" + (".heads" if self._heads_of(op) is not None else "")
        packed = kept.get(named)
        if packed is None:
            packed = self._packed(weights[name], op)
            kept.add(named, packed)
        return self._made_ready(packed, op)

    def _stored(self, op: ModelOp) -> str:
        return format_name(self.hardware.precision.of(op.tensor_group))

    def _packed(self, weight: Tensor, op: ModelOp) -> Tensor:
        """A matrix [in, out] as it is stored, before it is split over chips."""
        heads = self._heads_of(op)
        return quantize(weight if heads is None else heads.columns(weight), self._stored(op))

    def _made_ready(self, packed: Tensor, op: ModelOp) -> Any:
        """What `linear` takes: a matrix prepared for the unit, or its parts by chip."""
        kernel, chips = self.hardware.kernel(op, self.phase), self.chips.chips(op)
        if chips == 1:
            return self.unit.prepare(packed, kernel)
        parts = [packed[part] for part in self.chips.parts(op, len(packed), chips)]
        return [self.unit.prepare(_deeper(part, len(parts[0])), kernel) for part in parts]

    def vector(self, weight: Tensor) -> Tensor:
        return quantize(weight, "bf16")

    def embed(self, tokens: Tensor, table: Tensor) -> Tensor:
        # Assumed: a table in a block format was bf16 before, and converted as the device does.
        rows = quantize(functional.embedding(tokens, table), "bf16")
        return self.rounded(typecast(rows, format_name(self.hardware.precision.embedding)))

    def linear(self, x: Tensor, weight: Any, bias: Tensor | None, op: ModelOp) -> Tensor:
        heads = self._heads_of(op)
        if heads is None:
            return self._linear(x, weight, bias, op)
        return heads.canonical_columns(self._linear(x, weight, None if bias is None else heads.columns(bias), op))

    def _linear(self, x: Tensor, weight: Any, bias: Tensor | None, op: ModelOp) -> Tensor:
        out = self._out(op)
        if self._converts(op):
            x = quantize(x, out)
        kernel = self.hardware.kernel(op, self.phase)
        depth, columns = (weight[0] if isinstance(weight, list) else weight).shape[-2:]
        block = self._block(op, self.rows or x.shape[-2], depth, columns)
        if not isinstance(weight, list):
            return self.unit.linear(x, weight, bias, kernel, out, block)
        chips = self.chips.chips(op)
        parts = [x[..., part] for part in self.chips.parts(op, x.shape[-1], chips)]
        products = [
            self.unit.linear(_wider(part, depth), own, None, kernel, out, block)
            for part, own in zip(parts, weight, strict=True)
        ]
        if op.inputs_over == "heads":
            return torch.stack(products)  # for `reduce`
        summed = self._total(products, chips, out)
        return summed if bias is None else self.unit.add(summed, bias, out)

    def _converts(self, op: ModelOp) -> bool:
        """What gated gave is in the MLP's format, everything else in the residual stream's: rounding again is for a
        change of format."""
        return not (op.half == "mlp" and op.inputs_over == "heads") and self._out(op) != self._residual

    def operand(self, x: Tensor, op: ModelOp) -> Tensor:
        """Float32 `x` in the format in which a product with the matrix of `op` takes its activations."""
        if op.half == "mlp" and op.inputs_over == "heads":
            return quantize(x, self._out(op))
        rounded = self.rounded(x)
        return quantize(rounded, self._out(op)) if self._converts(op) else rounded

    def sums(self, x: Tensor, weight: Any, op: ModelOp, *, wide: bool, rows: int | None = None) -> Tensor:
        """What `linear` computes of `operand(x)` before it is packed, chips' parts added in float32.

        wide: in a Dst of float32, whatever the kernel says. rows: of the matmul that these are a part of.
        """
        kernel = self.hardware.kernel(op, self.phase)
        parts = weight if isinstance(weight, list) else [weight]
        depth, columns = parts[0].shape[-2:]
        block = self._block(op, rows or x.shape[-2], depth, columns)
        if wide:
            kernel = dataclasses.replace(kernel, fp32_dest_acc_en=True)
        chips = self.chips.chips(op)
        slices = self.chips.parts(op, x.shape[-1], chips) if chips > 1 else [slice(None)]
        total: Tensor | None = None
        for own, part in zip(parts, slices, strict=True):
            product = self.unit.linear(_wider(x[..., part], depth), own, None, kernel, "fp32", block)
            total = product if total is None else total + product
        assert total is not None
        heads = self._heads_of(op)
        return total if heads is None else heads.canonical_columns(total)

    def _block(self, op: ModelOp, tokens: int, depth: int, columns: int) -> int:
        """in0_block_w of the plan of a chip's product [tokens, depth] x [depth, columns of all chips]."""
        key = (id(self.hardware), op.name, self.phase, tokens, depth)
        if (known := self.used.get(key)) is not None:
            return known.planned.plan.in0_block_w
        # Of a prompt the LM head sees the last tile.
        rows = self.plans.users if self.phase == DECODE else TILE if op.one_tile else self._padded(tokens)
        _, outputs = self.plans.parts.get(op.matrix, (depth, self.chips.own_columns(op, columns)))
        planned = self.plans.matmul(op, self.phase, rows, depth, outputs)
        self.used[key] = UsedProgram(op, self.phase, self.hardware, planned)
        return planned.plan.in0_block_w

    def reduce(self, x: Tensor, op: ModelOp) -> Tensor:
        if x.ndim == 3:  # whole on one chip
            return x
        return self._total(list(x), self.chips.heads, self._out(op))

    def _total(self, products: list[Tensor], chips: int, out: str) -> Tensor:
        return self.chips.total(products, chips, out, self.unit, decode=self.phase == DECODE)

    def norm_all_heads(self, qkv: Tensor, q_norm: Tensor, k_norm: Tensor, spec: ModelSpec) -> Tensor:
        heads = self._heads
        if heads is None:
            return super().norm_all_heads(qkv, q_norm, k_norm, spec)
        norms = heads.of_norm(q_norm), heads.of_norm(k_norm)
        return heads.canonical_columns(super().norm_all_heads(heads.columns(qkv), *norms, spec))

    def rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        if x.ndim == 4 and self._heads is not None:
            return from_card(self._rms_norm(to_card(x), self._heads.of_norm(weight), eps))
        return self._rms_norm(x, weight, eps)

    def _rms_norm(self, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        kernel = self.hardware.kernel(NORM, self.phase)
        return rms_norm(
            x,
            weight,
            eps,
            math_fidelity=kernel.math_fidelity.value,
            fp32_dest_acc_en=kernel.fp32_dest_acc_en,
            out="bf16" if x.ndim == 4 else self._residual,  # heads are bf16 whatever the activations are
        )

    def rope(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        return rope(x, cos, sin)

    def attention(self, q: Tensor, k: Tensor, v: Tensor, kind: AttentionSpec, sinks: Tensor | None) -> Tensor:
        kernel = self.hardware.kernel(SDPA, self.phase)
        stored = format_name(self.hardware.precision.kv_cache)
        if self._heads is not None:
            q, k = to_card(q), to_card(k)
        k, v = self._attended_to(typecast(k, stored), typecast(v, stored))
        plan = self._attention_plan(q.shape[-2], kind.window)
        return flash_attention(
            q,
            k,
            v,
            lambda x, y, out: self.unit.matmul(x, y, kernel, out),
            math_fidelity=kernel.math_fidelity.value,
            fp32_dest_acc_en=kernel.fp32_dest_acc_en,
            # Where ttnn chooses, as many tiles as Dst holds; of fewer keys it takes fewer, in one chunk all the same.
            k_chunk=plan.k_chunk_size or TILE * dst_tiles(kernel.fp32_dest_acc_en),
            window=kind.window,
            scale=kind.scale,
            cap=kind.cap,
            sinks=sinks,
            exp_approx=plan.exp_approx_mode,
        )

    def _attention_plan(self, tokens: int, window: int | None) -> SdpaPlan:
        rows = self.plans.users if self.phase == DECODE else self._padded(tokens)
        plan, origin = self.plans.attention(self.phase, rows, window=window)
        if self.phase == DECODE:
            # Whatever is typed: the simulator showed no difference in decode, and the approximate one's error.
            plan = dataclasses.replace(plan, exp_approx_mode=True)
        self.attended[id(self.hardware), self.phase, rows, window] = (self.phase, self.hardware, plan, origin)
        return plan

    def _padded(self, tokens: int) -> int:
        """Rows of a prompt, or of a chunk of it, as the device has them."""
        return min(padded_prompt(tokens), self.hardware.max_prefill_chunk_size)

    def gated(self, gate: Tensor, up: Tensor, mlp: MlpSpec) -> Tensor:
        out = self._out(SILU_MUL)
        if mlp.limit is not None:
            return limited_product(gate, up, mlp.limit, mlp.alpha, out)
        if mlp.activation == "silu":
            return silu_product(gate, up, out)
        return product(pack_output(quantize(activation(gate, mlp.activation), "bf16"), out, False), up, out)

    def activated(self, x: Tensor, mlp: MlpSpec) -> Tensor:
        return pack_output(quantize(activation(x, mlp.activation), "bf16"), self._out(SILU_MUL), False)

    def biased(self, x: Tensor, bias: Tensor, op: ModelOp) -> Tensor:
        return self.unit.add(x, bias.expand_as(x), self._out(op))

    def route(self, scores: Tensor, experts: ExpertsSpec) -> tuple[Tensor, Tensor]:
        # Assumed: ttnn's softmax is float32's between bf16 tensors, and so are the sum and the quotient after top-k.
        if experts.router == "top_k_then_softmax":
            chosen, shares = route(quantize(scores, "bf16"), experts)
            return chosen, quantize(shares, "bf16")
        shares, chosen = largest(quantize(torch.softmax(scores, dim=-1), "bf16"), experts.top_k)
        if experts.normalised:
            shares = quantize(shares / quantize(shares.sum(dim=-1, keepdim=True), "bf16"), "bf16")
        return chosen, shares

    def for_experts(self, rows: int) -> EmulatedOps:
        # Every expert's matmul is assumed to be that of all rows: the plan, and so the block of K, follows from them.
        changed = copy.copy(self)
        changed.rows = rows
        return changed

    def shared_out(self, x: Tensor, share: Tensor) -> Tensor:
        return product(x, share, self._residual)

    def scaled(self, x: Tensor, gate: Tensor) -> Tensor:
        return product(x, quantize(torch.sigmoid(gate), "bf16"), self._residual)

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        return self.unit.add(x, y, self._residual)

    def _out(self, op: ModelOp) -> str:
        return format_name(self.hardware.activations(op))

    def rounded(self, x: Tensor) -> Tensor:
        """x in the format of the residual stream and of what feeds attention: the attention path's activations."""
        return quantize(x, self._residual)


@dataclass(frozen=True)
class UsedProgram:
    """The plan that a matmul was computed by."""

    op: ModelOp
    phase: str
    hardware: DeviceConfig
    planned: Planned


def _deeper(weight: Tensor, depth: int) -> Tensor:
    """A chip's part of a matrix with rows of zeros up to `depth`: on the device the parts of all chips are alike."""
    return weight if len(weight) == depth else functional.pad(weight, (0, 0, 0, depth - len(weight)))


def _wider(x: Tensor, depth: int) -> Tensor:
    """The same for the activations that meet it."""
    return x if x.shape[-1] == depth else functional.pad(x, (0, depth - x.shape[-1]))


def format_name(data_format: DataFormat) -> str:
    """The name `numerics` uses for a tensor format."""
    return data_format.value.lower()
