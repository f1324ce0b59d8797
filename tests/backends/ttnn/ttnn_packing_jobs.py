# SPDX-License-Identifier: Apache-2.0
"""The job of test_host_packing.py: numbers of many kinds, packed by ttnn on the host and by this project's numerics."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from tt_transformers_v2.backends.ttnn import conversions
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.hardware.enums import DataFormat
from tt_transformers_v2.numerics import pack_tiles, quantize
from tt_transformers_v2.numerics.formats import MAGNITUDE_BITS

NUMERICS = {DataFormat.BFP4: "bfp4", DataFormat.BFP8: "bfp8", DataFormat.BF16: "bf16"}
SIDE = 1024  # of the square matrices: 1,048,576 numbers each

Bits = np.ndarray[Any, np.dtype[np.uint32]]


def packed(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """A row for every format and kind of numbers: how many there are, how many bits of tile bytes and values differ.

    `float_form` is how many values the usual float formula, which drops nothing before it rounds, gets wrong.
    """
    import ttnn

    rows = []
    for kind, bits in numbers(np.random.default_rng(payload["seed"])).items():
        x = torch.from_numpy(bits.view(np.float32))
        for data_format, name in NUMERICS.items():
            theirs = ttnn.from_torch(x, conversions.dtype(data_format), layout=ttnn.TILE_LAYOUT)
            their_bytes = np.from_dlpack(theirs.host_buffer().get_shard(ttnn.MeshCoordinate(0, 0)))
            their_values, our_values = ttnn.to_torch(theirs).float(), quantize(x, name)
            wrong = 0 if name == "bf16" else int((float_form(x, MAGNITUDE_BITS[name]) != our_values).sum())
            rows.append(
                {
                    "format": data_format.value,
                    "kind": kind,
                    "values": x.numel(),
                    "bytes": their_bytes.size,
                    "tile_bits": differing_bits(their_bytes, pack_tiles(x, name).numpy().reshape(-1)),
                    "value_bits": differing_bits(their_values.numpy(), our_values.numpy()),
                    "float_form": wrong,
                }
            )
    return {"rows": rows}


def numbers(random: np.random.Generator) -> dict[str, Bits]:
    """float32 bit patterns [rows, columns] by kind."""

    def made(exponents: tuple[int, int], fractions: Any = None) -> Bits:
        """Biased exponents from a range, both ends included, and fractions as given or of any bits."""
        shape = (SIDE, SIDE)
        fraction = random.integers(0, 1 << 23, shape, np.uint32) if fractions is None else fractions
        exponent = random.integers(exponents[0], exponents[1] + 1, shape, np.uint32)
        return random.integers(0, 2, shape, np.uint32) << 31 | exponent << 23 | fraction

    def of(values: Any) -> Bits:
        return np.ascontiguousarray(values, np.float32).view(np.uint32)

    def mixed(rare: Bits, usual: Bits) -> Bits:
        return np.where(random.random(usual.shape) < 1 / 64, rare, usual)

    # A last set bit 1 to 10 places below the leading one: with the shift to the block's exponent, ties of all formats.
    last = np.uint32(1) << random.integers(13, 23, (SIDE, SIDE), np.uint32)
    ties = made((120, 127), (random.integers(0, 1 << 23, (SIDE, SIDE), np.uint32) & ~(last * 2 - 1)) | last)
    normal = of(random.standard_normal((SIDE, SIDE)))
    return {
        "normal": normal,
        "weights": of(random.standard_normal((SIDE, SIDE)) * 0.02),
        "exponents of all sizes in a block": made((1, 254)),
        "exponents near each other": made((118, 130)),
        "huge": made((240, 254)),
        "tiny": made((1, 15)),
        "subnormal among the smallest": made((0, 2)),
        "subnormal": made((0, 0)),
        "zeros of both signs": mixed(normal, made((0, 0), np.uint32(0))),
        "ties": ties,
        "one beside ties": ties + random.integers(-1, 2, ties.shape).astype(np.uint32),
        "just below a power of two": made((126, 127), 0x7FFFFF - random.integers(0, 1 << 18, ties.shape, np.uint32)),
        "infinities and NaNs": mixed(mixed(made((255, 255)), made((255, 255), np.uint32(0))), normal),
        "any bits": random.integers(0, 1 << 32, (SIDE, SIDE), np.uint32),
        "ragged": of(random.standard_normal((SIDE - 7, SIDE - 13))),
    }


def float_form(x: torch.Tensor, width: int) -> torch.Tensor:
    """A block format as it is usually emulated: divided by a power of two, rounded, cut off. Not what ttnn does."""
    padded = torch.nn.functional.pad(x, (0, -x.shape[-1] % 16)).double()
    blocks = padded.unflatten(-1, (-1, 16))
    unit = torch.exp2(torch.frexp(blocks.abs().amax(-1, keepdim=True)).exponent.double() - width)
    most = (1 << width) - 1
    return ((blocks / unit).round().clamp(-most, most) * unit).flatten(-2)[..., : x.shape[-1]].float()


def differing_bits(one: Any, other: Any) -> int:
    one, other = (np.ascontiguousarray(array).reshape(-1).view(np.uint8) for array in (one, other))
    return int(np.unpackbits(one ^ other).sum()) if one.size == other.size else 8 * max(one.size, other.size)
