# SPDX-License-Identifier: Apache-2.0
"""How far a prediction can be trusted: its class and its band.

A prediction is `calibrated` inside what the constants were fitted and checked on, `extrapolated` outside (each
reason states its own band; the widest holds), and `unsupported` where the model has nothing to say. Bands and what
is covered are data: `confidence` in conf/calibration.
"""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import Prefill, Sampling, Stack
from ..hardware.op_table import PHASES
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from ..planning.refusals import uneven_heads
from .calibration import ArchCalibration
from .measurements import MeasuredRow
from .ops import fused_all_gather_matmul
from .token_costs import sampling_path, unable_to_sample

CALIBRATED, EXTRAPOLATED, UNSUPPORTED = "calibrated", "extrapolated", "unsupported"


@dataclass(frozen=True)
class Confidence:
    """`band` is in percent: the measurement is expected within value * (1 ± band / 100). `reasons` say what is
    outside the calibrated range, or why there is no support."""

    kind: str
    band: float
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return self.kind if self.kind == UNSUPPORTED else f"{self.kind}, ±{self.band:.0f} %"


@dataclass(frozen=True)
class Beyond:
    """One way to be outside: bands in percent by phase, why, and what is covered (its meaning depends on the id)."""

    id: str
    decode: float
    prefill: float
    why: str
    covered: Any = None

    def band(self, phase: str) -> float:
        """Percent for `phase`, which is one of PHASES."""
        return self.decode if phase == "decode" else self.prefill


