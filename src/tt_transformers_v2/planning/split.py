# SPDX-License-Identifier: Apache-2.0
"""How a model is split over a mesh: which axis has the heads, which the hidden size, and what each chip then holds.

On a 1-D mesh every chip has some of the heads, of the MLP's width and of the vocabulary, and the whole hidden size. On
a 2-D mesh (Galaxies) the longer axis has those and the shorter one splits the hidden size too, as tt_transformers does.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..common.errors import ConfigError
from ..common.units import TILE
from ..hardware.op_table import LM_HEAD, ROUTER
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec, layer_matrices
from .refusals import beyond_ttnn, uneven_heads

Shape = tuple[int, int]


@dataclass(frozen=True)
class Split:
    """Chips along the axis that splits heads and widths, along the one that splits the hidden size, and their axes.

    `mesh_shape` is that of one data-parallel group, rows x columns.
    """

    heads: int
    hidden: int
    heads_axis: int
    mesh_shape: Shape

    @property
    def hidden_axis(self) -> int:
        """The mesh axis, 0 or 1, along which the hidden size is split."""
        return 1 - self.heads_axis

    @property
    def chips(self) -> int:
        """Chips of one data-parallel group."""
        return self.heads * self.hidden

    @classmethod
    def of(cls, config: DeviceConfig, spec: ModelSpec) -> Split:
        """The split that the configuration asks for. Raises ConfigError where the mesh or the model forbids it."""
        if config.parallelism.pipeline_parallel_size > 1:
            raise ConfigError("backend=ttnn does not support pipeline parallelism.", "Use tensor_parallel_size.")
        split = cls.over(config)
        split._check(spec)
        return split

    @classmethod
    def over(cls, config: DeviceConfig) -> Split:
        """The split over the mesh, whatever the model. Raises ConfigError where the mesh forbids it."""
        tp, (rows, columns) = config.parallelism.tensor_parallel_size, config.spec.mesh_shape
        if tp == rows * columns and min(rows, columns) > 1:
            return cls(max(rows, columns), min(rows, columns), int(columns > rows), (rows, columns))
        if tp <= max(rows, columns):
            return cls(tp, 1, 1, (1, tp)) if columns >= rows else cls(tp, 1, 0, (tp, 1))
        raise ConfigError(
            f"tensor_parallel_size {tp} is neither a row of {config.device_type}'s mesh {rows} x {columns} nor all "
            "of it.",
            f"Use {max(rows, columns)} or {rows * columns}.",
        )

    def _check(self, spec: ModelSpec) -> None:
        if (refused := beyond_ttnn(spec)) is not None:
            raise refused.error
        if spec.num_heads % self.heads:
            raise ConfigError(f"{spec.num_heads} heads cannot be split over {self.heads} chips.")
        if spec.num_kv_heads % self.heads and self.heads % spec.num_kv_heads:
            raise ConfigError(f"{spec.num_kv_heads} KV heads cannot be split or repeated over {self.heads} chips.")
        if (refused := uneven_heads(spec.head_dim)) is not None:
            raise refused.error
        if spec.hidden_dim % (TILE * self.hidden):
            raise ConfigError(f"hidden size {spec.hidden_dim} is not whole tiles on each of {self.hidden} chips.")

    def q_heads(self, spec: ModelSpec) -> int:
        """Query heads of a chip."""
        return spec.num_heads // self.heads

    def kv_heads(self, spec: ModelSpec) -> int:
        """KV heads of a chip; each is repeated on several chips where there are fewer of them than chips."""
        return max(1, spec.num_kv_heads // self.heads)

    def hidden_dim(self, spec: ModelSpec) -> int:
        """Elements of the hidden size that a chip holds."""
        return spec.hidden_dim // self.hidden

    def width(self, elements: int) -> int:
        """A chip's part of a width that is split over the heads' axis, padded to whole tiles."""
        return math.ceil(elements / (self.heads * TILE)) * TILE

    def part(self, spec: ModelSpec, name: str, layer: int | None) -> Shape:
        """(inputs, outputs) of a chip's part of one matrix by its canonical name (models.weights), in elements.

        A router's scores and the gate of a shared expert are whole tiles wide, the same on every chip of the heads'
        axis.
        """
        group, _, matrix = name.rpartition(".")
        if not group and matrix != ROUTER.matrix:
            return self.matrices(spec)[name]
        experts = spec.layer(layer or 0).experts
        if experts is None:
            raise ConfigError(f"layer {layer} of {spec.name} has no {name}: it has no experts.")
        hidden = self.hidden_dim(spec)
        if matrix in (ROUTER.matrix, "gate"):
            return hidden, math.ceil((1 if group else experts.count) / TILE) * TILE
        mlp = experts.shared if group == "shared" else experts.mlp
        assert mlp is not None  # the decoder asks for what the layer has
        width = self.width(mlp.width)
        return (width, hidden) if matrix == "w2" else (hidden, width)

    def matrices(self, spec: ModelSpec) -> dict[str, Shape]:
        """(inputs, outputs) of a chip's part of every matrix, in elements.

        Of layers that differ in their MLPs the widest one's, of those with experts an expert's as `experts.w1` and so
        on; the matrices of a shared expert are not among them.
        """
        hidden, q, kv = self.hidden_dim(spec), self.q_heads(spec) * spec.head_dim, self.kv_heads(spec) * spec.head_dim
        head = {LM_HEAD.matrix: (hidden, self.width(spec.vocab_size))}
        if not spec.kinds:
            return layer_matrices(hidden, q, kv, self.width(spec.intermediate_dim)) | head
        found: dict[str, Shape] = {}
        for kind in sorted(spec.kinds, key=lambda each: each.mlp.width if each.mlp else 0):
            mlp, of = (kind.mlp, "") if kind.experts is None else (kind.experts.mlp, "experts.")
            assert mlp is not None  # a layer has either
            own = layer_matrices(hidden, q, kv, self.width(mlp.width))
            if not mlp.gated:
                del own["w3"]
            found |= {name if name in ("wqkv", "wo") else f"{of}{name}": shape for name, shape in own.items()}
        return found | head


def lm_head_parts(outputs: int, most: int) -> list[int]:
    """The widths of the matmuls that the LM head of a chip is cut into: alike, in whole tiles, of at most `most`."""
    count = math.ceil(outputs / most)
    width = math.ceil(outputs / (count * TILE)) * TILE
    widths = [width] * (outputs // width)
    return widths + ([outputs - sum(widths)] if sum(widths) < outputs else [])


def head_split(config: DeviceConfig) -> int:
    """Over how many chips the heads are split: all of tensor parallelism, on a 2-D mesh its longer axis only.

    tt_transformers splits heads over one axis of a Galaxy and the hidden dimension over the other.
    """
    rows, columns = config.spec.mesh_shape
    return min(config.parallelism.tensor_parallel_size, max(rows, columns))
