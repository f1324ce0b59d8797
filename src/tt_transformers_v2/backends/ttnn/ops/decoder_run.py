# SPDX-License-Identifier: Apache-2.0
"""What is the same for every op of a run of the decoder on a mesh, and where the run's tensors come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from ....common.units import TILE
from ....hardware.enums import DataFormat, Placement
from ....hardware.op_table import PREFILL
from ....hardware.schema import DeviceConfig
from ....models.spec import ModelSpec
from ....planning.split import Split
from ..recording.recorder import Recorder

# Norms of q and k, over each head or over all of them.
OF_HEADS = ("q_norm", "k_norm")
# Norms of what attention and MLP add to the residual stream.
OF_A_SUM = ("attention_post_norm", "ffn_post_norm")


class HeadNorm(NamedTuple):
    """The weight of a norm over each head, on the mesh. It is as wide as a head, and so may be a chip's part of the
    hidden size."""

    weight: Any


class SumNorm(NamedTuple):
    """The weight of a norm whose output is added to the residual stream, and so stays as that is laid out."""

    weight: Any


class Weights(Protocol):
    """Tensors on the chips, by handle: whatever the decoder's weights give is handed back here."""

    def matrix(self, handle: Any, data_format: DataFormat, config: DeviceConfig) -> Any:
        """A chip's part of a matrix, placed as config.memory says; for the LM head a list of its columns in parts."""
        ...

    def vector(self, handle: Any, *, fractured: bool) -> Any:
        """A norm's weight or a bias; `fractured`: of the hidden size, each chip gets the part it holds in prefill."""
        ...

    def sinks(self, handle: Any, scale: float, *, decode: bool) -> Any:
        """A chip's attention sinks, divided by attention's `scale`, as attention takes them in a phase."""
        ...

    def table(self, handle: Any, data_format: DataFormat) -> Any:
        """The embedding's rows, of which each chip has its columns. In BF16 or BFP8, else ConfigError."""
        ...

    def cache(self, layer: int, data_format: DataFormat, placement: Placement) -> tuple[Any, Any]:
        """Keys and values of a layer's users."""
        ...


@dataclasses.dataclass(frozen=True)
class Run:
    """What is the same for every op of a run.

    rows: tokens of the prompt (prefill) or users (decode). context: tokens that the cache holds per user. positions:
    int32 tensor [users] with the place of the new token, transformation: rotary_embedding_llama's matrix of this phase.
    programs: op group -> fields of its plan that the user chose. page_table: of a paged cache, or None; in prefill the
    row of the one user. user: whose place in a plain cache a prompt fills. chunk_start: tokens of the prompt before
    this chunk, fill_table: the pages of this chunk where that is not page_table. experts_asked: how many of a layer's
    experts, which are alike, are computed: None for all, some where ops are only asked about.
    """

    spec: ModelSpec
    split: Split
    mesh: Any
    weights: Weights
    recorder: Recorder
    phase: str
    rows: int
    context: int
    grid: tuple[int, int]
    transformation: Any = None
    positions: Any = None
    page_table: Any = None
    fill_table: Any = None
    user: int = 0
    chunk_start: int = 0
    readers_per_bank: int = 1
    row_limit: int = 2048
    lm_head_columns: int = 32768
    programs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)
    experts_asked: int | None = None

    @property
    def fractured(self) -> bool:
        """Whether each chip of a row holds a part of the hidden state between blocks: in prefill, as tt_transformers
        does, because a norm over all of a wide hidden state does not fit L1. Not where the parts would be no whole
        tiles (gpt-oss: 2880 elements over 8 chips): ttnn takes them, but rows of a norm's weight cannot be cut so."""
        whole_tiles = self.spec.hidden_dim % (TILE * self.split.heads) == 0
        return self.phase == PREFILL and self.split.heads > 1 and self.split.hidden == 1 and whole_tiles


def over_users(run: Run, height: int, width: int) -> Any:
    """The place of a tensor of which each user's [height, width] lies on a core of its own."""
    import ttnn

    return ttnn.create_sharded_memory_config(
        shape=(height, width),
        core_grid=ttnn.num_cores_to_corerangeset(run.rows, ttnn.CoreCoord(*run.grid), row_wise=True),
        strategy=ttnn.ShardStrategy.HEIGHT,
        orientation=ttnn.ShardOrientation.ROW_MAJOR,
        use_height_and_width_as_shard_shape=True,
    )
