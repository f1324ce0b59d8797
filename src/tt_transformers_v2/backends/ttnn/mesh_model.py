# SPDX-License-Identifier: Apache-2.0
"""A model on a mesh: prompts in, logits out, one token at a time after that.

A prompt is one user's, padded to a length that programs are made for and cut into chunks; a decode step takes one token
of every user. Decode can be traced: ttnn then replays the recorded commands and the host only writes the inputs.
"""

from __future__ import annotations

import dataclasses
import math
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ...common.errors import ConfigError
from ...common.units import TILE
from ...hardware.op_table import DECODE, PREFILL
from ...hardware.schema import DeviceConfig
from ...models.decoder import final_hidden, head_matrix, logits_of, through_layers
from ...models.rope import RotaryTables
from ...perf.ops import padded_prompt
from .ops.decoder_run import Run, over_users
from .ops.ttnn_ops import TtnnOps
from .recording.recorder import Recorder
from .weights import arrange
from .weights.host_weights import Handles, HostWeights


class TtnnModel:
    """A model of one data-parallel group.

    Args:
        weights: its tensors; their KV cache says how many users there are and how many tokens each may have.
        config: the hardware configuration.
        recorder: runs the ops.
        template: fields of ops.Run that both phases share, besides those that come from `weights` and `config`:
            readers_per_bank, row_limit, lm_head_columns, programs.
    """

    def __init__(self, weights: HostWeights, config: DeviceConfig, recorder: Recorder, **template: Any) -> None:
        self.weights, self.config, self.spec = weights, config, weights.spec
        self.kv, self.mesh = weights.kv, weights.mesh
        self._handles: Any = Handles(self.spec)
        self._common: dict[str, Any] = {
            "spec": self.spec,
            "split": weights.split,
            "mesh": self.mesh,
            "weights": weights,
            "recorder": recorder,
            "context": self.kv.tokens,
            "grid": (config.spec.grid[0], config.spec.grid[1]),
            **template,
        }
        self._tables = arrange.rotary_tables(self.spec, self.kv.blocks * (self.kv.page or self.kv.tokens))
        self._on_mesh: dict[Any, Any] = {}
        self.decoder = Decoder(self)

    # Prompts

    def prefill(self, tokens: Sequence[int], user: int = 0) -> Tensor:
        """Logits float32 [vocab] for the token after the prompt; the user's KV cache then holds the prompt."""
        run, x, known = deque(self._chunks(tokens, user), maxlen=1).pop()  # the others only fill the cache
        first = (known - 1) // TILE * TILE
        return self._logits(run, self._rows(run, x, first))[known - 1 - first]

    def all_logits(self, tokens: Sequence[int]) -> Iterator[Tensor]:
        """As `prefill`, but the logits after every token, float32 [at most 32, vocab] at a time."""
        for run, x, known in self._chunks(tokens, user=0):
            for first in range(0, known, TILE):
                yield self._logits(run, self._rows(run, x, first))[: known - first]

    def _chunks(self, tokens: Sequence[int], user: int) -> Iterator[tuple[Run, Any, int]]:
        """The final hidden states of each chunk, and how many of its rows are tokens and not padding."""
        if not tokens:
            raise ConfigError("a prompt needs at least one token.")
        padded = padded_prompt(len(tokens))
        if padded > self.kv.tokens:
            raise ConfigError(
                f"a prompt of {len(tokens)} tokens ({padded} padded) exceeds the cache's {self.kv.tokens}."
            )
        ids = functional.pad(torch.tensor(tokens, dtype=torch.int32), (0, padded - len(tokens)))
        at_once = self.config.max_prefill_chunk_size
        for start in range(0, padded, at_once):
            rows = min(at_once, padded - start)
            known = min(rows, len(tokens) - start)
            if known <= 0:
                return  # a chunk of padding only
            run, tables = self.prompt(rows, start, user)
            yield run, self._hidden(run, ids[start : start + rows], tables), known

    def prompt(self, rows: int, start: int, user: int) -> tuple[Run, RotaryTables]:
        """What the ops of a chunk of a user's prompt need to know, and its rotary tables."""
        return self._prompt_run(rows, start, user), self._prompt_tables(start, rows)

    def _prompt_run(self, rows: int, start: int, user: int) -> Run:
        import ttnn

        run = Run(**self._common, phase=PREFILL, rows=rows, user=user, chunk_start=start)
        transformation = self._once(
            "prefill turn", lambda: self.weights.put(arrange.rotation(), ttnn.bfloat16, tile=True)
        )
        page = self.kv.page
        if page is None:
            return dataclasses.replace(run, transformation=transformation)
        if start % page:
            raise ConfigError(
                f"chunks of {start} tokens are not whole pages of {page}.", "Use runtime.kv_page_size=32."
            )
        own = self._page_table()[user : user + 1]
        chunk = own[:, start // page : math.ceil((start + rows) / page)]
        return dataclasses.replace(
            run,
            transformation=transformation,
            page_table=self._once(("pages", user), lambda: self.weights.put(own, ttnn.int32)),
            fill_table=self._once(("pages", user, start, rows), lambda: self.weights.put(chunk, ttnn.int32)),
        )

    def _prompt_tables(self, start: int, rows: int) -> RotaryTables:
        import ttnn

        own = slice(start, start + rows)

        def put(part: Tensor) -> Any:
            return self.weights.put(part[own][None, None], ttnn.bfloat16, tile=True)

        return self._once(
            ("tables", start, rows),
            lambda: {rotary: arrange.each_part(table, put) for rotary, table in self._tables.items()},
        )

    # Both phases

    def _hidden(self, run: Run, ids: Tensor, tables: RotaryTables) -> Any:
        import ttnn

        return self.hidden(run, self.weights.put(ids.reshape(1, 1, 1, -1), ttnn.uint32), tables)

    def hidden(self, run: Run, tokens: Any, tables: RotaryTables) -> Any:
        """The normed output of the last layer for `tokens` on the mesh."""
        ops = TtnnOps(run, self.config)
        x = through_layers(ops, self._handles, ops.embed(tokens, self._handles.tensor("embedding")), tables)
        return final_hidden(ops, self.spec, self._handles, x)

    def head(self, run: Run, x: Any) -> Any:
        """Logits of at most 32 rows, on the mesh."""
        ops = TtnnOps(run, self.config)
        return logits_of(ops, self.spec, head_matrix(ops, self._handles), x)

    def _rows(self, run: Run, x: Any, first: int) -> Any:
        """A tile's rows of the final hidden states."""
        import ttnn

        width = x.shape[-1]
        return run.recorder.run("tile", lambda _: ttnn.slice(x, [0, 0, first, 0], [1, 1, first + TILE, width]))

    def _logits(self, run: Run, x: Any) -> Tensor:
        return self.read_logits(self.head(run, x))

    def read_logits(self, logits: Any) -> Tensor:
        """Logits on the mesh as float32 [rows, vocab] on this machine."""
        return self.weights.whole(logits, 3, None)[0, 0, :, : self.spec.vocab_size]

    def _page_table(self) -> Tensor:
        """int32 [users, pages of one]: every user has pages in order, none shared."""
        return torch.arange(self.kv.users * self.kv.blocks, dtype=torch.int32).reshape(self.kv.users, -1)

    def _once(self, key: Any, make: Any) -> Any:
        if key not in self._on_mesh:
            self._on_mesh[key] = make()
        return self._on_mesh[key]


class Decoder:
    """Decode steps of a model: the tensors a step reads from, the step, and its trace."""

    def __init__(self, model: TtnnModel) -> None:
        self.model = model
        self.users = model.kv.users
        self._trace: Any = None
        self._logits: Any = None
        self._inputs: list[Any] = []

    @property
    def traced(self) -> bool:
        """Whether `record` has left a trace, which `step` then replays."""
        return self._trace is not None

    def step(self, tokens: Sequence[int], positions: Sequence[int]) -> Tensor:
        """Logits float32 [users, vocab] after one more token of every user, each at its position."""
        import ttnn

        self._write(tokens, positions)
        if self._trace is None:
            self._logits = self._compute()
        else:
            ttnn.execute_trace(self.model.mesh, self._trace, cq_id=0, blocking=False)
        return self.model.read_logits(self._logits)[: self.users]

    def record(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        """Runs a step, so that every program is compiled, then records one as a trace.

        The step is repeated by the next `step` at the same positions and leaves nothing else behind. No prompt may be
        prefilled after it: what prefill allocates could lie where the trace writes.
        """
        import ttnn

        self.step(tokens, positions)
        self._trace = ttnn.begin_trace_capture(self.model.mesh, cq_id=0)
        try:
            self._logits = self._compute()
        finally:
            ttnn.end_trace_capture(self.model.mesh, self._trace, cq_id=0)

    def release(self) -> None:
        """Gives the trace back, if there is one."""
        import ttnn

        if self._trace is not None:
            ttnn.release_trace(self.model.mesh, self._trace)
            self._trace = None

    def _write(self, tokens: Sequence[int], positions: Sequence[int]) -> None:
        """The step's inputs into the tensors it reads, which are made at the first step."""
        import ttnn

        if not len(tokens) == len(positions) == self.users:
            raise ConfigError(f"a decode step takes {self.users} tokens and positions, not {len(tokens)}.")
        if max(positions) >= self.model.kv.tokens:
            raise ConfigError(f"position {max(positions)} exceeds the cache's {self.model.kv.tokens} tokens.")
        where = torch.tensor(positions, dtype=torch.int32)
        padded = functional.pad(where, (0, -self.users % TILE))
        weights = self.model.weights
        new = [
            weights.on_host(torch.tensor(tokens, dtype=torch.int32).reshape(1, 1, 1, -1), ttnn.uint32),
            weights.on_host(where, ttnn.int32),
            weights.on_host(padded[None], ttnn.uint32),
        ]
        if not self._inputs:
            self._inputs = [tensor.to(self.model.mesh, ttnn.DRAM_MEMORY_CONFIG) for tensor in new]
            return
        for tensor, there in zip(new, self._inputs, strict=True):
            ttnn.copy_host_to_device_tensor(tensor, there)

    def _compute(self) -> Any:
        tokens, _, rows = self._inputs
        run = self._run()
        return self.model.head(run, self.model.hidden(run, tokens, self._tables(run, rows)))

    def _run(self) -> Run:
        import ttnn

        model = self.model
        run = Run(**model._common, phase=DECODE, rows=self.users, positions=self._inputs[1])
        turn = arrange.rotation().repeat(1, 1, self.users, 1)
        place = over_users(run, TILE, TILE)
        transformation = model._once(
            "decode turn", lambda: model.weights.put(turn, ttnn.bfloat16, tile=True, place=place)
        )
        pages = None
        if model.kv.page is not None:
            pages = model._once("pages", lambda: model.weights.put(model._page_table(), ttnn.int32))
        return dataclasses.replace(run, transformation=transformation, page_table=pages)

    def _tables(self, run: Run, rows: Any) -> RotaryTables:
        """Every user's row of the rotary tables, one user per core."""
        import ttnn

        model, users, depth = self.model, self.users, self.model.spec.head_dim

        def put(part: Tensor) -> Any:
            return model.weights.put(part[None, None], ttnn.bfloat16)

        whole = model._once(
            "tables", lambda: {rotary: arrange.each_part(table, put) for rotary, table in model._tables.items()}
        )
        place = over_users(run, TILE, depth)

        def looked_up(table: Any) -> Any:
            found = run.recorder.run(
                "rope rows", lambda _: ttnn.embedding(rows, table, layout=ttnn.TILE_LAYOUT, dtype=ttnn.bfloat16)
            )
            found = ttnn.unsqueeze_to_4D(found)
            by_user = run.recorder.run("rope rows transpose", lambda _: ttnn.transpose(found, 1, 2))
            if users % TILE:
                by_user = run.recorder.run(
                    "rope rows slice", lambda _: ttnn.slice(by_user, [0, 0, 0, 0], [1, users, 1, depth])
                )
            return run.recorder.run("rope rows shard", lambda _: ttnn.to_memory_config(by_user, place))

        return {rotary: arrange.each_part(table, looked_up) for rotary, table in whole.items()}
