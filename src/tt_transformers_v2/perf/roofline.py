# SPDX-License-Identifier: Apache-2.0
"""How fast it will be: a roofline over the op inventory plus the overheads that decide small shards.

Decode, per token: every weight matrix takes the longer of its bytes over the achieved DRAM bandwidth and its
tiles over the cores that read them (c0 + math cycles each); then KV bytes, attention compute, collectives, a
fixed cost per layer and one per token. Prefill: every matmul takes the longer of flops over the achieved peak
of its cores and bytes over the interleaved DRAM bandwidth; then attention (matrix flops plus exponentials),
collectives, dispatch per layer.

Bounds are tt-perf-report's words, applied to predicted times. DRAM: the op moves at least 65 % of the nominal
bandwidth. FLOP: its math takes at least 65 % of the cores it runs on (decode matmuls run on the reader
cores). BOTH: both do. SLOW: neither does; tile rate, collectives, gaps. HOST: sampling and host. The bound of
the whole is the one whose ops take the largest share of the time.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from .calibration import ArchCalibration, Calibration
from .ops import TILE, Op, decode_ops, prefill_ops, require_positive

BOUND_THRESHOLD = 0.65  # share of the nominal rate, as in tt-perf-report
CYCLES_PER_PHASE = 16  # matrix-unit cycles of a 32x32x32 tile multiply per fidelity phase (matrix_engine.md)
ONE_SHOT_BYTES = 1 << 20  # below this, Wormhole's ring reduce-scatter is a one-shot algorithm (CCL summary_wormhole_b0)


@dataclass(frozen=True)
class OpTime:
    """One op's predicted time: us per execution, total_us over all of them, share of the whole (0 to 1).

    `parts` splits us by kind of time: weights, kv, collectives, overhead, flops. dram_share and flop_share
    are of the nominal rates of the chip and of the cores used.
    """

    op: Op
    us: float
    parts: dict[str, float]
    bound: str
    dram_share: float
    flop_share: float
    share: float = 0.0

    @property
    def total_us(self) -> float:
        return self.us * self.op.count


@dataclass(frozen=True)
class Performance:
    """A prediction.

    ttft_ms: one user's prompt, sampling of its first token included. tokens_per_s: over all users of all
        groups.
    shares, bound, ops: of a decode step; prefill_shares, prefill_bound, prefill_ops: of a prompt.
    notes: what the form does not cover in this configuration.
    """

    decode_tokens_per_s_per_user: float
    tokens_per_s: float
    ttft_ms: float
    bound: str
    shares: dict[str, float]
    ops: tuple[OpTime, ...]
    prefill_bound: str
    prefill_shares: dict[str, float]
    prefill_ops: tuple[OpTime, ...]
    basis: str
    notes: tuple[str, ...] = ()

    @property
    def decode_ms(self) -> float:
        """Milliseconds per decode step."""
        return 1e3 / self.decode_tokens_per_s_per_user


@dataclass(frozen=True)
class _Chip:
    """What the formulas need of one chip: GB/s, MHz, cores; readers read the weights in decode."""

    calibration: ArchCalibration
    bandwidth: float
    clock_mhz: float
    flop_per_cycle: int
    columns: int
    grid_rows: int
    readers: int
    sharded: bool
    ring: bool

    @classmethod
    def of(cls, hw: DeviceConfig, calibration: Calibration) -> _Chip:
        system, chip = hw.spec, hw.spec.chip
        constants = calibration.of(chip.arch)
        return cls(
            calibration=constants,
            bandwidth=hw.dram_bandwidth / system.chips,
            clock_mhz=chip.clock_mhz,
            flop_per_cycle=chip.flop_per_cycle_lofi,
            columns=system.grid[0],
            grid_rows=system.grid[1],
            readers=max(1, min(chip.dram_banks * constants.readers_per_bank, system.cores)),
            sharded=hw.memory.use_width_sharding,
            ring=system.topology == "ring" and hw.parallelism.tensor_parallel_size == system.chips,
        )

    def dram_us(self, nbytes: float, sharded: bool) -> float:
        c = self.calibration
        return nbytes / (self.bandwidth * 1e3 * (c.dram_efficiency if sharded else c.dram_efficiency_interleaved))

    def peak_us(self, op: Op, cores: int) -> float:
        """Time of the op's matrix flops on `cores` cores at peak."""
        phases = op.fidelity.phases if op.fidelity else 1
        return op.flops * phases / (self.flop_per_cycle * cores * self.clock_mhz)


