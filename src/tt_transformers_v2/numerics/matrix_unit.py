# SPDX-License-Identifier: Apache-2.0
"""The Tensix matrix unit, bit for bit ("numerics: exact").

`matmul` gives the bits that the device gives: the unit's own arithmetic (stated in `exact_integer.py`, computed by
`exact_float.py` wherever exponents are not extreme, and some 50 times slower by `exact_integer.py` where they are),
the blocks of K around it (`blocks.py`) and the packer (`packer.py`).

Operands: bf16, or bfp8 and bfp4, whose values are all bf16 numbers; or fp32, of which the unit reads the upper 19
bits (tf32). A format only says which values may come: the arithmetic depends on the values alone. For a transposed
operand that was rounded to a block format along the other dimension say "bf16". Zero and subnormal operands are
zero, infinity and NaN are ordinary numbers of exponent 255; results are finite or infinite, never NaN or -0.

Source: the public Tensix ISA documentation (MVMUL, ELWADD, ELWSUB, ELWMUL, packers) and ttsim 1.10.0; checked against
golden arrays of ttsim for Wormhole and Blackhole, with 0 differing bits (tests/numerics/test_matrix_unit.py). Nothing
was checked on a card. fp32 operands were checked with an fp32 Dst only.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from tt_transformers_v2.common.units import TILE
from tt_transformers_v2.numerics import exact_integer
from tt_transformers_v2.numerics.accumulation import Accumulation, float_bits
from tt_transformers_v2.numerics.blocks import run_blocks
from tt_transformers_v2.numerics.compiled import kernel, run_split
from tt_transformers_v2.numerics.fidelity import phases_of
from tt_transformers_v2.numerics.formats import as_float32, bits_array, common_batch, quantize
from tt_transformers_v2.numerics.packer import OUTPUTS, check_output, pack_output

ARCHITECTURES = ("wormhole", "blackhole")
WEIGHT_FORMATS = ("bf16", "bfp8", "bfp4", "fp32")
OPERATIONS = {"add": exact_integer.ADD, "sub": exact_integer.SUB, "mul": exact_integer.MUL}

# How many numbers are compared with their rounded selves at a time when a block format is checked.
_CHECKED = 1 << 22


@dataclass(frozen=True)
class PreparedIn1:
    """Weights checked once, to be used in many products; made by `prepare_in1`.

    Attributes:
        values: contiguous CPU tensor [..., K, N]: bfloat16, or float32 where the format is "fp32".
        math_fidelity: what it was made for.
        weight_format: the format it was checked for.
    """

    values: torch.Tensor
    math_fidelity: str
    weight_format: str

    @property
    def shape(self) -> torch.Size:
        """[..., K, N]."""
        return self.values.shape


def prepare_in1(in1: torch.Tensor, math_fidelity: str, *, weight_format: str = "bf16") -> PreparedIn1:
    """Check the second operand of `matmul` once and keep it, two bytes a number unless it is fp32.

    Args:
        in1: float32 or bfloat16 CPU tensor [..., K, N].
        math_fidelity: "LoFi", "HiFi2", "HiFi3" or "HiFi4".
        weight_format: one of `WEIGHT_FORMATS`.

    Raises:
        ValueError: another dtype, device, shape or name; or a value that `weight_format` cannot hold.
    """
    phases_of(math_fidelity)
    _check_in1(in1, weight_format)
    values = in1.detach().contiguous()
    if values.dtype == torch.float32 and weight_format != "fp32":
        short = torch.empty(values.shape, dtype=torch.bfloat16)
        bits, upper = bits_array(values).reshape(-1), float_bits(short)[0].reshape(-1)
        run_split(lambda lo, hi: _upper_half(bits, upper, lo, hi), bits.size, bits.size)
        values = short
    return PreparedIn1(values, math_fidelity, weight_format)


def matmul(
    in0: torch.Tensor,
    in1: torch.Tensor | PreparedIn1,
    *,
    math_fidelity: str,
    fp32_dest_acc_en: bool,
    arch: str = "wormhole",
    in0_block_w: int | None = None,
    packer_l1_acc: bool = True,
    out: str = "bf16",
    weight_format: str = "bf16",
    initial_dst: torch.Tensor | None = None,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """in0 @ in1 + bias with the bits of the device.

    Args:
        in0: float32 or bfloat16 CPU tensor [..., M, K], the activations (SrcB), of bf16 values; of any values where
            weight_format is "fp32", which declares both operands.
        in1: the weights (SrcA), float32 or bfloat16 [K, N] or [..., K, N] with batch dimensions that broadcast
            against those of in0; or the same prepared by `prepare_in1`, which then also says the format.
        math_fidelity: "LoFi", "HiFi2", "HiFi3" or "HiFi4".
        fp32_dest_acc_en: float32 accumulator; otherwise it is rounded to bf16 after every 16 products.
        arch: "wormhole" or "blackhole".
        in0_block_w: tiles of K in one block; divides the tiles of K. None: all in one block.
        packer_l1_acc: whether partial results of blocks may be added in L1 by the packer; see `blocks.py`.
        out: "bf16", "fp32", "bfp8" or "bfp4": what the result is packed to; "dst": the accumulator, not packed.
        weight_format: "bf16", "bfp8", "bfp4" or "fp32".
        initial_dst: float32 tensor [..., M, N], what Dst holds before the first block, any bits; cut to its upper
            16 bits for a bf16 Dst. None: zero.
        bias: float32 or bfloat16 tensor of bf16 values (fp32: any) that broadcasts to [..., M, N], added as one
            more step of the unit. None: none.

    K and the blocks of 16 columns of bfp8 and bfp4 are filled up with zeros, as on the device.

    Returns:
        float32 tensor [..., M, N] with the values of the packed result, or the accumulator's bits.

    Raises:
        ValueError: an argument of another dtype, device, name or shape; a value its format cannot hold; in1 prepared
            for another fidelity.
    """
    phases = phases_of(math_fidelity)
    _check_name("arch", arch, ARCHITECTURES)
    _check_name("out", out, (*OUTPUTS, "dst"))
    if isinstance(in1, PreparedIn1):
        if in1.math_fidelity != math_fidelity:
            raise ValueError(f"in1 was prepared for {in1.math_fidelity}, not for {math_fidelity}")
        weight_format, a = in1.weight_format, in1.values
    else:
        _check_in1(in1, weight_format)
        a = in1.detach()
    _check_operand(in0, "in0", 2, weight_format == "fp32")
    b = in0.detach()
    if b.shape[-1] != a.shape[-2]:
        raise ValueError(f"in0 {list(b.shape)} and in1 {list(a.shape)} do not agree in K")
    try:
        batch = common_batch(b.shape, a.shape)
    except ValueError:
        raise ValueError(
            f"the batch dimensions of in0 {list(b.shape)} and in1 {list(a.shape)} do not broadcast"
        ) from None
    shape = (*batch, b.shape[-2], a.shape[-1])
    depth, tiles = b.shape[-1], -(-b.shape[-1] // TILE)
    if in0_block_w is not None and (in0_block_w < 1 or max(tiles, 1) % in0_block_w):
        raise ValueError(f"in0_block_w must divide the {tiles} tiles of K, but {in0_block_w} does not")
    dst = _start(initial_dst, shape, fp32_dest_acc_en)
    if bias is not None:
        _check_operand(bias, "bias", 0, weight_format == "fp32")
        try:
            bias = as_float32(bias, "bias").expand(shape)
        except RuntimeError:
            raise ValueError(f"bias {list(bias.shape)} does not broadcast to {list(shape)}") from None
    unit = Accumulation(b, a, batch, phases, fp32_dest_acc_en, arch == "wormhole")
    result = run_blocks(
        unit.accumulate,
        dst,
        depth,
        TILE * (in0_block_w or max(tiles, 1)),
        wide=fp32_dest_acc_en,
        packer_l1_acc=packer_l1_acc,
        out=out,
        bias=bias,
    )
    return result if out == "dst" else pack_output(result, out, fp32_dest_acc_en)


def eltwise(
    op: str,
    a: torch.Tensor,
    b: torch.Tensor,
    *,
    math_fidelity: str,
    fp32_dest_acc_en: bool,
    arch: str = "wormhole",
    out: str = "bf16",
    initial_dst: torch.Tensor | None = None,
) -> torch.Tensor:
    """a op b, element by element, in the matrix unit (ELWADD, ELWSUB, ELWMUL).

    Args:
        op: "add", "sub" or "mul".
        a, b: float32 or bfloat16 CPU tensors that broadcast; a is SrcA, b SrcB; float32 is read as tf32.
        math_fidelity: of "mul"; sums have one phase whatever it is.
        fp32_dest_acc_en, arch, out: as in `matmul`.
        initial_dst: float32 tensor of the common shape, to which a op b is added (AddDst of ELWADD); None: nothing.

    Returns:
        float32 tensor of the common shape.

    Raises:
        ValueError: another dtype, device or name, shapes that do not broadcast, or an initial_dst of another shape.
    """
    phases = phases_of(math_fidelity)
    _check_name("op", op, tuple(OPERATIONS))
    _check_name("arch", arch, ARCHITECTURES)
    _check_name("out", out, (*OUTPUTS, "dst"))
    left, right = as_float32(a, "a"), as_float32(b, "b")
    try:
        left, right = torch.broadcast_tensors(left, right)
    except RuntimeError:
        raise ValueError(f"a {list(a.shape)} and b {list(b.shape)} do not broadcast") from None
    left, right = left.contiguous(), right.contiguous()
    dst = _start(initial_dst, tuple(left.shape), fp32_dest_acc_en)
    x, y, z = (bits_array(t).reshape(-1) for t in (left, right, dst))
    how = (OPERATIONS[op], phases, bool(fp32_dest_acc_en), arch == "wormhole")
    run_split(lambda lo, hi: exact_integer.eltwise(x, y, z, *how, lo, hi), z.size, z.size)
    return dst if out == "dst" else pack(dst, out, fp32_dest_acc_en)


def pack(dst: torch.Tensor, fmt: str, fp32_dest_acc_en: bool) -> torch.Tensor:
    """The values that the packer writes of an accumulator; see `packer.pack_output`.

    Args:
        dst: float32 CPU tensor [..., n].
        fmt: "bf16", "fp32", "bfp8" or "bfp4".
        fp32_dest_acc_en: whether Dst holds float32; otherwise bf16.

    Raises:
        ValueError: another dtype, device, shape or format.
    """
    check_output(fmt)
    return pack_output(dst, fmt, fp32_dest_acc_en)


def _start(initial_dst: torch.Tensor | None, shape: tuple[int, ...], wide: bool) -> torch.Tensor:
    if initial_dst is None:
        return torch.zeros(shape, dtype=torch.float32)
    if initial_dst.dtype != torch.float32 or tuple(initial_dst.shape) != shape:
        raise ValueError(
            f"initial_dst must be a float32 tensor {list(shape)}, not {initial_dst.dtype} {list(initial_dst.shape)}"
        )
    dst = as_float32(initial_dst, "initial_dst").clone()
    if not wide:
        bits = bits_array(dst)
        bits &= np.uint32(0xFFFF0000)
    return dst


# ---- checks ----


def _check_name(argument: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ValueError(f"{argument} must be one of {', '.join(known)}, not {value!r}")


def _check_operand(x: torch.Tensor, name: str, dimensions: int, any_value: bool) -> None:
    """Raises ValueError unless x is a CPU tensor with enough dimensions, of bf16 values unless any are allowed."""
    if x.dtype not in (torch.float32, torch.bfloat16):
        raise ValueError(f"{name} must be float32 or bfloat16, not {x.dtype}")
    if x.device.type != "cpu":
        raise ValueError(f"{name} must be on the CPU, not on {x.device}")
    if x.dim() < dimensions:
        raise ValueError(f"{name} must have at least {dimensions} dimensions, not shape {list(x.shape)}")
    if any_value or x.dtype == torch.bfloat16:
        return
    bits, found = bits_array(x.detach().contiguous()).reshape(-1), np.zeros(1, np.uint8)
    run_split(lambda lo, hi: _find_low_bits(bits, found, lo, hi), bits.size, bits.size)
    if found[0]:
        raise ValueError(f'{name} holds values that are not bf16 numbers; fp32 operands need weight_format="fp32"')


def _check_in1(in1: torch.Tensor, weight_format: str) -> None:
    _check_name("weight_format", weight_format, WEIGHT_FORMATS)
    _check_operand(in1, "in1", 2, weight_format == "fp32")
    if weight_format not in ("bfp8", "bfp4") or in1.numel() == 0:
        return
    rows = in1.detach().reshape(-1, in1.shape[-1])
    step = max(1, _CHECKED // rows.shape[1])
    for i in range(0, rows.shape[0], step):
        own = rows[i : i + step].to(torch.float32)
        kept = quantize(own, weight_format)
        # By bits, for the sake of NaN; a zero has no sign in these formats, and none for the unit.
        same = (own.view(torch.int32) == kept.view(torch.int32)) | ((own == 0) & (kept == 0))
        if not same.all():
            raise ValueError(f"in1 holds values that are not {weight_format} numbers; round it with quantize first")


@kernel
def _find_low_bits(bits, found, lo, hi):  # type: ignore[no-untyped-def]
    some = np.uint32(0)
    for i in range(lo, hi):
        some = np.uint32(some | bits[i])
    if np.uint32(some & np.uint32(0xFFFF)) != np.uint32(0):
        found[0] = 1


@kernel
def _upper_half(bits, out, lo, hi):  # type: ignore[no-untyped-def]
    for i in range(lo, hi):
        out[i] = np.uint16(bits[i] >> np.uint32(16))
