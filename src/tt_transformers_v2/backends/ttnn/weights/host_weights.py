# SPDX-License-Identifier: Apache-2.0
"""A model's real weights on a mesh: read, arranged, converted on this machine, cached on disk, placed on the chips.

Conversion is ttnn's own code on the host, the same whether the mesh is cards or a described system, and nothing of it
goes through the chips: both share their cache.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from ....common.errors import ConfigError
from ....common.units import TILE
from ....hardware.enums import DataFormat, Placement
from ....hardware.schema import DeviceConfig
from ....models.decoder import matrix_op
from ....models.spec import ModelSpec
from ....models.weights import WeightSource
from ....planning.split import Split, lm_head_parts
from .. import conversions as to_ttnn
from ..process.availability import look_around
from . import arrange
from .shapes_only import check_table
from .tensor_names import bias_axes, is_bias, matrix_axes
from .weight_cache import WeightCache, open_folder


class Handle(NamedTuple):
    """A tensor that has not been read."""

    name: str
    layer: int | None = None


class Handles:
    """A weight source of a model's shapes that reads nothing."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def tensor(self, name: str, layer: int | None = None) -> Handle:
        """The handle of a tensor; `layer` is None for those of the whole model."""
        return Handle(name, layer)


@dataclass(frozen=True)
class CacheShape:
    """The KV cache of a data-parallel group: `tokens` per user; `page` tokens in a page, None for a plain cache."""

    users: int
    tokens: int
    page: int | None

    @property
    def blocks(self) -> int:
        """Pages of one user."""
        return 1 if self.page is None else math.ceil(self.tokens / self.page)

    @property
    def shape(self) -> tuple[int, int]:
        """(blocks of all users, tokens in each)."""
        if self.page is None:
            return self.users, math.ceil(self.tokens / TILE) * TILE
        return self.users * self.blocks, self.page


