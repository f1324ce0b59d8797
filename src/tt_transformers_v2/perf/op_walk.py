# SPDX-License-Identifier: Apache-2.0
"""A configuration walked op by op: what each op of a decode step or of a prefill pass takes, and how often it runs."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import NamedTuple

from ..common.units import TILE
from ..hardware.enums import DataFormat, MathFidelity, Placement, Prefill, Stack
from ..hardware.op_table import DECODE, EXPERT_GROUPS, LM_HEAD, MATRICES, PHASES, PREFILL, SDPA, ModelOp
from ..hardware.schema import DeviceConfig
from ..models.layer_spec import LayerSpec
from ..models.spec import ModelSpec
from ..planning.layer_groups import layer_groups
from .calibration import ArchCalibration
from .expert_ops import experts_op
from .layer_matmuls import StoredMatrix, layer_matrices_per_chip, lm_head_per_chip
from .layer_ops import REST, decode_layer_ops, prefill_layer_ops
from .ops import (
    all_reduce_op,
    decode_attention_op,
    embedding_op,
    fidelities,
    formats,
    fused_all_gather_matmul,
    matmul_op,
    padded,
    padded_prompt,
    prefill_attention_op,
)
from .speed import Counted
from .timing import OpTime, Timer, timer


def _total_us(times: Sequence[Counted]) -> float:
    return sum([time.us * count for time, count in times])


class _Settings:
    """What the ops of a layer are set to: formats by tensor group, fidelities by op group, placements."""

    __slots__ = ("fidelities", "formats", "kv_in_dram", "weights_in_dram")

    def __init__(self, own: DeviceConfig, *, experts: bool) -> None:
        memory = own.memory
        self.formats = formats(own)
        if experts:
            self.formats |= {group: own.precision.of(group) for group in EXPERT_GROUPS}
        self.fidelities = fidelities(own)
        self.weights_in_dram = memory.weights_placement is Placement.DRAM
        self.kv_in_dram = memory.kv_cache_placement is Placement.DRAM


class _Matmul(NamedTuple):
    """A matrix of one kind of layer: what tells it from all others of the model, and the groups it is set by."""

    tag: str
    matrix: StoredMatrix
    tensor_group: str
    op_groups: dict[str, str]  # by phase

    @classmethod
    def of(cls, matrix: StoredMatrix, number: int) -> _Matmul:
        groups = {phase: matrix.op.group_in(phase) for phase in PHASES}
        return cls(f"{matrix.name} of kind {number}", matrix, matrix.op.tensor_group, groups)


class _Layer(NamedTuple):
    """One kind of layer: its number among them, and its matmuls: wqkv, wo, and those behind attention."""

    number: int
    kind: LayerSpec
    window: int | None
    matmuls: tuple[_Matmul, ...]


class OpWalk:
    """One configuration walked op by op."""

    __slots__ = ("common", "fused", "head", "hw", "kinds", "spec", "timer", "tp")

    def __init__(self, hw: DeviceConfig, spec: ModelSpec, constants: ArchCalibration) -> None:
        self.hw, self.spec, self.tp = hw, spec, hw.parallelism.tensor_parallel_size
        shape = (
            spec.hidden_dim,
            spec.num_heads,
            spec.num_kv_heads,
            spec.head_dim,
            spec.intermediate_dim,
            spec.vocab_size,
            spec.sliding_window,
            spec.qk_norm,
            spec.kinds,
        )
        self.fused = fused_all_gather_matmul(hw, spec)
        mesh = (*hw.spec.mesh_shape,)
        self.timer: Timer = timer(hw, constants, shape, self.fused, mesh)
        layers, self.head = _layers(shape, spec, self.tp)
        self.common = _Settings(hw, experts=spec.has_experts)
        if not spec.kinds:
            self.kinds = [
                (self.common if own is hw else _Settings(own, experts=False), layers[0], len(same))
                for own, same in hw.layer_kinds(spec.num_layers)
            ]
            return
        settings = {id(hw): self.common}
        self.kinds = []
        for own, kind, same in layer_groups(hw, spec):
            found = settings.get(id(own))
            if found is None:
                found = settings[id(own)] = _Settings(own, experts=spec.has_experts)
            self.kinds.append((found, layers[spec.kinds.index(kind)], len(same)))

    def decode(self, batch: int, context: int) -> tuple[tuple[Counted, ...], float]:
        """One token for each of `batch` users, `context` tokens in every user's cache: ops, and their time in us."""
        c, rows = self.timer.constants, padded(batch)
        # A server's decode step walks the cache of every place, taken or not; what it reads is that of who is there.
        places = max(batch, c.max_num_seqs) if c.stack is Stack.vllm else batch
        embedding, head, host = self._embedding(rows), self._lm_head(rows), self._host(batch, self.timer.chip.groups)
        times: list[Counted] = [(embedding, 1)]
        us = embedding.us + head.us + host.us
        for own, layer, count in self.kinds:
            attention = self._decode_attention(own, layer.window, batch, context, places)
            ops = self._layer(own, layer, rows, batch, DECODE, attention, count)
            small, small_us = self._small_ops(own, layer, places, DECODE, count)
            times += ops
            times += small
            us += count * sum([time.us for time, _ in ops]) + small_us
        times += [(head, 1), (host, 1)]
        return tuple(times), us

    def prompts_at_once(self, users: int) -> int:
        """How many of `users` prompts one pass takes."""
        return users if self.timer.constants.prefill is Prefill.batched else 1

    def prefill(self, prompt_length: int, batch: int, users: int) -> tuple[tuple[Counted, ...], float]:
        """One user's prompt, or all of `users` where prefill is batched, in chunks, the last with what is left; the LM
        head sees the last tile of tokens only. Its ops, and their time in us."""
        c, together = self.timer.constants, self.prompts_at_once(users)
        one = padded_prompt(prompt_length)
        tokens = one * together
        rows = min(tokens, self.hw.max_prefill_chunk_size)
        whole, rest = divmod(tokens, rows)
        parts = [(rows, whole), (padded(rest), 1)] if rest else [(rows, whole)]
        chunks = sum([number for _, number in parts])
        embedding, head = self._embedding(tokens), self._lm_head(TILE)
        times: list[Counted] = [(embedding, 1)]
        us = embedding.us + head.us
        for own, layer, count in self.kinds:
            attention = self._prefill_attention(own, layer.window, one, rows, chunks, together)
            for length, number in parts:
                executions = count * number
                of_chunk = self._layer(own, layer, length, length, PREFILL, attention, executions)
                small, small_us = self._small_ops(own, layer, length, PREFILL, executions)
                times += of_chunk
                times += small
                us += executions * sum([time.us for time, _ in of_chunk]) + small_us
        times.append((head, 1))
        if together > 1:
            slower = (c.prefill_batched_factor or 1.0) + (c.prefill_batched_chip or 0.0) * (self.tp - 1)
            more = us * (slower - 1.0)
            times.append((self.timer.overhead("batched_prefill", more), 1))
            us += more
        per_layer = (c.prefill_traced_layer_us or 0.0) + (c.prefill_traced_chip_us or 0.0) * (self.tp - 1)
        if per_layer:
            times.append((self._overhead(REST, per_layer), self.spec.num_layers * chunks))
            us += per_layer * self.spec.num_layers * chunks
        if c.prefill is Prefill.untraced:
            # A trace saves the dispatch, and nothing that the device does.
            per_layer = c.prefill_layer_overhead_us + c.prefill_chip_overhead_us * self.tp
            dispatch = per_layer * self.spec.num_layers * chunks
            wait = dispatch - us
            if wait > 0:
                times.append((self.timer.overhead("host_dispatch", wait), 1))
                us = dispatch
        host = self._host(1, 1).us
        if c.prefill is not Prefill.batched:
            host += c.prefill_user_overhead_ms * 1e3 * (batch - 1)
        times.append((self._overhead("sampling_and_host", host), 1))
        us += host
        if c.stack is Stack.vllm and batch > 1:
            # Requests that arrive together are all prefilled before the first of them decodes.
            return tuple([(time, count * batch) for time, count in times]), us * batch
        return tuple(times), us

    def _overhead(self, name: str, us: float) -> OpTime:
        """The overhead `name` of a prompt; equal ones are made once."""
        known, key = self.timer.known, ("prefill", name, us)
        found = known.get(key)
        if found is None:
            found = known[key] = self.timer.overhead(name, us)
        return found

    def _layer(
        self, own: _Settings, layer: _Layer, rows: int, tokens: int, phase: str, attention: OpTime, count: int
    ) -> list[Counted]:
        """The matmuls, attention and collectives of `count` decoder layers, in order of execution.

        `rows` of the activations hold `tokens` tokens.
        """
        known, given, read = self._matmuls(own, rows, phase, count), own.formats, own.fidelities
        times: list[Counted] = []
        for each in layer.matmuls:
            tag, matrix, tensor_group, op_groups = each
            if matrix.experts:
                times.append((self._experts(each, own, tokens, phase), count))
                continue
            key = (tag, given[tensor_group], read[op_groups[phase]])
            time = known.get(key)
            if time is None:
                time = known[key] = self._timed_matmul(key, matrix, own, rows, phase), count
            times.append(time)
        times.insert(1, (attention, count))
        if self.tp > 1:
            times.insert(3, (self._all_reduce(_WO, own, rows, phase), count))
            times.append((self._all_reduce(_W2, own, rows, phase), count))
        return times

    def _small_ops(
        self, own: _Settings, layer: _Layer, rows: int, phase: str, count: int
    ) -> tuple[tuple[Counted, ...], float]:
        """The small ops of `count` layers, where the calibration knows them, and the cost that stands for the rest;
        and their time in us.

        `rows`: users of a decode step, tokens of a prompt.
        """
        known, cache = self.timer.layers, own.formats[SDPA.tensor_group]
        key = (phase, rows, cache, layer.number, count)
        found = known.get(key)
        if found is None:
            timed = self._timed_small_ops(layer.kind, cache, rows, phase)
            counted = tuple([(time, each * count) for time, each in timed])
            found = known[key] = counted, _total_us(counted)
        return found

    def _timed_small_ops(self, kind: LayerSpec, cache: DataFormat, rows: int, phase: str) -> tuple[Counted, ...]:
        timer, rest = self.timer, self.timer.layer_overhead_us()
        costs, chip = timer.constants.ops, timer.chip
        if costs is None:
            return ((timer.overhead("norms_rope_residual", rest), 1),)
        if phase == DECODE:
            ops = decode_layer_ops(
                costs, self.spec, self.tp, batch=rows, kv_cache=cache, bandwidth=chip.bandwidth, kind=kind
            )
        else:
            ops = prefill_layer_ops(
                costs, self.spec, self.tp, rows=rows, cores=chip.cores, bandwidth=chip.bandwidth, kind=kind
            )
        counted = [(timer.overhead(op.name, op.us, rows), op.executions) for op in ops]
        return (*counted, (timer.overhead(REST, rest, rows), 1)) if rest else tuple(counted)

    def _matmuls(self, own: _Settings, rows: int, phase: str, count: int) -> dict[Hashable, Counted]:
        """Matmuls timed so far of so many rows, `count` of each, by matrix, format and fidelity."""
        tables, key = self.timer.matmuls, (phase, rows, own.weights_in_dram, count)
        found = tables.get(key)
        return tables.setdefault(key, {}) if found is None else found

    def _timed_matmul(
        self, key: tuple[str, DataFormat, MathFidelity], matrix: StoredMatrix, own: _Settings, rows: int, phase: str
    ) -> OpTime:
        _, weights, fidelity = key
        fused = matrix.name == "wo" and self.fused
        op = matmul_op(
            matrix.op,
            matrix.shape,
            phase=phase,
            weights=weights,
            fidelity=fidelity,
            rows=rows,
            banks=self.timer.chip.banks if self.timer.chip.sharded and not fused else 0,
            in_dram=own.weights_in_dram,
            fused=fused,
        )
        return self.timer.time(op, phase)

    def _experts(self, each: _Matmul, own: _Settings, tokens: int, phase: str) -> OpTime:
        tag, matrix, tensor_group, op_groups = each
        weights, fidelity = own.formats[tensor_group], own.fidelities[op_groups[phase]]
        return self.timer.timed(
            (tag, weights, fidelity, tokens, phase, own.weights_in_dram),
            phase,
            experts_op,
            matrix.op,
            matrix.shape,
            matrix.experts,
            phase=phase,
            weights=weights,
            fidelity=fidelity,
            tokens=tokens,
            in_dram=own.weights_in_dram,
        )

    def _decode_attention(self, own: _Settings, window: int | None, batch: int, context: int, places: int) -> OpTime:
        kv_cache, fidelity = own.formats[SDPA.tensor_group], own.fidelities[SDPA.group_in(DECODE)]
        return self.timer.timed(
            (SDPA.name, DECODE, window, kv_cache, fidelity, batch, context, places, own.kv_in_dram),
            DECODE,
            decode_attention_op,
            self.spec,
            self.tp,
            batch=batch,
            context=context,
            window=window,
            places=places,
            kv_cache=kv_cache,
            fidelity=fidelity,
            in_dram=own.kv_in_dram,
        )

    def _prefill_attention(
        self, own: _Settings, window: int | None, tokens: int, rows: int, chunks: int, users: int
    ) -> OpTime:
        fidelity = own.fidelities[SDPA.group_in(PREFILL)]
        return self.timer.timed(
            (SDPA.name, PREFILL, window, fidelity, tokens, rows, users),
            PREFILL,
            prefill_attention_op,
            self.spec,
            self.tp,
            tokens=tokens,
            rows=rows,
            chunks=chunks,
            window=window,
            users=users,
            fidelity=fidelity,
        )

    def _all_reduce(self, op: ModelOp, own: _Settings, rows: int, phase: str) -> OpTime:
        # A 2-D mesh splits the hidden size over its shorter axis and reduces over the longer one, in the `ccl` format;
        # what the other axis adds is one constant.
        chips, parts, group = self.tp, 1, op.activations
        activations = own.formats[group]
        if self.timer.chip.two_d:
            chips, parts, group = max(self.hw.spec.mesh_shape), min(self.hw.spec.mesh_shape), "ccl"
            activations = self.hw.precision.ccl
        # The fused all-gather and matmul is decode's; prefill sums by a reduce-scatter everywhere.
        gather_only = self.fused and op.matrix == "wo" and phase == DECODE
        return self.timer.timed(
            ("all_reduce", op.half, activations, rows, gather_only),
            phase,
            all_reduce_op,
            op,
            self.spec,
            chips,
            parts=parts,
            rows=rows,
            tensor_group=group,
            activations=activations,
            gather_only=gather_only,
        )

    def _embedding(self, rows: int) -> OpTime:
        table = self.hw.precision.embedding
        key = ("embedding", rows, table)
        return self.timer.timed(key, DECODE, embedding_op, self.spec, self.tp, rows=rows, table=table)

    def _lm_head(self, rows: int) -> OpTime:
        own, (tag, matrix, tensor_group, op_groups) = self.common, self.head
        known = self._matmuls(own, rows, DECODE, 1)
        key = (tag, own.formats[tensor_group], own.fidelities[op_groups[DECODE]])
        found = known.get(key)
        if found is None:
            found = known[key] = self._timed_matmul(key, matrix, own, rows, DECODE), 1
        return found[0]

    def _host(self, users: int, groups: int) -> OpTime:
        known, key = self.timer.known, ("host", users, groups)
        found = known.get(key)
        if found is None:
            us = self.timer.host_us(users, groups, self.spec.vocab_size)
            found = known[key] = self.timer.overhead("sampling_and_host", us, users)
        return found


_WO, _W2 = MATRICES["wo"], MATRICES["w2"]


def _layers(key: tuple[object, ...], spec: ModelSpec, tp: int) -> tuple[tuple[_Layer, ...], _Matmul]:
    """The kinds of layers in the order of spec.kinds, and the LM head."""
    found = _LAYERS.get((key, tp))
    if found is None:
        if len(_LAYERS) > 10_000:
            _LAYERS.clear()
        layers = []
        for number, kind in enumerate(spec.kinds or (spec.layer(0),)):
            matmuls = tuple(_Matmul.of(each, number) for each in layer_matrices_per_chip(spec, kind, tp))
            layers.append(_Layer(number, kind, kind.attention.window, matmuls))
        head = _Matmul.of(StoredMatrix(LM_HEAD.matrix, LM_HEAD, lm_head_per_chip(spec, tp)), 0)
        found = _LAYERS[key, tp] = tuple(layers), head
    return found


_LAYERS: dict[tuple[object, int], tuple[tuple[_Layer, ...], _Matmul]] = {}
