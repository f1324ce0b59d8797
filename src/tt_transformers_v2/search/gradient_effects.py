# SPDX-License-Identifier: Apache-2.0
"""The KL of single changes, estimated from gradients: half the squared effect on the logits in the Fisher metric.

Derivation. Let z_s be the logits at position s, p_s their softmax, and let a change move what a matrix product gives at
position t by e_t. To first order z_s moves by d_s = sum over t <= s of J_st e_t. To second order

    KL_s = KL(softmax(z_s) || softmax(z_s + d_s)) = 1/2 d_s' F_s d_s,   F_s = diag(p_s) - p_s p_s'.

F_s is the covariance of the score v_s = onehot(c_s) - p_s of a label c_s drawn from p_s, so KL_s = 1/2 E[(v_s' d_s)^2].
One backward pass of L = sum over s of log p_s(c_s) gives g_t = sum over s >= t of J_st' v_s at every product at once.
Scores of different positions are independent and have mean 0, so that

    E[(sum over t of g_t' e_t)^2] = sum over s of E[(v_s' d_s)^2] = 2 sum over s of KL_s.

This is unbiased, but a single number squared: its standard deviation is 1.4 times its mean. If errors at different
positions are uncorrelated in their effect, the mixed terms vanish in the mean, and

    KL per position = 1/(2 P) sum over t of (g_t' e_t)^2

has as many terms as there are positions P (times samples of labels), and far less scatter. What is left out where
errors do add up over positions, and everything beyond first order, is what a few measured changes are compared for.

Errors. e_t = cut(x) cut(round(W)) - x W, for x the reference's activations in the format of activations, W its weights,
round the format, and cut what the fidelity leaves of each operand (`numerics.fidelity`): a format's and a fidelity's
effect in one. A KL is a sum of squares of independent errors, so a change from one option to another is the difference
of theirs. What a bf16 Dst adds is the difference between two products of `numerics.fast_matmul` with the same operands.
It is computed for every few positions and taken as independent of the rest: `dst`. Options of the KV cache and of
attention: e_t is the emulated attention on the reference's q, k and v minus the reference's. The LM head needs no
gradient: its errors are those of the logits, and KL is computed from them. Left out: what packing the product to the
format of activations does, which is the same for all options.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backends.emulated.emulated_ops import EmulatedOps
from ..backends.reference import ReferenceOps
from ..hardware.op_table import LM_HEAD, SDPA
from ..models.decoder import final_hidden
from ..models.weights import WeightSource
from ..numerics import quantize
from .gradients import Attended, LayerPass, Product

# Positions at which the effect of a bf16 Dst is computed, of all windows in memory together.
DST_POSITIONS = 32
# Columns of the LM head that are rounded at a time: whole blocks of every format.
_COLUMNS = 16384
# Positions whose distributions over the vocabulary are compared at a time.
_ROWS = 32


@dataclass(frozen=True)
class Effects:
    """Sums over positions and samples of labels of (g' e)^2: for what format and fidelity do to the operands, and for
    what a bf16 Dst adds. To be divided by twice the number of terms."""

    operands: float = 0.0
    dst: float = 0.0

    def plus(self, other: Effects, sign: int = 1) -> Effects:
        """The sum, or with -1 the difference."""
        return Effects(self.operands + sign * other.operands, self.dst + sign * other.dst)


@dataclass(frozen=True)
class Candidate:
    """An option of a site, as the ops that compute a layer with it; `weights` has the matrices that it rounds in a way
    of its own (None: the reference's, packed)."""

    site: str
    name: str
    ops: EmulatedOps
    weights: WeightSource | None = None


def layer_effects(seen: LayerPass, candidates: Sequence[Candidate]) -> dict[tuple[str, str], Effects]:
    """(site, name) -> the effects of each candidate compared with the reference, from some windows in one layer.

    Candidates of one site differ in nothing but its format and kernel. What the layer does not have is left out.
    """
    operands: dict[tuple[str, str], Tensor] = {}
    dst: dict[tuple[str, str], Tensor] = {}
    for product in seen.products:
        own = [candidate for candidate in candidates if candidate.site == product.op.tensor_group]
        x = own[0].ops.operand(product.x, product.op) if own else product.x
        exact = x @ product.weight if own else x
        for candidate in own:
            key = (candidate.site, candidate.name)
            weight = product.weight
            if candidate.weights is not None:
                weight = candidate.weights.tensor(product.name, seen.layer)
            error, wide = _product_error(candidate.ops, product, weight, x, exact)
            operands[key] = operands.get(key, 0) + _along(product.gradients, error)
            if wide is not None:
                dst[key] = dst.get(key, 0) + _along(product.gradients, wide, _every(product.x))
    for attended in seen.attended:
        for candidate in candidates:
            if candidate.site == SDPA.tensor_group:
                error = _attention_error(candidate.ops, attended)
                # Heads are part of what the sum goes over.
                gradients = [gradient.transpose(1, 2).flatten(2) for gradient in attended.gradients]
                operands[candidate.site, candidate.name] = _along(gradients, error.transpose(1, 2).flatten(2))
    return {key: _squared(effect, dst.get(key)) for key, effect in operands.items()}


def _product_error(
    ops: EmulatedOps, product: Product, weight: Tensor, x: Tensor, exact: Tensor
) -> tuple[Tensor, Tensor | None]:
    """The error of a product with `weight` in float32 sums, and what a bf16 Dst adds to it at every few positions
    (None: it has a float32 Dst)."""
    matrix = ops.matrix(weight, product.op)
    error = ops.sums(x, matrix, product.op, wide=True).sub_(exact)
    if ops.hardware.kernel(product.op, ops.phase).fp32_dest_acc_en:
        return error, None
    some = x[:, _every(x)]
    narrow = ops.sums(some, matrix, product.op, wide=False, rows=x.shape[1])
    return error, narrow.sub_(ops.sums(some, matrix, product.op, wide=True, rows=x.shape[1]))


def _attention_error(ops: EmulatedOps, attended: Attended) -> Tensor:
    q, k, v = (quantize(x, "bf16") for x in (attended.q, attended.k, attended.v))
    exact = ReferenceOps().attention(q, k, v, attended.kind, attended.sinks)
    return ops.attention(q, k, v, attended.kind, attended.sinks) - exact


def _every(x: Tensor) -> slice:
    """Positions of x [windows, T, ...] at which a bf16 Dst is computed: evenly spread, DST_POSITIONS over windows."""
    each = max(DST_POSITIONS // x.shape[0], 1)
    step = max(x.shape[1] // each, 1)
    return slice(step - 1, None, step)


def _along(gradients: Sequence[Tensor], error: Tensor, rows: slice = slice(None)) -> Tensor:
    """g' e for each sample, window and position: [samples, windows, positions]."""
    return torch.stack([torch.einsum("wtn,wtn->wt", gradient[:, rows], error) for gradient in gradients])


def _squared(operands: Tensor, dst: Tensor | None) -> Effects:
    added = 0.0
    if dst is not None:
        added = float(dst.double().square().sum()) * operands.shape[-1] / dst.shape[-1]
    return Effects(float(operands.double().square().sum()), added)


def head_kl(source: WeightSource, last: Tensor, candidates: Sequence[EmulatedOps]) -> list[float]:
    """The KL per position that each candidate's LM head has alone, on the last layer's outputs `last`
    [windows, T, hidden] of the reference; the effect of a bf16 Dst is not in it."""
    spec, plain = source.spec, ReferenceOps()
    hidden = final_hidden(plain, spec, source, last).flatten(0, 1)
    head = source.tensor(LM_HEAD.matrix)
    x = candidates[0].operand(hidden, LM_HEAD)
    logits = hidden @ head
    errors = [torch.empty_like(logits) for _ in candidates]
    for start in range(0, head.shape[1], _COLUMNS):
        columns = slice(start, start + _COLUMNS)
        exact = x @ head[:, columns]
        for ops, error in zip(candidates, errors, strict=True):
            matrix = ops.matrix(head[:, columns].contiguous(), LM_HEAD)
            error[:, columns] = ops.sums(x, matrix, LM_HEAD, wide=True).sub_(exact)
    cap = spec.logit_cap
    found = []
    for error in errors:
        total = 0.0
        for rows in range(0, len(logits), _ROWS):
            before = logits[rows : rows + _ROWS]
            after = before + error[rows : rows + _ROWS]
            if cap is not None:
                before, after = plain.capped(before, cap), plain.capped(after, cap)
            log_p, log_q = torch.log_softmax(before, -1), torch.log_softmax(after, -1)
            total += float((log_p.exp() * (log_p - log_q)).sum(-1).double().sum())
        found.append(total / len(logits))
    return found
