# SPDX-License-Identifier: Apache-2.0
"""A model's tensors on a mesh with the right shapes, formats and places and nothing in them: to ask, not to run."""

from __future__ import annotations

import math
from typing import Any

from ....common.errors import ConfigError
from ....common.units import TILE
from ....hardware.enums import DataFormat, Placement
from ....hardware.schema import DeviceConfig
from ....models.decoder import matrix_op
from ....models.spec import ModelSpec
from ....planning.split import Split, lm_head_parts
from .. import conversions as to_ttnn
from .tensor_names import biased_matrix, is_bias, matrix_axes


class ShapesOnly:
    """ops.Weights whose handles are canonical tensor names, the same for all layers; `layer` says of which kind."""

    layer = 0

    def __init__(
        self,
        spec: ModelSpec,
        split: Split,
        mesh: Any,
        *,
        users: int,
        context: int,
        page: int | None,
        lm_head_columns: int,
    ) -> None:
        """`page` is the number of tokens in a page of a paged cache, None for a plain one."""
        self.spec, self.split, self.mesh = spec, split, mesh
        self.users, self.context, self.page = users, context, page
        self.lm_head_columns = lm_head_columns
        self._made: dict[Any, Any] = {}

    def __getitem__(self, name: str) -> str:
        """The handle of a tensor: what a layer's weights give the decoder."""
        return name

    def matrix(self, handle: str, data_format: DataFormat, config: DeviceConfig) -> Any:
        inputs, outputs = self.split.part(self.spec, handle, self.layer)
        if handle != "lm_head":
            # Experts are alike, and one of them is placed for all.
            one, own = handle.rpartition(".")[2], matrix_op(handle).interleaved
            return self._matrix(one, inputs, outputs, data_format, config, interleaved=own)
        parts = lm_head_parts(outputs, self.lm_head_columns)
        return [self._matrix(f"lm_head {i}", inputs, width, data_format, config) for i, width in enumerate(parts)]

    def vector(self, handle: Any, *, fractured: bool) -> Any:
        """Norm weights and biases by name; what is on the mesh already stays as it is."""
        if not isinstance(handle, str):
            return handle
        fractions = self.split.heads if fractured else 1
        if is_bias(handle):
            _, width = self.split.part(self.spec, biased_matrix(handle), self.layer)
            if matrix_axes(biased_matrix(handle))[0] == 2:
                width //= fractions
            return self._empty(("bias", width), [1, 1, 1, width])
        width = self.split.hidden_dim(self.spec) // fractions
        if handle in ("q_norm", "k_norm"):
            width = self.spec.head_dim
            if self.spec.layer(self.layer).attention.qk_norm == "all":
                split, of_q = self.split, handle == "q_norm"
                width *= split.q_heads(self.spec) if of_q else split.kv_heads(self.spec)
        return self._rows(f"{handle} {width}", [1, 1, math.ceil(width / TILE), TILE])

    def sinks(self, handle: str, scale: float, *, decode: bool) -> Any:
        heads = self.split.q_heads(self.spec)
        shape = [math.ceil(heads / TILE) * TILE, TILE] if decode else [1, heads, 1, 1]
        return self._empty((handle, decode), shape)

    def table(self, handle: str, data_format: DataFormat) -> Any:
        columns = math.ceil(self.split.hidden_dim(self.spec) / self.split.heads)
        check_table(data_format, columns)
        shape = [1, 1, self.spec.vocab_size, columns]
        return self._rows(handle, shape) if data_format is DataFormat.BF16 else self._empty(handle, shape, data_format)

    def cache(self, layer: int, data_format: DataFormat, placement: Placement) -> tuple[Any, Any]:
        heads, depth = self.split.kv_heads(self.spec), self.spec.head_dim
        blocks, tokens = self.users, math.ceil(self.context / TILE) * TILE
        if self.page is not None:
            blocks, tokens = self.users * math.ceil(self.context / self.page), self.page
        made = [
            self._empty((side, data_format, placement), [blocks, heads, tokens, depth], data_format, placement)
            for side in ("keys", "values")
        ]
        return made[0], made[1]

    def tokens(self, count: int) -> Any:
        """A uint32 tensor [1, 1, 1, count] in DRAM, in the place of `count` token ids."""
        import ttnn

        return ttnn.empty([1, 1, 1, count], ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT, self.mesh, ttnn.DRAM_MEMORY_CONFIG)

    def integers(self, shape: list[int]) -> Any:
        """An int32 tensor of `shape` in DRAM, in the place of positions or a page table."""
        import ttnn

        return ttnn.empty(shape, ttnn.int32, ttnn.ROW_MAJOR_LAYOUT, self.mesh, ttnn.DRAM_MEMORY_CONFIG)

    def _matrix(
        self,
        key: str,
        inputs: int,
        outputs: int,
        data_format: DataFormat,
        config: DeviceConfig,
        *,
        interleaved: bool = False,
    ) -> Any:
        import ttnn

        place = to_ttnn.weight_memory_config(config.memory, config.spec, inputs, outputs, interleaved=interleaved)
        return self._once(
            (key, inputs, outputs, data_format, str(place)),
            lambda: ttnn.empty([1, 1, inputs, outputs], to_ttnn.dtype(data_format), ttnn.TILE_LAYOUT, self.mesh, place),
        )

    def _empty(
        self,
        key: Any,
        shape: list[int],
        data_format: DataFormat = DataFormat.BF16,
        placement: Placement = Placement.DRAM,
    ) -> Any:
        import ttnn

        place = to_ttnn.memory_config(placement)
        return self._once(
            key, lambda: ttnn.empty(shape, to_ttnn.dtype(data_format), ttnn.TILE_LAYOUT, self.mesh, place)
        )

    def _rows(self, key: str, shape: list[int]) -> Any:
        import ttnn

        return self._once(
            key, lambda: ttnn.empty(shape, ttnn.bfloat16, ttnn.ROW_MAJOR_LAYOUT, self.mesh, ttnn.DRAM_MEMORY_CONFIG)
        )

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]


def check_table(data_format: DataFormat, columns: int) -> None:
    """Raises ConfigError for an embedding that ttnn cannot look rows up in; `columns` are those of a chip.

    It takes bfloat16 in rows and BFP8 in tiles, of which it unpacks the whole table at every look-up.
    """
    if data_format is DataFormat.BFP4:
        raise ConfigError(f"ttnn looks no rows up in {data_format.ttnn_name} tables.", "Use precision.embedding=BFP8.")
    if data_format is DataFormat.BFP8 and columns % TILE:
        raise ConfigError(
            f"a BFP8 embedding of {columns} columns per chip is not whole tiles of {TILE}.",
            "Use precision.embedding=BF16.",
        )