def predict_performance(
    hw: DeviceConfig,
    spec: ModelSpec,
    calibration: Calibration,
    *,
    prompt_length: int,
    batch: int = 1,
    context: int | None = None,
) -> Performance:
    """Decode speed, time to first token and what bounds them, predicted without hardware.

    Args:
        prompt_length: tokens of a prompt. batch: users per data-parallel group.
        context: tokens in every user's cache while decoding; None means prompt_length.
    """
    context = prompt_length if context is None else context
    require_positive(prompt_length=prompt_length, batch=batch, context=context)
    chip = _Chip.of(hw, calibration)
    decode = _with_shares([_decode_time(op, chip) for op in decode_ops(hw, spec, batch=batch, context=context)])
    prefill = _with_shares([_prefill_time(op, chip) for op in prefill_ops(hw, spec, prompt_length=prompt_length)])
    per_user = 1e6 / sum(t.total_us for t in decode)
    return Performance(
        decode_tokens_per_s_per_user=per_user,
        tokens_per_s=per_user * batch * hw.parallelism.data_parallel_size,
        ttft_ms=sum(t.total_us for t in prefill) / 1e3,
        bound=_bound_of_whole(decode),
        shares=_shares(decode),
        ops=decode,
        prefill_bound=_bound_of_whole(prefill),
        prefill_shares=_shares(prefill),
        prefill_ops=prefill,
        basis=f"predicted (roofline + overheads, calibration {calibration.name})",
        notes=_notes(hw, spec),
    )


def all_reduce_us(payload: float, chips: int, ring: bool, c: ArchCalibration) -> float:
    """Time of an all-reduce of `payload` bytes per chip over `chips` chips.

    tt_transformers composes it of a reduce-scatter, which moves (N-1)/N of the payload, and an all-gather of
    shards of payload/N, which moves N-1 of them; an architecture calibrated as all-reduce moves 2(N-1)/N.
    """
    moved = payload * (chips - 1) / chips
    hops = chips / 2 if ring else chips - 1
    direct = c.all_reduce_ring if ring else c.all_reduce_line
    scatter, gather = (c.reduce_scatter_ring, c.all_gather_ring) if ring else (c.reduce_scatter_line, c.all_gather_line)
    if chips == 2 and c.reduce_scatter_pair and c.all_gather_pair:
        scatter, gather, hops = c.reduce_scatter_pair, c.all_gather_pair, 1
    elif ring and payload < ONE_SHOT_BYTES and c.reduce_scatter_ring_small:
        scatter = c.reduce_scatter_ring_small
    if scatter and gather:
        return scatter.time_us(hops, moved) + gather.time_us(hops, moved)
    assert direct is not None, "ArchCalibration guarantees one of the two"
    return direct.time_us(hops, 2 * moved)


def _decode_time(op: Op, chip: _Chip) -> OpTime:
    c = chip.calibration
    if op.kind == "weights" and op.tiles:
        phases = op.fidelity.phases if op.fidelity else 1
        cycles = c.reader_cycles_per_tile + CYCLES_PER_PHASE * phases * op.rows / TILE
        us = max(chip.dram_us(op.bytes, chip.sharded), op.tiles / chip.readers * cycles / chip.clock_mhz)
        return _timed(op, {"weights": us}, chip, chip.readers)
    if op.kind == "kv":
        # k_S holds while every (user, KV head) pair has its cores; beyond that the pairs queue.
        queue = max(1.0, op.pairs * c.sdpa_decode_cores_per_head / (chip.columns * chip.grid_rows))
        compute = c.sdpa_decode_us_per_64k * op.context / 65536 * queue
        parts = {"kv": chip.dram_us(op.bytes, True), "flops": compute}
        return _timed(op, parts, chip, chip.columns * chip.grid_rows)
    return _other_time(op, chip, c.layer_overhead_us)