class HostWeights:
    """ops.Weights of a weight source; every tensor is placed once and stays.

    placed: called with the number of tensors placed so far.
    """

    def __init__(
        self,
        source: WeightSource,
        split: Split,
        mesh: Any,
        *,
        kv: CacheShape,
        lm_head_columns: int,
        disk: WeightCache | None,
        placed: Callable[[int], None] = lambda count: None,
    ) -> None:
        self.source, self.split, self.mesh, self.kv = source, split, mesh, kv
        self.lm_head_columns, self.disk, self.placed = lm_head_columns, disk, placed
        self._made: dict[Any, Any] = {}
        self._zeros: dict[DataFormat, Any] = {}

    @property
    def spec(self) -> ModelSpec:
        """The shape of the model that the weights belong to."""
        return self.source.spec

    def matrix(self, handle: Handle, data_format: DataFormat, config: DeviceConfig) -> Any:
        """A chip's part of a matrix, placed as config.memory says; for the LM head a list of its columns in parts."""
        inputs, outputs = self.split.part(self.spec, handle.name, handle.layer)
        if handle.name != "lm_head":
            return self._matrix(handle, None, inputs, outputs, data_format, config)
        first, parts = 0, []
        for width in lm_head_parts(outputs, self.lm_head_columns):
            parts.append(self._matrix(handle, (first, width), inputs, width, data_format, config))
            first += width
        return parts

    def vector(self, handle: Any, *, fractured: bool) -> Any:
        """Norm weights and biases by handle; what is on the mesh already stays as it is."""
        if not isinstance(handle, Handle):
            return handle
        if is_bias(handle.name):
            axes = bias_axes(handle.name, fractured=fractured, hidden_split=self.split.hidden > 1)
            return self._once((handle, axes), lambda: self._bias(handle, axes))
        of_norm = self._norm_axes(handle, fractured)
        return self._once((handle, of_norm), lambda: self._norm(handle, of_norm))

    def sinks(self, handle: Handle, scale: float, *, decode: bool) -> Any:
        """A chip's attention sinks, as attention takes them in a phase."""
        heads = self.split.q_heads(self.spec)

        def make() -> Any:
            values = arrange.sinks(self._read(handle), heads, scale, decode=decode)
            axes = (0 if decode else 1, None)
            return self._placed(self.from_torch(values, DataFormat.BF16, row_major=False, axes=axes), None)

        return self._once((handle, decode), make)

    def table(self, handle: Handle, data_format: DataFormat) -> Any:
        """The embedding's rows, of which each chip has its columns.

        Raises ConfigError for a format that ttnn does not look rows up in, and where the hidden size does not divide
        over the chips.
        """
        chips = self.split.chips
        if self.spec.hidden_dim % chips:
            raise ConfigError(f"hidden size {self.spec.hidden_dim} cannot be split evenly over {chips} chips.")
        check_table(data_format, self.spec.hidden_dim // chips)
        in_rows = data_format is DataFormat.BF16
        return self._once(
            (handle, data_format),
            lambda: self._converted(handle, "", data_format, row_major=in_rows, axes=(3, 1), make=self._table),
        )

    def cache(self, layer: int, data_format: DataFormat, placement: Placement) -> tuple[Any, Any]:
        """Zeros at first: what attention masks out must still be a number."""
        keys, values = (
            self._once(
                (layer, side, data_format, placement),
                lambda: self._placed(self._zero_blocks(data_format), to_ttnn.memory_config(placement)),
            )
            for side in ("keys", "values")
        )
        return keys, values

    def put(self, values: Tensor, dtype: Any, *, tile: bool = False, place: Any = None) -> Any:
        """The same values on every chip."""
        import ttnn

        return self.on_host(values, dtype, tile=tile).to(self.mesh, place or ttnn.DRAM_MEMORY_CONFIG)

    def on_host(self, values: Tensor, dtype: Any, *, tile: bool = False) -> Any:
        """The same, ready to be copied into a tensor on the mesh."""
        import ttnn

        layout = ttnn.TILE_LAYOUT if tile else ttnn.ROW_MAJOR_LAYOUT
        return ttnn.from_torch(values, dtype=dtype, layout=layout, mesh_mapper=self._mapper(None, None))

    def split_hidden(self, values: Tensor, data_format: DataFormat) -> Any:
        """Activations [1, 1, rows, hidden size] as a block takes them in prefill."""
        over_hidden = 3 if self.split.hidden > 1 else None
        return self._placed(self.from_torch(values, data_format, row_major=False, axes=(None, over_hidden)), None)

    def whole(self, tensor: Any, over_heads: int | None, over_hidden: int | None) -> Tensor:
        """A tensor of the mesh put together: the dimension that is split over each of its axes, None for copies."""
        import ttnn

        # Copies are stacked on the first two dimensions, which are 1, and all but one dropped.
        dims = self._by_axis(0 if over_heads is None else over_heads, 1 if over_hidden is None else over_hidden)
        config = ttnn.MeshComposerConfig(dims, ttnn.MeshShape(*self.split.mesh_shape))
        composer = ttnn.create_mesh_composer(self.mesh, config)
        return ttnn.to_torch(tensor, mesh_composer=composer)[:1, :1].float()

    # Parts of them

    def _matrix(
        self,
        handle: Handle,
        part: tuple[int, int] | None,
        inputs: int,
        outputs: int,
        data_format: DataFormat,
        config: DeviceConfig,
    ) -> Any:
        interleaved = matrix_op(handle.name).interleaved
        place = to_ttnn.weight_memory_config(config.memory, config.spec, inputs, outputs, interleaved=interleaved)
        axes = matrix_axes(handle.name)

        def arranged(values: Tensor) -> Tensor:
            whole = arrange.matrix(self.spec, self.split, handle.name, values, handle.layer)
            return whole if part is None else arrange.columns(self.split, whole, *part)

        return self._once(
            (handle, part, data_format, config.memory.weights_placement, config.memory.use_width_sharding),
            lambda: self._converted(
                handle,
                "" if part is None else f"columns {part[0]} to {sum(part)}",
                data_format,
                row_major=False,
                axes=axes,
                make=arranged,
                place=place,
            ),
        )

    def _norm_axes(self, handle: Handle, fractured: bool) -> tuple[int | None, int | None]:
        """Dimensions of a norm's weight that are split over the heads' axis and over the hidden one."""
        if handle.name in arrange.ROTATED_NORMS:
            kind = self.spec.layer(handle.layer or 0).attention
            return (2 if kind.qk_norm == "all" and self.split.heads > 1 else None), None
        return (2 if fractured else None), (2 if self.split.hidden > 1 else None)

    def _norm(self, handle: Handle, axes: tuple[int | None, int | None]) -> Any:
        values = arrange.norm(self.spec, self.split, handle.name, self._read(handle))
        return self._placed(self.from_torch(values, DataFormat.BF16, row_major=True, axes=axes), None)

    def _bias(self, handle: Handle, axes: tuple[int | None, int | None]) -> Any:
        values = arrange.bias(self.spec, self.split, handle.name, self._read(handle), handle.layer)
        return self._placed(self.from_torch(values, DataFormat.BF16, row_major=False, axes=axes), None)

    def _table(self, values: Tensor) -> Tensor:
        return arrange.table(self.split, values)

    def _converted(
        self,
        handle: Handle,
        part: str,
        data_format: DataFormat,
        *,
        row_major: bool,
        axes: tuple[int | None, int | None],
        make: Callable[[Tensor], Tensor],
        place: Any = None,
    ) -> Any:
        """A large tensor by way of the disk cache. Small ones are converted faster than they are found."""

        def convert() -> tuple[Any, str]:
            values = self._read(handle)
            tensor = self.from_torch(make(values), data_format, row_major=row_major, axes=axes)
            return tensor, hashlib.sha256(values.contiguous().numpy().data).hexdigest()

        if self.disk is None:
            return self._placed(convert()[0], place)
        layer = "" if handle.layer is None else f"layer {handle.layer} "
        name = f"{layer}{handle.name} {part} {data_format.ttnn_name}".replace("  ", " ").replace(" ", "_")
        about = {
            "fingerprint": self.source.fingerprint,
            "tensor": handle.name,
            "layer": handle.layer,
            "part": part,
            "format": data_format.ttnn_name,
            "layout": "row major" if row_major else "tile",
            "axes": list(axes),
        }
        return self._placed(self.disk.fetch(name, about, convert), place)

    def from_torch(
        self, values: Tensor, data_format: DataFormat, *, row_major: bool, axes: tuple[int | None, int | None]
    ) -> Any:
        """A tensor in ttnn's format, not yet on the mesh.

        `axes` are the dimensions split over the heads' axis and over the hidden one, None where every chip gets all.
        """
        import ttnn

        return ttnn.from_torch(
            values,
            dtype=to_ttnn.dtype(data_format),
            layout=ttnn.ROW_MAJOR_LAYOUT if row_major else ttnn.TILE_LAYOUT,
            mesh_mapper=self._mapper(*axes),
        )

    def _placed(self, tensor: Any, place: Any) -> Any:
        import ttnn

        return tensor.to(self.mesh, place or ttnn.DRAM_MEMORY_CONFIG)

    def _mapper(self, over_heads: int | None, over_hidden: int | None) -> Any:
        """Splits a dimension over the mesh axis of the heads, another over that of the hidden size; None repeats."""
        import ttnn

        placements = [
            ttnn.PlacementReplicate() if dim is None else ttnn.PlacementShard(dim)
            for dim in self._by_axis(over_heads, over_hidden)
        ]
        shape = ttnn.MeshShape(*self.split.mesh_shape)
        return ttnn.create_mesh_mapper(self.mesh, ttnn.MeshMapperConfig(placements, shape))

    def _by_axis(self, over_heads: int | None, over_hidden: int | None) -> list[int | None]:
        return [over_heads, over_hidden] if self.split.heads_axis == 0 else [over_hidden, over_heads]

    def _zero_blocks(self, data_format: DataFormat) -> Any:
        """Zeros of one side of a layer's cache, on this machine; made once for all layers."""
        import torch

        if data_format not in self._zeros:
            blocks, tokens = self.kv.shape
            shape = (blocks, self.split.kv_heads(self.spec), tokens, self.spec.head_dim)
            empty = torch.zeros(shape, dtype=torch.bfloat16)  # large enough for its size on this machine to matter
            self._zeros[data_format] = self.from_torch(empty, data_format, row_major=False, axes=(None, None))
        return self._zeros[data_format]

    def _read(self, handle: Handle) -> Tensor:
        return self.source.tensor(handle.name, handle.layer)

    def _once(self, key: Any, make: Callable[[], Any]) -> Any:
        if key not in self._made:
            self._made[key] = make()
            self.placed(len(self._made))
        return self._made[key]


def open_cache(
    source: WeightSource, split: Split, config: DeviceConfig, home: Path, warn: Callable[[str], None]
) -> WeightCache | None:
    """The disk cache of a model's weights on a mesh; None for a ttnn that does not say its version.

    What tells its folder from others: content (the source's fingerprint), shape, split, mesh, architecture and version
    of ttnn. Where a tensor goes on the chip is no part of it, because the files hold tensors as they are on the host.
    """
    import ttnn

    version = look_around().version
    if version in (None, "unknown"):
        warn("converted weights are not cached: this ttnn does not report its version")
        return None
    spec = source.spec
    about = {
        "fingerprint": source.fingerprint,
        "shape": [spec.hidden_dim, spec.num_heads, spec.num_kv_heads, spec.head_dim, spec.intermediate_dim],
        "vocabulary": spec.vocab_size,
        "split": [split.heads, split.hidden, split.heads_axis, *split.mesh_shape],
        "architecture": config.spec.chip.arch.value,
        "ttnn": version,
    }
    if spec.kinds:
        about["layers"] = repr((spec.kinds, spec.pattern))
    return WeightCache(open_folder(home, spec.name, about), ttnn.dump_tensor, ttnn.load_tensor, warn)
