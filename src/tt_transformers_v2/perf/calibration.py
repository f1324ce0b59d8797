# SPDX-License-Identifier: Apache-2.0
"""The constants of the performance model: what silicon and software reached.

They live in conf/calibration, their sources in conf/provenance; this file types and checks them. Nothing here knows
how they are used.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import Arch, Named, Prefill, Sampling, Stack
from .op_costs import OP_COSTS, OP_SHARES, OpCosts


@dataclass(frozen=True)
class Collective:
    """Time of a collective: base_us + hop_us * hops + bytes / gbs (us, us per hop, GB/s = 1e9 bytes/s)."""

    base_us: float
    hop_us: float
    gbs: float

    def time_us(self, hops: float, payload: float) -> float:
        """`payload`: the bytes that the formula of this collective counts (see roofline.all_reduce_us)."""
        return self.base_us + self.hop_us * hops + payload / (self.gbs * 1e3)


@dataclass(frozen=True)
class ArchCalibration:
    """The constants of one architecture.

    dram_efficiency: share of the nominal DRAM bandwidth that DRAM-sharded matmuls reach when nothing else limits
        them; dram_efficiency_interleaved: the same for tensors interleaved over the banks.
    readers_per_bank: cores that read one DRAM bank in a decode matmul, 1 or 2.
    reader_cycles_per_tile: cycles a reader spends on a weight tile besides the fidelity's math cycles (c0).
    layer_overhead_us: norms, rotary embedding, cache update, reshapes, adds and gaps of a decode layer;
        layer_overhead_2d_us: what a 2-D mesh adds to it.
    token_overhead_ms: per token, wherever it is sampled; user_overhead_us: for each user beyond the first;
        group_overhead_ms: for each data-parallel group beyond the first, which the host serves in turn.
    sampling: where the release samples; where a chip has more than sampling_widest logits (None: as many as there are),
        it does so on the host. On the host it costs host_sampling_ms, and host_chip_ms for each further
        chip whose logits are read, of a vocabulary of 131072 and in proportion to it (without them token_overhead_ms
        holds it). Top-k on the device costs topk_16k_ms,
        topk_32k_ms and topk_64k_ms up to 16384, 32768 and 65536 logits per chip, which are padded to a power of two,
        and topk_wide_us for each logit where there are more; a release without that constant cannot. Argmax on the
        device costs device_argmax_ms; a release without it cannot either.
    stack: what drives the model. A vLLM server adds server_overhead_ms, and server_chip_ms for each further chip, and
        its decode step has max_num_seqs users, whoever is there; server_attention_us_per_64k: its k_S, None for the
        same.
    collective_chip_us: what a decode step's collective takes beyond its own time for each chip beyond the first, as the
        chips wait for each other.
    sdpa_decode_us_per_64k: attention compute per layer and 65536 cached tokens beyond reading them (k_S),
        reached with sdpa_decode_cores_per_head cores per (user, KV head) pair.
    matmul_efficiency: share of the peak of the cores in use that long prefill matmuls reach; matmul_half_rows: rows
        at which they reach half of it.
    softmax_elements_per_cycle: attention scores a core exponentiates per cycle in prefill.
    prefill_layer_overhead_us, prefill_chip_overhead_us: host dispatch of one untraced prefill layer, and its part
        per chip; it runs beside the device, and the longer of the two counts.
    prefill: how the release runs prompts. A trace has no dispatch to wait for, and costs prefill_traced_layer_us a
        layer and prefill_traced_chip_us a layer and further chip. A batched pass over the prompts of all users takes
        prefill_batched_factor times its ops, and prefill_batched_chip more for each further chip.
    prefill_user_overhead_ms: time to first token for each user of the batch beyond the first, unless batched.
    all_gather_*, reduce_scatter_*: formulas per topology; all_reduce_*: of an all-reduce that is one op.
    ops: costs of single ops, where profiles gave them; layer_overhead_us is then what a layer takes beyond its ops.
        In a file they stand beside the other constants, all of them or none.
    """

    dram_efficiency: float
    dram_efficiency_interleaved: float
    readers_per_bank: int
    reader_cycles_per_tile: float
    layer_overhead_us: float
    layer_overhead_2d_us: float
    token_overhead_ms: float
    user_overhead_us: float
    group_overhead_ms: float
    sampling: Sampling
    topk_32k_ms: float
    topk_64k_ms: float
    sdpa_decode_us_per_64k: float
    sdpa_decode_cores_per_head: int
    matmul_efficiency: float
    matmul_half_rows: float
    softmax_elements_per_cycle: float
    prefill_layer_overhead_us: float
    prefill_chip_overhead_us: float
    prefill: Prefill
    prefill_user_overhead_ms: float
    all_gather_pair: Collective | None = None
    all_gather_line: Collective | None = None
    all_gather_ring: Collective | None = None
    reduce_scatter_pair: Collective | None = None
    reduce_scatter_line: Collective | None = None
    reduce_scatter_ring: Collective | None = None
    reduce_scatter_ring_small: Collective | None = None
    all_reduce_line: Collective | None = None
    all_reduce_ring: Collective | None = None
    sampling_widest: int | None = None
    host_sampling_ms: float | None = None
    host_chip_ms: float | None = None
    topk_16k_ms: float | None = None
    topk_wide_us: float | None = None
    device_argmax_ms: float | None = None
    stack: Stack = Stack.tt_transformers
    max_num_seqs: int = 32
    server_overhead_ms: float | None = None
    server_chip_ms: float | None = None
    server_attention_us_per_64k: float | None = None
    collective_chip_us: float | None = None
    prefill_traced_layer_us: float | None = None
    prefill_traced_chip_us: float | None = None
    prefill_batched_factor: float | None = None
    prefill_batched_chip: float | None = None
    ops: OpCosts | None = None
    _hash: int = field(default=0, init=False, repr=False, compare=False)

    def __hash__(self) -> int:
        return self._hash

    def __post_init__(self) -> None:
        """Refuses sets of collectives from which no all-reduce can be timed."""
        composed = (
            self.all_gather_line,
            self.reduce_scatter_line,
            self.all_gather_ring,
            self.reduce_scatter_ring,
        )
        direct = (self.all_reduce_line, self.all_reduce_ring)
        if not (all(composed) or all(direct)):
            raise ConfigError(
                "a calibration needs all_reduce_line and all_reduce_ring, or all_gather and reduce_scatter "
                "for both line and ring."
            )
        # Predictions look timers up by their constants, so the hash is taken once.
        values = tuple(getattr(self, f.name) for f in dataclasses.fields(self) if f.compare)
        object.__setattr__(self, "_hash", hash(values))

    def replace(self, **constants: Any) -> ArchCalibration:
        """The same with other `constants`, those of single ops among them."""
        own = {name: constants.pop(name) for name in list(constants) if name in OP_COSTS}
        if own:
            if self.ops is None:
                raise ConfigError(f"{next(iter(own))} needs a calibration with costs of single ops.")
            constants["ops"] = dataclasses.replace(self.ops, **own)
        return dataclasses.replace(self, **constants)


@dataclass(frozen=True)
class Earlier:
    """What was otherwise in software dated before `until` (YYYY-MM-DD): constants of one architecture."""

    arch: Arch
    until: str
    constants: Mapping[str, Any]


@dataclass(frozen=True)
class Calibration:
    """A named set of constants by architecture, as a file under conf/calibration describes it.

    `earlier`: constants that changed while the rows it was fitted to were measured.
    """

    name: str
    release: str
    archs: Mapping[Arch, ArchCalibration]
    earlier: tuple[Earlier, ...] = ()
    confidence: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def of(self, arch: Arch) -> ArchCalibration:
        """The constants of `arch`; ConfigError where the calibration has none."""
        if arch not in self.archs:
            raise ConfigError(f"calibration {self.name} has no constants for {arch}.")
        return self.archs[arch]

    def at(self, date: str) -> Calibration:
        """The constants of software of that date (YYYY, YYYY-MM or YYYY-MM-DD); "" is that of today."""
        archs = dict(self.archs)
        for change in self.earlier:
            if date and date < change.until[: len(date)]:
                archs[change.arch] = archs[change.arch].replace(**change.constants)
        return dataclasses.replace(self, archs=archs) if archs != self.archs else self

    def replace(self, **constants: Any) -> Calibration:
        """The same with `constants` in every architecture."""
        if not constants:
            return self
        archs = {arch: own.replace(**constants) for arch, own in self.archs.items()}
        return dataclasses.replace(self, archs=archs)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Calibration:
        """A checked calibration from plain data. Raises ConfigError naming the wrong or missing key."""
        architectures = [a.value for a in Arch]
        _check_keys(data, ["name", "release"], ["confidence", "earlier", *architectures], "calibration")
        archs = {Arch(key): _arch(data[key], f"calibration.{key}") for key in architectures if key in data}
        if not archs:
            raise ConfigError(f"calibration {data['name']} has no architecture; choices: {', '.join(architectures)}")
        more = data.get("confidence") or {}
        earlier = tuple(_earlier(entry, n, archs) for n, entry in enumerate(data.get("earlier") or ()))
        return cls(str(data["name"]), str(data["release"]), archs, earlier, more)


_PARTS = tuple(f.name for f in dataclasses.fields(Collective))
_FIELDS = tuple(f for f in dataclasses.fields(ArchCalibration) if f.name not in ("_hash", "ops"))
# What a file may say of a constant besides; for the calibrations of this package conf/provenance says it.
_PROVENANCE = ("unit", "source", "date", "prior")
_CHOICES: tuple[type[Named], ...] = (Sampling, Prefill, Stack)
_SHARES = ("dram_efficiency", "dram_efficiency_interleaved", "matmul_efficiency")
_MAY_BE_ZERO = tuple(
    name
    for name in (f.name for f in _FIELDS)
    if name.endswith(("_us", "_ms", "_half_rows", "_cycles_per_tile", "_us_per_64k", "_batched_chip"))
)


def _check_keys(data: Any, required: Iterable[str], optional: Iterable[str], where: str) -> None:
    """ConfigError for anything but a mapping with every required key and no unknown one."""
    required = list(required)
    known = [*required, *optional]
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where} must be a mapping, not {data!r}.")
    for key in data:
        if key not in known:
            raise ConfigError(f"{where} has no key {str(key)!r}.", did_you_mean(str(key), known))
    missing = [key for key in required if key not in data]
    if missing:
        raise ConfigError(f"{where} lacks {', '.join(missing)}.")


def _number(value: Any, where: str, zero: bool = False) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
        raise ConfigError(f"{where} must be a number of at least 0, not {value!r}.")
    if value == 0 and not zero:
        raise ConfigError(f"{where} must be more than 0.")
    return float(value)


def _arch(data: Any, where: str) -> ArchCalibration:
    required = [f.name for f in _FIELDS if f.default is dataclasses.MISSING]
    _check_keys(data, required, [*(f.name for f in _FIELDS if f.name not in required), *OP_COSTS], where)
    values: dict[str, Any] = {}
    for f in _FIELDS:
        if f.name not in data:
            continue
        entry, path = data[f.name], f"{where}.{f.name}"
        _check_keys(entry, ["value"], _PROVENANCE, path)
        values[f.name] = _value(f.name, str(f.type), entry["value"], f"{path}.value")
    return ArchCalibration(**values, ops=_op_costs(data, where))


def _earlier(entry: Any, n: int, archs: Mapping[Arch, ArchCalibration]) -> Earlier:
    where = f"calibration.earlier.{n}"
    names = [f.name for f in _FIELDS]
    _check_keys(entry, ["until", "arch"], ["why", *names], where)
    if entry["arch"] not in list(archs):
        raise ConfigError(f"{where}.arch must be one of {', '.join(archs)}, not {entry['arch']!r}.")
    types = {f.name: str(f.type) for f in _FIELDS}
    constants = {name: _value(name, types[name], entry[name], f"{where}.{name}") for name in entry if name in types}
    return Earlier(Arch(entry["arch"]), str(entry["until"]), constants)


def _op_costs(data: Mapping[str, Any], where: str) -> OpCosts | None:
    """The costs of single ops; None where a file has none of them."""
    given = [name for name in OP_COSTS if name in data]
    if not given:
        return None
    if missing := [name for name in OP_COSTS if name not in data]:
        raise ConfigError(f"{where} has {given[0]} and lacks {', '.join(missing)}.", "Give every op cost or none.")
    values = {}
    for name in OP_COSTS:
        _check_keys(data[name], ["value"], _PROVENANCE, f"{where}.{name}")
        zero = name not in OP_SHARES
        values[name] = _number(data[name]["value"], f"{where}.{name}.value", zero=zero)
        if not zero and values[name] > 1:
            _refuse_share(f"{where}.{name}.value", data[name]["value"])
    return OpCosts(**values)


def _value(name: str, wanted: str, value: Any, where: str) -> Any:
    """`value` as the annotation `wanted` of field `name` asks."""
    for choices in _CHOICES:
        if wanted.startswith(choices.__name__):
            if value not in list(choices):
                raise ConfigError(f"{where} must be one of {', '.join(choices)}, not {value!r}.")
            return choices(value)
    if wanted.startswith("Collective"):
        _check_keys(value, _PARTS, [], where)
        return Collective(**{k: _number(value[k], f"{where}.{k}", zero=k != "gbs") for k in _PARTS})
    number = _number(value, where, zero=name in _MAY_BE_ZERO)
    if name in _SHARES and number > 1:
        _refuse_share(where, value)
    if wanted.startswith("int"):
        if number != int(number):
            raise ConfigError(f"{where} must be a whole number, not {value!r}.")
        return int(number)
    return number


def _refuse_share(where: str, value: Any) -> None:
    raise ConfigError(f"{where} is a share of the nominal figure and must be at most 1, not {value!r}.")
