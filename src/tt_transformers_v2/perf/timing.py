# SPDX-License-Identifier: Apache-2.0
"""How long one op takes on one chip, and what bounds it.

Bounds are tt-perf-report's words, applied to predicted times. DRAM: the op moves at least 65 % of the nominal
bandwidth. FLOP: its math takes at least 65 % of the cores it runs on (decode matmuls run on the reader
cores). BOTH: both do. SLOW: neither does; tile rate, collectives, gaps. HOST: sampling, host and dispatch.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..common.units import TILE
from ..hardware.enums import Arch, Stack
from ..hardware.op_table import DECODE, EXPERT_MATRICES, LM_HEAD, NORM, ROUTER
from ..hardware.schema import DeviceConfig
from ..planning import plans
from .calibration import ArchCalibration
from .collective_times import all_gather_us, all_reduce_us
from .op_costs import OpCosts
from .ops import Op
from .token_costs import token_us

BOUND_THRESHOLD = 0.65  # share of the nominal rate, as in tt-perf-report
_HALF_ROWS_GRID = 8  # rows of cores that matmul_half_rows holds for, as on N150
_QUERY_WIDTH = 128  # elements of a query head that its cost in decode attention is given for
CYCLES_PER_PHASE = 16  # matrix-unit cycles of a 32x32x32 tile multiply per fidelity phase (matrix_engine.md)
_BY_TILE = frozenset({LM_HEAD.name, *(op.name for op in EXPERT_MATRICES.values() if op is not ROUTER)})
HOST_OPS = ("sampling_and_host", "host_dispatch")
KINDS = ("weights", "kv", "collectives", "overhead", "flops")


class OpTime(NamedTuple):
    """One op's predicted time per execution.

    `parts` splits us by kind of time (KINDS). dram_share and flop_share are of the nominal rates of the chip and of
    the cores used. `next_bound` is what would bind were the bound removed, with the time it would leave, in us.
    """

    op: Op
    us: float
    parts: dict[str, float]
    bound: str
    dram_share: float
    flop_share: float
    next_bound: str = ""
    next_us: float = 0.0


class ChipFigures(NamedTuple):
    """What the formulas need of one chip and its place in the mesh: GB/s, MHz, flop per cycle and core, cores."""

    arch: Arch
    bandwidth: float
    clock_mhz: float
    flop_per_cycle: int
    banks: int
    columns: int
    grid_rows: int
    sharded: bool
    ring: bool
    two_d: bool
    tensor_parallel: int
    groups: int

    @classmethod
    def of(cls, hw: DeviceConfig) -> ChipFigures:
        """The figures of one chip under `hw`. Raises ConfigError for a device that cannot dispatch as asked."""
        system, chip, parallel = hw.spec, hw.spec.chip, hw.parallelism
        tp = parallel.tensor_parallel_size
        chips, (columns, rows) = system.chips, system.grid
        # In the order of the fields: every prediction makes one, and names would take as long again.
        return cls._make(
            (
                chip.arch,
                hw.dram_bandwidth / chips,
                chip.clock_mhz,
                chip.flop_per_cycle_lofi,
                chip.dram_banks,
                columns,
                rows,
                hw.memory.use_width_sharding,
                system.topology == "ring" and tp == chips,
                tp > max(system.mesh_shape),
                tp,
                parallel.data_parallel_size,
            )
        )

    @property
    def grid(self) -> tuple[int, int]:
        """Columns x rows of the cores that a program may use."""
        return self.columns, self.grid_rows

    @property
    def cores(self) -> int:
        """Cores that a program may use."""
        return self.columns * self.grid_rows


@dataclass(eq=False)
class Timer:
    """Times ops of one chip under one calibration; equal ops, and equal layers' small ops, are timed once.

    `matmuls`, with how often each is executed, has a table of its own for each phase, number of rows and so on: those
    of a layer are looked up together.
    """

    chip: ChipFigures
    constants: ArchCalibration
    known: dict[Hashable, OpTime] = field(default_factory=dict)
    matmuls: dict[Hashable, dict[Hashable, tuple[OpTime, int]]] = field(default_factory=dict)
    layers: dict[Hashable, tuple[tuple[tuple[OpTime, int], ...], float]] = field(default_factory=dict)

    def timed(self, key: Hashable, phase: str, make: Callable[..., Op], /, *args: Any, **more: Any) -> OpTime:
        """The time of the op that `make(*args, **more)` describes; `key` stands for phase and arguments."""
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self.time(make(*args, **more), phase)
        return found

    @property
    def readers(self) -> int:
        """Cores that read weights in a decode matmul."""
        return plans.reader_cores(self.chip.banks, self.constants.readers_per_bank, self.chip.grid)

    def dram_us(self, nbytes: float, sharded: bool) -> float:
        """Microseconds to read `nbytes` at the calibrated share of the bandwidth, of sharded or interleaved tensors."""
        c = self.constants
        return nbytes / (self.chip.bandwidth * 1e3 * (c.dram_efficiency if sharded else c.dram_efficiency_interleaved))

    def peak_us(self, op: Op, cores: int) -> float:
        """Time of the op's matrix flops on `cores` cores at peak."""
        phases = op.fidelity.phases if op.fidelity else 1
        return op.flops * phases / (self.chip.flop_per_cycle * cores * self.chip.clock_mhz)

    def time(self, op: Op, phase: str) -> OpTime:
        """The predicted time of one execution of `op` in `phase`."""
        if op.kind == "collectives":
            reduce = all_gather_us if op.gather_only else all_reduce_us
            us = reduce(op.payload, op.chips, self.chip.ring, self.constants)
            if phase == DECODE:
                us += (self.constants.collective_chip_us or 0.0) * (op.chips - 1)
            return self._timed(op, {"collectives": us}, 0)
        if op.kind == "kv":
            return self._decode_attention(op) if phase == DECODE else self._prefill_attention(op)
        if op.kind == "weights" and op.tiles:
            # The LM head and experts see one tile of rows at a time in either phase, and run as decode matmuls.
            return self._decode_matmul(op) if phase == DECODE or op.name in _BY_TILE else self._prefill_matmul(op)
        return self._timed(op, {"weights": self.dram_us(op.bytes, False)}, 0)

    def overhead(self, name: str, us: float, rows: int = 0) -> OpTime:
        """Time that no formula resolves further: a layer's small ops, host, dispatch."""
        group = NORM.op_group if name in ("norms_rope_residual", NORM.name) else ""
        return self._timed(Op(name=name, kind="overhead", compute_group=group, rows=rows), {"overhead": us}, 0)

    def layer_overhead_us(self) -> float:
        """Microseconds of a decode layer that no op accounts for: norms, reshapes, gaps; more on a 2-D split."""
        c = self.constants
        return c.layer_overhead_us + (c.layer_overhead_2d_us if self.chip.two_d else 0.0)

    def host_us(self, users: int, groups: int, vocab_size: int) -> float:
        """Sampling and host per token for `users` of each of `groups` data-parallel groups."""
        chips = self.chip.tensor_parallel
        return token_us(self.constants, users=users, groups=groups, chips=chips, vocab_size=vocab_size)

    def _decode_matmul(self, op: Op) -> OpTime:
        c = self.constants
        phases = op.fidelity.phases if op.fidelity else 1
        cycles = c.reader_cycles_per_tile + CYCLES_PER_PHASE * phases * op.rows / TILE
        readers = self.readers
        # A bank's tiles are shared by its readers; interleaved weights spread evenly over as many cores.
        tiles = op.bank_tiles * self.chip.banks / readers if op.bank_tiles else op.tiles / readers
        fixed = 0.0
        if c.ops is not None:
            if not op.bank_tiles:
                return self._interleaved_matmul(op, c.ops)
            fixed = c.ops.matmul_us
            cycles += c.ops.block_cycles / (op.block or 1)
        dram, tile_rate = self.dram_us(op.bytes, bool(op.bank_tiles)), tiles * cycles / self.chip.clock_mhz
        us, other = fixed + max(dram, tile_rate), fixed + min(dram, tile_rate)
        return self._timed(op, {"weights": us}, readers, "tile rate" if dram >= tile_rate else "DRAM", other)

    def _interleaved_matmul(self, op: Op, costs: OpCosts) -> OpTime:
        # Every core of the grid reads whole pages (tiles) from all banks; small pages are bound by requests. Blocks of
        # K are sent to all cores one after another.
        dram = self.dram_us(op.bytes, False)
        pages = op.tiles / self.chip.banks * costs.page_cycles / self.chip.clock_mhz if op.bytes else 0.0
        steps = op.deep / op.block * costs.block_us if op.block else 0.0
        fixed, slowest = costs.matmul_interleaved_us, max(dram, pages, steps)
        others = {"DRAM": dram, "pages": pages, "blocks of K": steps}
        next_bound = max(
            (name for name, us in others.items() if us < slowest), key=lambda name: others[name], default=""
        )
        return self._timed(
            op, {"weights": fixed + slowest}, self.chip.cores, next_bound, fixed + others.get(next_bound, 0.0)
        )

    def _decode_attention(self, op: Op) -> OpTime:
        # k_S holds while every (user, KV head) pair has its cores; beyond that the pairs queue.
        c, cores = self.constants, self.chip.cores
        queue = max(1.0, op.pairs * c.sdpa_decode_cores_per_head / cores)
        per_64k = c.sdpa_decode_us_per_64k
        if c.stack is Stack.vllm and c.server_attention_us_per_64k is not None:
            per_64k = c.server_attention_us_per_64k
        compute = per_64k * op.context / 65536 * queue
        if c.ops is None:
            return self._timed(op, {"kv": self.dram_us(op.bytes, True), "flops": compute}, cores)
        fixed = c.ops.sdpa_decode_us + c.ops.sdpa_decode_query_us * op.pairs * op.group * op.head_dim / _QUERY_WIDTH
        cache = op.bytes / (self.chip.bandwidth * 1e3 * c.ops.sdpa_decode_efficiency)
        return self._timed(op, {"kv": cache, "flops": compute, "overhead": fixed}, cores)

    def _prefill_matmul(self, op: Op) -> OpTime:
        c, chip = self.constants, self.chip
        columns, grid_rows = plans.prefill_grid(op.rows, chip.grid)
        cores = columns * grid_rows
        if c.ops is None:
            efficiency = c.matmul_efficiency * op.rows / (op.rows + c.matmul_half_rows)
            flops, dram = self.peak_us(op, cores) / efficiency, self.dram_us(op.bytes, False)
        else:
            flops, dram = self._prefill_us(op, cores, grid_rows, c.ops), self.dram_us(op.bytes, False)
            flops, dram = flops + c.ops.prefill_matmul_us, dram + c.ops.prefill_matmul_us
        if flops > dram:
            return self._timed(op, {"flops": flops}, cores, "DRAM", dram)
        return self._timed(op, {"weights": dram}, cores, "FLOP", flops)

    def _prefill_us(self, op: Op, cores: int, grid_rows: int, costs: OpCosts) -> float:
        # What a block of the output costs beside its math is shared by the tile rows of it that a core computes.
        c, phases = self.constants, op.fidelity.phases if op.fidelity else 1
        multiplies = op.flops / (2 * TILE**3)
        cycles = CYCLES_PER_PHASE * phases / c.matmul_efficiency + costs.prefill_tile_cycles
        blocks = math.ceil(op.rows / TILE / grid_rows) * _HALF_ROWS_GRID * TILE
        return multiplies * cycles * (1 + c.matmul_half_rows / blocks) / (cores * self.chip.clock_mhz)

    def _prefill_attention(self, op: Op) -> OpTime:
        c, cores = self.constants, self.chip.cores
        exponentials = op.scores / (c.softmax_elements_per_cycle * cores * self.chip.clock_mhz)
        math_us = self.peak_us(op, cores) / c.matmul_efficiency + exponentials
        if c.ops is None:
            return self._timed(op, {"flops": math_us}, cores)
        # Whole chunks are dealt to the cores, and the one with the most of them is waited for.
        most = math.ceil(op.chunks / cores)
        fixed = c.ops.sdpa_prefill_us * most * op.key_chunks
        return self._timed(op, {"flops": math_us * most * cores / op.chunks, "overhead": fixed}, cores)

    def _timed(self, op: Op, parts: dict[str, float], cores: int, next_bound: str = "", next_us: float = 0.0) -> OpTime:
        us = sum(parts.values())
        dram = op.bytes / (self.chip.bandwidth * 1e3) / us if us else 0.0
        flop = self.peak_us(op, cores) / us if us and cores else 0.0
        return OpTime(op, us, parts, _bound(op, dram, flop), dram, flop, next_bound, next_us)


def _bound(op: Op, dram: float, flop: float) -> str:
    if op.name in HOST_OPS:
        return "HOST"
    by_dram, by_flop = dram >= BOUND_THRESHOLD, flop >= BOUND_THRESHOLD
    return {(True, True): "BOTH", (True, False): "DRAM", (False, True): "FLOP"}.get((by_dram, by_flop), "SLOW")


_TIMERS: dict[Hashable, Timer] = {}
_MOST_TIMERS = 256


def timer(hw: DeviceConfig, constants: ArchCalibration, *shape: Hashable) -> Timer:
    """The timer of a chip, shared by configurations that agree on the chip, the constants and `shape`."""
    key = (ChipFigures.of(hw), constants, shape)
    found = _TIMERS.get(key)
    if found is None:
        if len(_TIMERS) >= _MOST_TIMERS:
            _TIMERS.clear()
        found = _TIMERS[key] = Timer(key[0], constants)
    elif len(found.known) > 100_000 or len(found.matmuls) > 1_000:
        found.known.clear()
        found.matmuls.clear()
    return found
