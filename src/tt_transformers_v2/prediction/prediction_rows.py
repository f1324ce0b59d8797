# SPDX-License-Identifier: Apache-2.0
"""A prediction as rows and as JSON: what scripts/predict.py prints, without the printing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..config.findings import Finding
from ..config.resolve import Experiment, plain
from ..hardware.enums import DataFormat
from ..hardware.op_table import DECODE, MATRICES, PREFILL
from ..hardware.schema import DeviceConfig
from ..perf.ops import Op
from ..perf.prediction import Prediction
from ..perf.speed import OpLine
from ..perf.timing import OpTime
from ..planning.layer_groups import layer_groups
from ..run.performance import performance_section
from .knobs import Gain, WhatIf
from .limits import BatchLimit, ContextLimit
from .questions import Answer, Refused
from .targets import Option, Search

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class OpRow:
    """A row of the per-op table: equal ops of all layers together. us per execution, share (0 to 1) of the phase."""

    time: OpTime
    count: int
    share: float
    data: DataFormat | None

    @property
    def op(self) -> Op:
        """The op as one of those counted here runs it."""
        return self.time.op

    @property
    def total_ms(self) -> float:
        """Milliseconds of all executions in one decode step or prompt."""
        return self.time.us * self.count / 1e3

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        time = self.time
        return {
            "op": self.op.name,
            "count": self.count,
            "us": time.us,
            "total_ms": self.total_ms,
            "share": self.share,
            "bound": time.bound,
            "next_bound": time.next_bound or None,
            "next_us": time.next_us if time.next_bound else None,
            "format": str(self.data) if self.data else None,
            "math_fidelity": str(self.op.fidelity) if self.op.fidelity else None,
            "bytes": self.op.bytes,
            "flops": self.op.flops,
        }


def op_rows(prediction: Prediction, phase: str) -> list[OpRow]:
    """The ops of a decode step or of a prompt, in order of execution. Raises ConfigError where unsupported."""
    lines = prediction.speed.ops if phase == DECODE else prediction.speed.prefill_ops
    rows: dict[tuple[Any, ...], OpRow] = {}
    for line, own in _with_layers(prediction, lines):
        data = _format(line.op, own)
        key = (line.op.name, data, line.op.fidelity, line.us)
        known = rows.get(key)
        count, share = (known.count, known.share) if known else (0, 0.0)
        rows[key] = OpRow(line.time, count + line.count, share + line.share, data)
    return list(rows.values())


_LAYER_STARTS = MATRICES["wqkv"].name


def _with_layers(prediction: Prediction, lines: Sequence[OpLine]) -> Iterator[tuple[OpLine, DeviceConfig]]:
    """Every op with the configuration it runs under; layers that differ come one kind after the other."""
    groups = iter(layer_groups(prediction.hardware, prediction.spec))
    own = prediction.hardware
    for line in lines:
        if line.op.name == _LAYER_STARTS:
            own = next(groups).hardware
        yield line, own


def _format(op: Op, own: DeviceConfig) -> DataFormat | None:
    """The format of what an op reads or sends."""
    return own.precision.of(op.tensor_group) if op.tensor_group else None


def answer_json(answer: Answer) -> dict[str, Any]:
    """One prediction with everything behind it. ConfigError where its class is unsupported."""
    experiment, prediction = answer.experiment, answer.prediction
    speed, parallel = prediction.speed, experiment.hardware.parallelism
    nearest = answer.nearest
    return {
        "basis": speed.basis,
        "overrides": list(answer.overrides),
        "config_hash": experiment.config_hash(),
        "model": experiment.spec.name,
        "device": str(experiment.hardware.device_type),
        "precision": str(experiment.config.mode),
        "tensor_parallel_size": parallel.tensor_parallel_size,
        "data_parallel_size": parallel.data_parallel_size,
        "users": experiment.config.workload.batch,
        "prompt_length": prediction.prompt_length,
        "context": prediction.context,
        "performance": performance_section(experiment)
        | {"decode_ms": speed.decode_ms, "prefill_shares": speed.prefill_shares},
        "decode_ops": [row.to_dict() for row in op_rows(prediction, DECODE)],
        "prefill_ops": [row.to_dict() for row in op_rows(prediction, PREFILL)],
        "nearest_measured": dataclasses.asdict(nearest) | {"row": nearest.row.as_dict()} if nearest else None,
        "rules": [plain(dataclasses.asdict(effect)) for effect in experiment.effects if effect.changed],
        "findings": findings_json(experiment.findings),
    }


def refusal_json(experiment: Experiment, overrides: Sequence[str], refused: Refused) -> dict[str, Any]:
    """A configuration that cannot be predicted: why, and no figures."""
    return {
        "status": "failed",
        "error": refused.message,
        "overrides": list(overrides),
        "model": experiment.spec.name,
        "device": str(experiment.hardware.device_type),
        "findings": findings_json(experiment.findings),
    }


def findings_json(findings: Iterable[Finding]) -> list[dict[str, Any]]:
    """Findings as plain JSON types: id, severity, what, why and fix of each."""
    return [plain(dataclasses.asdict(finding)) for finding in findings]


def what_if_json(found: WhatIf) -> dict[str, Any]:
    """Gains in percent, DRAM change in bytes per chip."""
    return {
        "gains": [_gain_json(gain) for gain in found.gains],
        "left_out": [{"overrides": list(knob.overrides), "reason": why} for knob, why in found.left_out],
    }


def _gain_json(gain: Gain) -> dict[str, Any]:
    return {
        "overrides": list(gain.knob.overrides),
        "decode_gain_percent": gain.decode,
        "ttft_gain_percent": gain.ttft,
        "dram_change_bytes": gain.memory,
        "within_noise": gain.within_noise,
        "new_warnings": list(gain.warnings),
    } | _figures(gain.answer)


def search_json(found: Search) -> dict[str, Any]:
    """The target in tokens/s/user, what reaches it, cheapest first, and the best where nothing does."""
    return {
        "target": found.target,
        "reaching": [_option_json(option) for option in found.reaching],
        "best": _option_json(found.best) if found.best else None,
        "predicted": found.predicted,
        "left_out": dict(found.left_out),
    }


def _option_json(option: Option) -> dict[str, Any]:
    system = option.answer.experiment.hardware.spec
    return {
        "overrides": list(option.answer.overrides),
        "device": str(system.device_type),
        "chips": system.chips,
        "dram_bytes": system.chip.dram_size * system.chips,
        "low_tokens_per_s_per_user": option.answer.low_tokens_per_s_per_user,
    } | _figures(option.answer)


def limits_json(contexts: Sequence[ContextLimit], batch: BatchLimit) -> dict[str, Any]:
    """Tokens per user by users, and users at the asked context."""
    return {
        "contexts": [
            {
                "users": limit.users,
                "users_per_group": limit.batch,
                "context": limit.context,
                "limited_by_model": limit.limited_by_model,
            }
            | (_figures(limit.answer) if limit.answer else {})
            for limit in contexts
        ],
        "largest_batch": dataclasses.asdict(batch) | {"users": batch.users},
    }


def _figures(answer: Answer) -> dict[str, Any]:
    decode, prefill = answer.prediction.decode, answer.prediction.prefill
    return {
        "tokens_per_s_per_user": answer.tokens_per_s_per_user,
        "decode_class": decode.kind,
        "decode_band_percent": decode.band,
        "ttft_ms": answer.ttft_ms,
        "ttft_class": prefill.kind,
        "ttft_band_percent": prefill.band,
    }