@dataclass(frozen=True)
class ConfidenceRules:
    """conf/calibration's `confidence`: the bands inside, every way to be outside, and the file of measured rows.

    `releases` are shell patterns of the sources whose conditions the constants describe, by phase; rows dated before
    `since` are of other software whatever their source.
    """

    decode: float
    prefill: float
    points: str
    releases: Mapping[str, tuple[str, ...]]
    beyond: tuple[Beyond, ...]
    since: str = ""
    known: dict[Hashable, tuple[Confidence, Confidence]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_dict(cls, data: Any) -> ConfidenceRules:
        """Checked rules from plain data. Raises ConfigError for what is missing, unknown or no number."""
        where = "calibration.confidence"
        wanted = {"band", "points", "releases", "beyond"}
        if not isinstance(data, Mapping) or not wanted <= set(data) <= wanted | {"since", "left_out"}:
            keys = ", ".join(sorted(wanted))
            raise ConfigError(f"{where} must have the keys {keys}, and since and left_out where wanted; no others.")
        band, releases, beyond = data["band"], data["releases"], data["beyond"]
        for name, section in (("band", band), ("releases", releases)):
            if not isinstance(section, Mapping) or set(section) != set(PHASES):
                raise ConfigError(f"{where}.{name} must have exactly the keys decode and prefill.")
        if not isinstance(beyond, Mapping):
            raise ConfigError(f"{where}.beyond must be a mapping with keys from {', '.join(sorted(_TESTS))}.")
        for id in beyond:
            if id not in _TESTS:
                raise ConfigError(f"{where}.beyond has no key {id!r}.", did_you_mean(str(id), _TESTS))
        return cls(
            decode=_percent(band["decode"], f"{where}.band.decode"),
            prefill=_percent(band["prefill"], f"{where}.band.prefill"),
            points=str(data["points"]),
            releases={phase: tuple(map(str, releases[phase])) for phase in PHASES},
            since=str(data.get("since", "")),
            beyond=tuple(_beyond(id, entry, f"{where}.beyond.{id}") for id, entry in beyond.items()),
        )

    def covers(self, row: MeasuredRow, phase: str) -> bool:
        """Whether a measurement is of the releases that the constants describe: by its source, and by its date where it
        has one."""
        if row.date and row.date < self.since[: len(row.date)]:
            return False
        return self.covers_source(row.source, phase)

    def covers_source(self, source: str, phase: str) -> bool:
        """Whether a source is one of those that `releases` names."""
        return any(fnmatch.fnmatchcase(source, pattern) for pattern in self.releases[phase])

    def of(self, phase: str, reasons: Iterable[Beyond]) -> Confidence:
        """The confidence of a prediction that `reasons` take out of the calibrated range."""
        inside = self.decode if phase == "decode" else self.prefill
        outside = [reason for reason in reasons if reason.band(phase) > inside]
        if not outside:
            return Confidence(CALIBRATED, inside)
        return Confidence(EXTRAPOLATED, max(r.band(phase) for r in outside), tuple(r.why for r in outside))


class Asked(NamedTuple):
    """What is predicted: the configuration, the model and the workload (users per group, tokens)."""

    hw: DeviceConfig
    spec: ModelSpec
    constants: ArchCalibration
    prompt_length: int
    batch: int
    context: int


def unsupported(asked: Asked) -> tuple[str, ...]:
    """Why no number should be given at all; empty where one may be."""
    parallel, system = asked.hw.parallelism, asked.hw.spec
    reasons = []
    if parallel.pipeline_parallel_size > 1:
        reasons.append("pipeline parallelism: no supported stack runs it, and nothing was measured.")
    if parallel.sequence_parallel:
        reasons.append("sequence parallelism: no supported stack runs it, and nothing was measured.")
    if parallel.chips > system.chips:
        reasons.append(f"the split needs {parallel.chips} chips, but {asked.hw.device_type} has {system.chips}.")
    # A 2-D mesh splits heads over one axis only.
    if asked.spec.num_heads % parallel.tensor_parallel_size and not _two_d(asked, None):
        reasons.append(
            f"{asked.spec.num_heads} attention heads cannot be split over {parallel.tensor_parallel_size} chips."
        )
    if (uneven := uneven_heads(asked.spec.head_dim)) is not None:
        reasons.append(f"{uneven.what} {uneven.why}")
    two_d = _two_d(asked, None)
    if unable := unable_to_sample(asked.constants, parallel.tensor_parallel_size, asked.spec.vocab_size, two_d=two_d):
        reasons.append(unable)
    return tuple(reasons)


def confidences(asked: Asked, rules: ConfidenceRules) -> tuple[Confidence, Confidence]:
    """The confidence in decode speed and in time to first token."""
    key = _what_decides(asked)
    found = rules.known.get(key)
    if found is None:
        if len(rules.known) > 10_000:
            rules.known.clear()
        found = rules.known[key] = _confidences(asked, rules)
    return found


def _confidences(asked: Asked, rules: ConfidenceRules) -> tuple[Confidence, Confidence]:
    if refused := unsupported(asked):
        none = Confidence(UNSUPPORTED, math.inf, refused)
        return none, none
    outside = ways_outside(asked, rules)
    reasons = [entry for entry in rules.beyond if entry.id in outside]
    return rules.of("decode", reasons), rules.of("prefill", reasons)


def _what_decides(asked: Asked) -> Hashable:
    """Everything that _TESTS and `unsupported` look at."""
    hw, spec = asked.hw, asked.spec
    parallel, system = hw.parallelism, hw.spec
    return (
        hw.device_type,
        system.chip.arch,
        (*system.mesh_shape,),
        parallel.tensor_parallel_size,
        parallel.pipeline_parallel_size,
        parallel.data_parallel_size,
        parallel.sequence_parallel,
        spec.family,
        spec.has_experts,
        spec.hidden_dim,
        spec.num_heads,
        spec.head_dim,
        spec.vocab_size,
        *asked[2:],
    )


def ways_outside(asked: Asked, rules: ConfidenceRules) -> frozenset[str]:
    """The entries of `beyond` that apply to what is asked."""
    return frozenset(entry.id for entry in rules.beyond if _TESTS[entry.id](asked, entry.covered))


def _two_d(asked: Asked, covered: Any) -> bool:
    return asked.hw.parallelism.tensor_parallel_size > max(asked.hw.spec.mesh_shape)


def _path(asked: Asked) -> Sampling:
    return sampling_path(asked.constants, asked.hw.parallelism.tensor_parallel_size, asked.spec.vocab_size)


def _unfused(asked: Asked, covered: Any) -> bool:
    return asked.hw.parallelism.tensor_parallel_size == 8 and not fused_all_gather_matmul(asked.hw, asked.spec)


_TESTS = {
    "architecture": lambda asked, covered: asked.hw.spec.chip.arch.value not in covered,
    "family": lambda asked, covered: not any(fnmatch.fnmatchcase(asked.spec.family, pattern) for pattern in covered),
    "experts": lambda asked, covered: asked.spec.has_experts,
    "hidden_dim": lambda asked, covered: not covered[0] <= asked.spec.hidden_dim <= covered[1],
    "eight_chips_without_fusion": _unfused,
    "two_d_mesh": _two_d,
    "ring": lambda asked, covered: asked.hw.parallelism.tensor_parallel_size == 8,
    "tensor_parallel": lambda asked, covered: asked.hw.parallelism.tensor_parallel_size not in covered,
    "data_parallel": lambda asked, covered: asked.hw.parallelism.data_parallel_size > covered,
    "context": lambda asked, covered: max(asked.context, asked.prompt_length) > covered,
    "batch": lambda asked, covered: asked.batch > covered,
    "long_prompt_over_chips": lambda asked, covered: (
        asked.prompt_length > covered and asked.hw.parallelism.tensor_parallel_size > 2
    ),
    "traced_prefill": lambda asked, covered: asked.constants.prefill is not Prefill.untraced,
    "sampling_on_device": lambda asked, covered: _path(asked) is not Sampling.host,
    "untraced_prefill": lambda asked, covered: asked.constants.prefill is Prefill.untraced,
    "batched_prefill": lambda asked, covered: asked.constants.prefill is Prefill.batched,
    "server": lambda asked, covered: asked.constants.stack is Stack.vllm,
    "host_sampling_over_chips": lambda asked, covered: (
        _path(asked) is Sampling.host and asked.hw.parallelism.tensor_parallel_size > covered
    ),
    "readers_per_bank": lambda asked, covered: asked.constants.readers_per_bank != covered,
}


def _beyond(id: str, entry: Any, where: str) -> Beyond:
    if not isinstance(entry, Mapping) or not {"decode", "prefill", "why"} <= set(entry) <= {
        *PHASES,
        "why",
        "covered",
        "rows",
    }:
        raise ConfigError(f"{where} must have decode, prefill, why and optionally covered and rows.")
    decode, prefill = (_percent(entry[phase], f"{where}.{phase}") for phase in PHASES)
    covered = entry.get("covered")
    return Beyond(id, decode, prefill, str(entry["why"]), tuple(covered) if isinstance(covered, list) else covered)


def _percent(value: Any, where: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise ConfigError(f"{where} must be a percentage of at least 0, not {value!r}.")
    return float(value)
