# SPDX-License-Identifier: Apache-2.0
"""A walk through a model's ops on the mesh of a described system: each is asked about, none is run."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

from ...common.units import TILE
from ...config.layers import write_select
from ...config.planned import lm_head_columns, row_limit
from ...config.resolve import Experiment
from ...hardware.op_table import DECODE, PREFILL
from ...hardware.schema import DeviceConfig
from ...models.decoder import decoder_layer, final_hidden, head_matrix, logits_of
from ...models.rope import RotaryTable, RotaryTables
from ...models.spec import ModelSpec
from ...perf.ops import padded_prompt
from ...planning.attention_chunks import cache_tokens
from ...planning.layer_groups import LayerGroup, ordered_groups
from ...planning.split import Split
from .ops.decoder_run import Run, over_users
from .ops.ttnn_ops import TtnnOps
from .process.failures import own_words
from .recording.asking import Asking, Refused, Row
from .recording.recorder import overflows_l1
from .recording.visualizer import Accepted, Placing
from .weights.shapes_only import ShapesOnly

__all__ = ["Question", "ask", "group_mesh", "lm_head_columns", "over_users", "overflows_l1", "question_of"]

PHASES = (PREFILL, DECODE)
EXPERTS_ASKED = 2  # of a layer, which are alike: the first one, and one whose output is added to it
Progress = Callable[[str, int, int], None]


@dataclasses.dataclass(frozen=True)
class Question:
    """What is asked of ttnn, for one data-parallel group; the others do the same.

    tokens: of one chunk of a prompt, chunks: how many a prompt is. users: of a decode step. context: tokens that the KV
    cache holds per user. page: tokens in a page of it, None for a plain cache. programs: op group -> fields of its plan
    that the user chose.
    """

    config: DeviceConfig
    spec: ModelSpec
    tokens: int
    users: int
    context: int
    page: int | None
    chunks: int = 1
    readers_per_bank: int = 1
    autofit: bool = True
    programs: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def rows(self, phase: str) -> int:
        """Rows of activations: tokens in prefill, users in decode."""
        return self.tokens if phase == PREFILL else self.users


def question_of(experiment: Experiment) -> Question:
    """What is asked of ttnn: one chunk of the prompt, and the users of one data-parallel group."""
    config, workload, runtime = experiment.hardware, experiment.config.workload, experiment.config.runtime
    padded = padded_prompt(workload.prompt_length)
    tokens = min(padded, config.max_prefill_chunk_size)
    return Question(
        config=config,
        spec=experiment.spec,
        tokens=tokens,
        users=math.ceil(workload.batch / config.parallelism.data_parallel_size),
        context=cache_tokens(max(experiment.context, padded), runtime.kv_page_size),
        page=runtime.kv_page_size,
        chunks=math.ceil(padded / tokens),
        readers_per_bank=runtime.dram_readers_per_bank or 1,
        autofit=runtime.autofit,
        programs=runtime.programs,
    )


def ask(question: Question, mesh: Any, progress: Progress) -> list[Row]:
    """The rows of `asked`."""
    return asked(question, mesh, progress).rows


def place(question: Question, mesh: Any, accepted: Accepted) -> None:
    """The same walk with the programs that ttnn accepted, for a capture of its own (recording.visualizer).

    Raises RuntimeError at an op that ttnn refuses.
    """
    placing = Placing(mesh, accepted)
    for phase in PHASES:
        placing.phase = phase
        _Walk(question, placing, _no_progress, 0).through()


def _no_progress(phase: str, done: int, steps: int) -> None:
    """Nobody is shown how far it is."""


def asked(question: Question, mesh: Any, progress: Progress) -> Asking:
    """A row per op of prefill and decode: embedding, one layer of every kind, final norm and LM head.

    Of a prompt of several chunks the second one's layers are asked about too: their attention is another op. A phase
    ends at the first op that ttnn refuses with every program tried. `progress` is called with phase, steps done and
    steps in all.
    """
    asking = Asking(mesh, autofit=question.autofit)
    for phase in PHASES:
        asking.phase = phase
        _walk(question, asking, progress)
        if phase == PREFILL and question.chunks > 1:
            _walk(question, asking, progress, chunk_start=question.tokens)
    return asking


def group_mesh(whole: Any, config: DeviceConfig, spec: ModelSpec) -> Any:
    """The chips of one data-parallel group."""
    import ttnn

    shape = Split.of(config, spec).mesh_shape
    return whole if list(shape) == list(config.spec.mesh_shape) else whole.create_submesh(ttnn.MeshShape(*shape))


def part_of(group: LayerGroup) -> str:
    """What a row says of where in the model its op is."""
    return f"layer {write_select(list(group.layers))}"


def _walk(question: Question, asking: Asking, progress: Progress, chunk_start: int = 0) -> None:
    """One phase, or a later chunk of a prompt."""
    try:
        _Walk(question, asking, progress, chunk_start).through()
    except Refused:
        return
    except RuntimeError as error:  # a weight, a cache or a table that ttnn could not place
        asking.note_failure("placing tensors", own_words(str(error)))


class _Walk:
    """One phase of a question."""

    def __init__(self, question: Question, asking: Asking | Placing, progress: Progress, chunk_start: int) -> None:
        self.config, self.spec, self.asking = question.config, question.spec, asking
        self.groups = ordered_groups(self.config, self.spec)
        self.steps, self.done, self.progress = len(self.groups) + 2, 0, progress
        asking.part = "tables"
        self.run, self.weights = _run(question, asking, chunk_start)

    def through(self) -> None:
        ops = TtnnOps(self.run, self.config)
        self._begin("embedding")
        x = ops.embed(self.weights.tokens(self.run.rows), "embedding")
        tables = _tables(self.run)
        y = None
        for group in self.groups:
            part = part_of(group)
            self._begin(f"{part}, chunk 2" if self.run.chunk_start else part)
            del y  # the output of another kind of layer would take L1
            self.weights.layer = min(group.layers)
            layer = TtnnOps(self.run, group.hardware, self.weights.layer)
            y = decoder_layer(layer, self.spec, self.weights, x, tables)  # type: ignore[arg-type]
        if self.run.chunk_start:
            return
        self._begin("LM head")
        del x
        normed = final_hidden(ops, self.spec, _Named(), y)  # type: ignore[arg-type]
        del y
        if self.run.phase == PREFILL:
            normed = _last_tile(ops, normed)
        logits_of(ops, self.spec, head_matrix(ops, _Named()), normed)  # type: ignore[arg-type]
        self.progress(self.run.phase, self.steps, self.steps)

    def _begin(self, part: str) -> None:
        self.asking.part = part
        self.progress(self.run.phase, self.done, self.steps)
        self.done += 1


def _run(question: Question, asking: Asking | Placing, chunk_start: int) -> tuple[Run, ShapesOnly]:
    config, spec, mesh, phase = question.config, question.spec, asking.mesh, asking.phase
    split, columns = Split.of(config, spec), lm_head_columns(config, spec)
    weights = ShapesOnly(
        spec,
        split,
        mesh,
        users=question.users,
        context=question.context,
        page=question.page,
        lm_head_columns=columns,
    )
    users = question.users if phase == DECODE else 1  # a prompt is one user's
    pages = chunk_pages = None
    if question.page is not None:
        pages = weights.integers([users, math.ceil(question.context / question.page)])
        chunk_pages = weights.integers([users, math.ceil(question.tokens / question.page)])
    run = Run(
        spec=spec,
        split=split,
        mesh=mesh,
        weights=weights,
        recorder=asking,
        phase=phase,
        rows=question.rows(phase),
        context=question.context,
        grid=(config.spec.grid[0], config.spec.grid[1]),
        positions=weights.integers([question.users]),
        page_table=pages,
        fill_table=chunk_pages,
        chunk_start=chunk_start,
        readers_per_bank=question.readers_per_bank,
        row_limit=row_limit(config, spec),
        lm_head_columns=columns,
        programs=question.programs,
        experts_asked=EXPERTS_ASKED,
    )
    return dataclasses.replace(run, transformation=_transformation(run)), weights


class _Named:
    """A weight source whose tensors are their names."""

    def tensor(self, name: str, layer: int | None = None) -> str:
        return name


def _last_tile(ops: TtnnOps, x: Any) -> Any:
    """The rows of the last tokens, which are all that the LM head needs of a prompt."""
    import ttnn

    rows, width = x.shape[-2], x.shape[-1]
    return ops.do("last tile", lambda _: ttnn.slice(x, [0, 0, rows - TILE, 0], [1, 1, rows, width]))


def _tables(run: Run) -> RotaryTables:
    """Rotary tables: a row per token in prefill, a core per user in decode, where each takes L1 of its own."""
    import ttnn

    depth = run.spec.head_dim

    def table(shape: list[int], place: Any) -> Any:
        return ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, run.mesh, place)

    if run.phase == PREFILL:
        shape, place = [1, 1, run.rows, depth], ttnn.DRAM_MEMORY_CONFIG
    else:
        shape, place = [1, run.rows, 1, depth], over_users(run, TILE, depth)

    def rotary_table(*, grows: bool) -> RotaryTable:
        own = RotaryTable.of(table(shape, place), table(shape, place))
        return own._replace(query_cos=table(shape, place), query_sin=table(shape, place)) if grows else own

    return {rotary: rotary_table(grows=bool(rotary.query_beta)) for rotary in run.spec.rotaries}


def _transformation(run: Run) -> Any:
    import ttnn

    if run.phase == PREFILL:
        shape, place = [1, 1, TILE, TILE], ttnn.DRAM_MEMORY_CONFIG
    else:
        shape, place = [1, 1, run.rows * TILE, TILE], over_users(run, TILE, TILE)
    return ttnn.empty(shape, ttnn.bfloat16, ttnn.TILE_LAYOUT, run.mesh, place)