def _prefill_time(op: Op, chip: _Chip) -> OpTime:
    c = chip.calibration
    if op.kind == "weights" and op.tiles:
        cores = chip.columns * min(chip.grid_rows, math.ceil(op.rows / TILE))
        flops, dram = chip.peak_us(op, cores) / c.matmul_efficiency, chip.dram_us(op.bytes, False)
        return _timed(op, {"flops": flops} if flops > dram else {"weights": dram}, chip, cores)
    if op.kind == "kv":
        cores = chip.columns * chip.grid_rows
        exponentials = op.scores / (c.softmax_elements_per_cycle * cores * chip.clock_mhz)
        return _timed(op, {"flops": chip.peak_us(op, cores) / c.matmul_efficiency + exponentials}, chip, cores)
    return _other_time(op, chip, c.layer_overhead_us if c.prefill_traced else c.prefill_layer_overhead_us)


def _other_time(op: Op, chip: _Chip, layer_overhead_us: float) -> OpTime:
    """Collectives, the embedding's few rows, glue and the host: the same in both phases but for the glue."""
    c = chip.calibration
    if op.kind == "collectives":
        return _timed(op, {"collectives": all_reduce_us(op.payload, op.chips, chip.ring, c)}, chip, 0)
    if op.kind == "weights":
        return _timed(op, {"weights": chip.dram_us(op.bytes, False)}, chip, 0)
    if op.name == "sampling_and_host":
        return _timed(op, {"overhead": c.token_overhead_ms * 1e3 + c.user_overhead_us * (op.rows - 1)}, chip, 0)
    return _timed(op, {"overhead": layer_overhead_us}, chip, 0)


def _timed(op: Op, parts: dict[str, float], chip: _Chip, cores: int) -> OpTime:
    us = sum(parts.values())
    dram = op.bytes / (chip.bandwidth * 1e3) / us if us else 0.0
    flop = chip.peak_us(op, cores) / us if us and cores else 0.0
    return OpTime(op=op, us=us, parts=parts, bound=_bound(op, dram, flop), dram_share=dram, flop_share=flop)


def _bound(op: Op, dram: float, flop: float) -> str:
    if op.name == "sampling_and_host":
        return "HOST"
    by_dram, by_flop = dram >= BOUND_THRESHOLD, flop >= BOUND_THRESHOLD
    return {(True, True): "BOTH", (True, False): "DRAM", (False, True): "FLOP"}.get((by_dram, by_flop), "SLOW")


def _with_shares(times: list[OpTime]) -> tuple[OpTime, ...]:
    whole = sum(t.total_us for t in times)
    return tuple(OpTime(t.op, t.us, t.parts, t.bound, t.dram_share, t.flop_share, t.total_us / whole) for t in times)


def _shares(times: tuple[OpTime, ...]) -> dict[str, float]:
    """Share of the time by kind; sums to 1."""
    shares = dict.fromkeys(("weights", "kv", "collectives", "overhead", "flops"), 0.0)
    whole = sum(t.total_us for t in times)
    for t in times:
        for kind, us in t.parts.items():
            shares[kind] += us * t.op.count / whole
    return shares


def _bound_of_whole(times: tuple[OpTime, ...]) -> str:
    by_bound: dict[str, float] = {}
    for t in times:
        by_bound[t.bound] = by_bound.get(t.bound, 0.0) + t.share
    return max(by_bound, key=lambda bound: by_bound[bound])


def _notes(hw: DeviceConfig, spec: ModelSpec) -> tuple[str, ...]:
    tp, notes = hw.parallelism.tensor_parallel_size, []
    if tp > 1 and min(hw.spec.mesh_shape) > 1:
        notes.append("2-D mesh: collectives are timed as on a line; the Galaxy path is not modelled.")
    if tp > spec.num_kv_heads:
        notes.append(f"{spec.num_kv_heads} KV heads are replicated over {tp} tensor-parallel chips.")
    if hw.parallelism.pipeline_parallel_size > 1:
        notes.append("pipeline parallel: stages run one after another, transfers between them are not counted.")
    return tuple(notes)
