# SPDX-License-Identifier: Apache-2.0
"""What would reach a decode speed: scripts/predict.py --target."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from ..common.errors import ConfigError
from ..config.groups import groups
from ..config.resolve import Experiment
from ..hardware.enums import Arch
from ..hardware.op_table import MATRICES, NORM, ROOT_OP_GROUPS, SDPA
from .knobs import Knob, format_knobs, runtime_knobs, split_knobs
from .questions import Answer, Refused, ask_for_figures, changed, override_key

MODES = ("accuracy", "performance")
# Findings that leave a configuration out, in the words of the answer.
_WHY = {
    "dram-overflow": "do not fit in DRAM",
    "tensor-parallel-heads": "heads do not divide over the chips",
    "batch-over-maximum": "support fewer users",
    "kv-cache-over-l1": "cannot hold the KV cache in L1",
}
# Everything at its narrowest: no single change of format, fidelity or runtime is faster than all of them together.
_NARROWEST = (
    *(f"precision.{op.tensor_parent or op.tensor_group}=BFP4" for op in (*MATRICES.values(), SDPA)),
    *(f"precision.{group}=BFP8" for group in ("activations", "ccl")),
    *(f"compute.{group}.math_fidelity=LoFi" for group in ROOT_OP_GROUPS if group != NORM.op_group),
)


@dataclass(frozen=True)
class Option:
    """A configuration that was tried: a device in a precision mode, with another split or one more change."""

    answer: Answer
    mode: str
    split: Knob | None
    change: Knob | None

    @property
    def device(self) -> str:
        """The device type as it is printed, such as N150."""
        return str(self.answer.experiment.hardware.device_type)

    @property
    def price(self) -> tuple[float, ...]:
        """Cheapest first: chips, then DRAM of the system, then what was left as it is, accuracy mode before the other
        mode, then speed."""
        system = self.answer.experiment.hardware.spec
        dram = system.chip.dram_size * system.chips
        changes = (self.split is not None) + (self.change is not None)
        return (system.chips, dram, changes, self.mode != "accuracy", -self.answer.tokens_per_s_per_user)


@dataclass
class Search:
    """What reaches `target` tokens/s/user, cheapest first, and the fastest that was predicted, which is the fastest
    there is where nothing reaches. predicted: how many configurations were; left_out: how many were not, by reason."""

    target: float
    reaching: list[Option] = field(default_factory=list)
    best: Option | None = None
    predicted: int = 0
    left_out: Counter[str] = field(default_factory=Counter)

    def add(self, option: Option) -> bool:
        """Notes an option; returns whether it reaches the target."""
        speed = option.answer.tokens_per_s_per_user
        self.predicted += 1
        if self.best is None or speed > self.best.answer.tokens_per_s_per_user:
            self.best = option
        if speed >= self.target:
            self.reaching.append(option)
        return speed >= self.target

    def leave_out(self, error: ConfigError, count: int = 1) -> None:
        """Counts configurations that `error` speaks against."""
        why = error.message
        if isinstance(error, Refused) and error.findings:
            why = _WHY.get(error.findings[0].id, error.findings[0].what)
        self.left_out[why] += count


def search(overrides: Sequence[str], target: float) -> Search:
    """Tries every device of conf/device in either precision mode and every split of its chips; where none of these
    reaches `target` (tokens/s/user), the fastest split with each single change of format or runtime as well.

    `overrides` are checked ones; their device, precision mode and parallelism give way, all else stays.
    """
    found = Search(target)
    kept = tuple(text for text in overrides if not _searched(override_key(text)))
    for device in groups()["device"]:
        for mode in MODES:
            _try_device(found, (f"device={device}", f"precision={mode}", *kept), mode)
    found.reaching.sort(key=lambda option: option.price)
    return found


def _searched(key: str) -> bool:
    return key in ("device", "precision") or key.split(".")[0] == "parallelism"


def _try_device(found: Search, overrides: tuple[str, ...], mode: str) -> None:
    options = list(_splits(found, overrides, mode))
    reached = [found.add(option) for option in options]
    if not options or any(reached):
        return
    fastest = max(options, key=lambda option: option.answer.tokens_per_s_per_user)
    # Single changes are worth trying only where all of them together would be fast enough, or the fastest yet.
    yet = found.best.answer.tokens_per_s_per_user if found.best and not found.reaching else found.target
    if _upper_bound(fastest.answer) < min(yet, found.target):
        return
    for change in _speeding_up(fastest.answer.experiment):
        answer = _attempt(changed(fastest.answer.overrides, change.overrides))
        if isinstance(answer, Answer):
            found.add(Option(answer, mode, fastest.split, change))
        else:
            found.leave_out(answer)


def _splits(found: Search, overrides: tuple[str, ...], mode: str) -> Iterator[Option]:
    """The device as its preset splits it, then every other split that is possible."""
    preset = _attempt(overrides)
    if isinstance(preset, ConfigError):
        found.leave_out(preset)
        return  # the preset's tensor parallelism is the widest possible: what does not fit so fits in no other way
    yield Option(preset, mode, None, None)
    splits = split_knobs(preset.experiment.hardware)
    for tried, split in enumerate(splits, start=1):
        answer = _attempt(changed(overrides, split.overrides))
        if isinstance(answer, Answer):
            yield Option(answer, mode, split, None)
        elif isinstance(answer, Refused) and answer.overflows:
            found.leave_out(answer, 1 + len(splits) - tried)  # narrower splits put more weights on a chip
            return
        else:
            found.leave_out(answer)


def _attempt(overrides: tuple[str, ...]) -> Answer | ConfigError:
    """The answer to a configuration, or what speaks against it."""
    try:
        return ask_for_figures(overrides)
    except ConfigError as error:
        return error


def _upper_bound(answer: Answer) -> float:
    """tokens/s/user with everything at its narrowest, sampled wherever that is faster."""
    speeds = []
    blackhole = answer.experiment.hardware.spec.chip.arch is Arch.blackhole
    readers = ["runtime.dram_readers_per_bank=2"] if blackhole else []
    for sampling in ("host", "device"):
        runtime = [f"runtime.sampling={sampling}", *readers]
        try:
            speeds.append(ask_for_figures(changed(answer.overrides, [*_NARROWEST, *runtime])).tokens_per_s_per_user)
        except ConfigError:
            continue  # the chips cannot sample so wide a vocabulary
    return max(speeds, default=math.inf)


def _speeding_up(experiment: Experiment) -> list[Knob]:
    """The knobs that can make decode faster: narrower formats with their fidelity, and the runtime's switches."""
    narrower = [knob for knob in format_knobs(experiment.hardware) if not knob.overrides[0].endswith("=BF16")]
    return [*narrower, *runtime_knobs(experiment)]
