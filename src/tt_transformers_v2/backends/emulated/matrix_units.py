# SPDX-License-Identifier: Apache-2.0
"""The emulated matrix unit in its two forms behind one small interface: exact, or approximate and faster."""

from __future__ import annotations

from typing import Any, Protocol

from torch import Tensor

from ...hardware.enums import Arch
from ...hardware.schema import ComputeConfig
from ...numerics import elementwise, quantize
from ...numerics import fast_matmul as fast
from ...numerics import matrix_unit as exact
from ...numerics.packer import pack_output


class MatrixUnit(Protocol):
    """What the decoder needs of a matrix unit. Tensors are float32 holding values of their formats; `out` names one."""

    def prepare(self, weight: Tensor, kernel: ComputeConfig) -> Any:
        """A weight [K, N], made ready once for many products."""
        ...

    def linear(
        self, x: Tensor, weight: Any, bias: Tensor | None, kernel: ComputeConfig, out: str, in0_block_w: int
    ) -> Tensor:
        """x [..., M, K] @ weight + bias [N], `in0_block_w` tiles of K at a time.

        The ttnn backend adds the bias to the packed product in an op of its own.
        """
        ...

    def matmul(self, x: Tensor, y: Tensor, kernel: ComputeConfig, out: str) -> Tensor:
        """x [..., M, K] @ y [..., K, N], of values of any format, with K in one block."""
        ...

    def add(self, x: Tensor, y: Tensor, out: str, onto: Tensor | None = None) -> Tensor:
        """x + y, or onto + (x + y) in one step."""
        ...


class FastUnit:
    """Operands cut per phase, sums in float32: `numerics.fast_matmul`."""

    def prepare(self, weight: Tensor, kernel: ComputeConfig) -> Any:
        return fast.prepare_in1(weight, kernel.math_fidelity.value)

    def linear(
        self, x: Tensor, weight: Any, bias: Tensor | None, kernel: ComputeConfig, out: str, in0_block_w: int
    ) -> Tensor:
        y = fast.matmul(x, weight, in0_block_w=in0_block_w, packer_l1_acc=kernel.packer_l1_acc, out=out, **_how(kernel))
        return y if bias is None else self.add(y, bias.expand_as(y), out)

    def matmul(self, x: Tensor, y: Tensor, kernel: ComputeConfig, out: str) -> Tensor:
        return fast.matmul(x, y, out=out, **_how(kernel))

    def add(self, x: Tensor, y: Tensor, out: str, onto: Tensor | None = None) -> Tensor:
        return quantize(x + y if onto is None else onto + (x + y), out)


class ExactUnit:
    """Bit for bit: `numerics.matrix_unit`, with K in blocks and partial results as the matmul kernel has them."""

    def __init__(self, arch: Arch) -> None:
        self.arch = {Arch.wormhole_b0: "wormhole", Arch.blackhole: "blackhole"}[arch]

    def prepare(self, weight: Tensor, kernel: ComputeConfig) -> Any:
        # Values of bfp8 and bfp4 are bf16 numbers; the arithmetic depends on values alone.
        return exact.prepare_in1(weight, kernel.math_fidelity.value)

    def linear(
        self, x: Tensor, weight: Any, bias: Tensor | None, kernel: ComputeConfig, out: str, in0_block_w: int
    ) -> Tensor:
        y = exact.matmul(
            x,
            weight,
            arch=self.arch,
            in0_block_w=in0_block_w,
            packer_l1_acc=kernel.packer_l1_acc,
            out=out,
            **_how(kernel),
        )
        return y if bias is None else self.add(y, bias.expand_as(y), out)

    def matmul(self, x: Tensor, y: Tensor, kernel: ComputeConfig, out: str) -> Tensor:
        # "fp32" stands for any values: attention's weights between its two products have more bits than bf16.
        return exact.matmul(x, y, arch=self.arch, out=out, weight_format="fp32", **_how(kernel))

    def add(self, x: Tensor, y: Tensor, out: str, onto: Tensor | None = None) -> Tensor:
        if onto is None:
            return pack_output(elementwise.add(x, y, fp32_dest_acc_en=False), out, False)
        return exact.eltwise(
            "add",
            x,
            y,
            math_fidelity="HiFi4",
            fp32_dest_acc_en=False,
            arch=self.arch,
            out=out,
            initial_dst=onto.contiguous(),
        )


def _how(kernel: ComputeConfig) -> dict[str, Any]:
    return {"math_fidelity": kernel.math_fidelity.value, "fp32_dest_acc_en": kernel.fp32_dest_acc_en}
