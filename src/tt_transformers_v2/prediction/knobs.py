# SPDX-License-Identifier: Apache-2.0
"""The single changes a user can make to a configuration, and what each would give: scripts/predict.py --what-if."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..common.errors import ConfigError
from ..config.resolve import Experiment
from ..hardware.enums import Arch, DataFormat, MathFidelity, Named, Prefill, Sampling
from ..hardware.op_table import EXPERT_GROUPS, MATRICES, OP_GROUPS, SDPA, finest_op_groups, finest_tensor_groups
from ..hardware.schema import DeviceConfig
from ..perf.token_costs import sampling_path
from .questions import Answer, Refused, ask_for_figures, changed

# Percent. Published figures of one configuration repeat to about 5 %; a smaller gain than this is no claim.
NOISE = 4.0

# Weights and the op group that multiplies by them, coarse groups before the finer ones.
WEIGHTS = {
    tensors: ops
    for op in MATRICES.values()
    for tensors, ops in ((op.tensor_parent, op.op_parent), (op.tensor_group, op.op_group))
    if tensors
}
# The embedding is not here: of the block formats ttnn looks rows up in BFP8 only, and unpacks all of it each time.
ACTIVATIONS = ("activations", "attention_activations", "mlp_activations", "ccl")
# What a knob of formats or fidelities changes: to what, which tensor groups, which op groups. Of two knobs that change
# the same (a coarse group of which only one finer group differs), the finer is offered.
_Effect = tuple[Named, frozenset[str], frozenset[str]]


@dataclass(frozen=True)
class Knob:
    """One change, as the overrides that make it: a weight format comes with its fidelity, a split with both sizes."""

    overrides: tuple[str, ...]

    def __str__(self) -> str:
        return " ".join(self.overrides)

    @property
    def only_for(self) -> str:
        """What a change is good for where it is not good for everything; "" else."""
        return "greedy only" if f"runtime.sampling={Sampling.device_argmax}" in self.overrides else ""


@dataclass(frozen=True)
class Gain:
    """What a knob would give. decode, ttft: percent faster (negative: slower); memory: bytes more per chip.

    warnings: ids of findings that the change brings. trust: the confidence in decode and TTFT where it is not the
    original's.
    """

    knob: Knob
    answer: Answer
    decode: float
    ttft: float
    memory: int
    warnings: tuple[str, ...]
    trust: tuple[str, ...] = ()

    @property
    def within_noise(self) -> bool:
        """Whether the gain in decode is too small to be claimed."""
        return abs(self.decode) < NOISE


@dataclass(frozen=True)
class WhatIf:
    """Gains by knob, the largest in decode first; `left_out` says why a knob has none."""

    base: Answer
    gains: tuple[Gain, ...]
    left_out: tuple[tuple[Knob, str], ...]


def what_if(base: Answer) -> WhatIf:
    """Predicts `base` with every knob turned alone. Raises ConfigError where `base` itself has no prediction."""
    decode, ttft = base.tokens_per_s_per_user, base.ttft_ms
    gains, left_out = [], []
    for knob in knobs(base.experiment):
        try:
            answer = ask_for_figures(changed(base.overrides, knob.overrides))
            gains.append(_gain(base, knob, answer, decode, ttft))
        except ConfigError as error:
            found = error.findings if isinstance(error, Refused) else ()
            left_out.append((knob, found[0].what if found else error.message))
    return WhatIf(base, tuple(sorted(gains, key=lambda gain: (-gain.decode, -gain.ttft))), tuple(left_out))


def _gain(base: Answer, knob: Knob, answer: Answer, decode: float, ttft: float) -> Gain:
    known = {finding.what for finding in base.experiment.findings}
    before, after = base.prediction, answer.prediction
    phases = (("decode", before.decode, after.decode), ("TTFT", before.prefill, after.prefill))
    return Gain(
        knob,
        answer,
        decode=100 * (answer.tokens_per_s_per_user / decode - 1),
        ttft=100 * (ttft / answer.ttft_ms - 1),
        memory=answer.prediction.memory.used - base.prediction.memory.used,
        warnings=tuple(dict.fromkeys(f.id for f in answer.experiment.warnings if f.what not in known)),
        trust=tuple(f"{name} {now}" for name, then, now in phases if str(now) != str(then)),
    )


def knobs(experiment: Experiment) -> list[Knob]:
    """Every single change of formats, fidelities, split and runtime that would make another configuration."""
    return [
        *format_knobs(experiment.hardware),
        *fidelity_knobs(experiment.hardware),
        *split_knobs(experiment.hardware),
        *runtime_knobs(experiment),
    ]


def format_knobs(hw: DeviceConfig) -> list[Knob]:
    """Formats of every tensor group; those of weights with the fidelity that fits them."""
    found: dict[_Effect, Knob] = {}
    for group, op_group in WEIGHTS.items():
        for data in DataFormat:
            fidelity = data.paired_fidelity
            formats = _changing(hw, finest_tensor_groups(group), data)
            if formats:
                pair = (f"precision.{group}={data}", f"compute.{op_group}.math_fidelity={fidelity}")
                found[data, formats, _changing(hw, finest_op_groups(op_group), fidelity)] = Knob(pair)
    choices = [(SDPA.tensor_group, data) for data in DataFormat]
    # Activations and what chips exchange are BF16 or BFP8 in every stack; nobody runs them in BFP4.
    choices += [(group, data) for group in ACTIVATIONS for data in (DataFormat.BFP8, DataFormat.BF16)]
    for group, data in choices:
        formats = _changing(hw, finest_tensor_groups(group), data)
        if formats:
            found[data, formats, frozenset()] = Knob((f"precision.{group}={data}",))
    return list(found.values())


def fidelity_knobs(hw: DeviceConfig) -> list[Knob]:
    """Another math_fidelity for every op group, formats as they are."""
    found: dict[_Effect, Knob] = {}
    for group in OP_GROUPS:
        for fidelity in MathFidelity:
            ops = _changing(hw, finest_op_groups(group), fidelity)
            if ops:
                found[fidelity, frozenset(), ops] = Knob((f"compute.{group}.math_fidelity={fidelity}",))
    return list(found.values())


def split_knobs(hw: DeviceConfig) -> list[Knob]:
    """Every other way to share the chips out over tensor and data parallelism, the widest tensor parallelism first."""
    chips, own = hw.spec.chips, hw.parallelism
    return [
        Knob(
            (f"parallelism.tensor_parallel_size={size}", f"parallelism.data_parallel_size={chips // size}"),
        )
        for size in range(chips, 0, -1)
        if chips % size == 0 and (size, chips // size) != (own.tensor_parallel_size, own.data_parallel_size)
    ]


def runtime_knobs(experiment: Experiment) -> list[Knob]:
    """The switches of `runtime` in the position they are not in."""
    constants = experiment.calibration.of(experiment.hardware.spec.chip.arch)
    known = [path for path in Sampling if path is not Sampling.device_argmax or constants.device_argmax_ms is not None]
    chips = experiment.hardware.parallelism.tensor_parallel_size
    own = sampling_path(constants, chips, experiment.spec.vocab_size)
    paths = [path for path in known if path is not own]
    ways = [Prefill.traced if constants.prefill is Prefill.untraced else Prefill.untraced]
    if experiment.config.workload.batch > 1 and constants.prefill_batched_factor is not None:
        ways = [way for way in Prefill if way is not constants.prefill]
    found = [Knob((f"runtime.sampling={path}",)) for path in paths]
    found += [Knob((f"runtime.prefill={way}",)) for way in ways]
    # Wormhole's decode matmuls have one reader per bank in every release.
    if experiment.hardware.spec.chip.arch is Arch.blackhole:
        found.append(Knob((f"runtime.dram_readers_per_bank={1 if constants.readers_per_bank == 2 else 2}",)))
    return found


def _changing(hw: DeviceConfig, groups: Iterable[str], value: Named) -> frozenset[str]:
    """The groups that have another value than `value` in some layer; predictions have no experts yet."""
    variants = [hw, *(own for own, _ in hw.own_layers())]
    known = [group for group in groups if group not in EXPERT_GROUPS]
    return frozenset(group for group in known if any(_value(own, group, value) != value for own in variants))


def _value(hw: DeviceConfig, group: str, like: Named) -> Named:
    return hw.compute_for(group).math_fidelity if isinstance(like, MathFidelity) else hw.precision.of(group)
