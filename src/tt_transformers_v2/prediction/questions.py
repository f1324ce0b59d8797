# SPDX-License-Identifier: Apache-2.0
"""Overrides in, prediction out: one configuration, the same with something changed, and the row measured nearest to it.

scripts/predict.py asks its questions through this module; from Python it is `tt_transformers_v2.predict(...)`.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ..calibrate.measured_rows import row_overrides
from ..common.errors import ConfigError
from ..config.composition import compose
from ..config.findings import Finding
from ..config.groups import option
from ..config.measured_points import measured_points
from ..config.model_shapes import described_spec
from ..config.overrides import check_each, check_overrides
from ..config.resolve import Experiment, resolve
from ..perf.measurements import MeasuredRow
from ..perf.prediction import Prediction
from ..perf.token_costs import sampling_path
from ..run.board_snapshot import this_device
from ..run.performance import predict

# With the device, what makes two experiments the same configuration. The rest of Experiment.to_dict says what to do
# with it.
_CONFIGURATION = ("model", "precision", "compute", "layers", "memory", "parallelism")
# Tokens by which contexts may differ and count as the same: rows state the middle of a run, prompts its beginning.
_CONTEXT_ALIKE = 256


class Refused(ConfigError):
    """A configuration that can be read but not predicted: `findings` are its errors, none where the model of speed has
    nothing to say."""

    exit_code = 1

    def __init__(self, message: str, findings: Iterable[Finding] = ()) -> None:
        super().__init__(message)
        self.findings = tuple(findings)

    @classmethod
    def by(cls, findings: Iterable[Finding]) -> Refused:
        """Refused for `findings`, one line each."""
        listed = tuple(findings)
        return cls("\n".join(str(finding) for finding in listed), listed)

    @property
    def overflows(self) -> bool:
        """Whether DRAM is too small and nothing else is wrong."""
        return bool(self.findings) and all(finding.id == "dram-overflow" for finding in self.findings)


@dataclass(frozen=True)
class Answer:
    """A configuration, resolved and predicted; `overrides` is what the user would type for it.

    The figures raise ConfigError where the prediction is of class unsupported; `ask_for_figures` refuses those.
    """

    overrides: tuple[str, ...]
    experiment: Experiment
    prediction: Prediction

    @property
    def tokens_per_s_per_user(self) -> float:
        """Decode speed as one user sees it."""
        return self.prediction.speed.decode_tokens_per_s_per_user

    @property
    def low_tokens_per_s_per_user(self) -> float:
        """The lower end of the band."""
        return self.tokens_per_s_per_user * (1 - self.prediction.decode.band / 100)

    @functools.cached_property
    def nearest(self) -> Measured | None:
        """The nearest measured row; None where the calibration has no rows."""
        return _nearest_measured(self)

    @property
    def tokens_per_s(self) -> float:
        """Over all users of the workload."""
        return self.tokens_per_s_per_user * self.experiment.config.workload.batch

    @property
    def ttft_ms(self) -> float:
        """Milliseconds from the prompt to its first token."""
        return self.prediction.speed.ttft_ms


def predict_overrides(*overrides: str) -> Prediction:
    """The prediction of a configuration given as on the command line: predict("device=n150", "model=llama8b").

    Raises ConfigError for overrides that are wrong and for findings that are errors, such as a model that does not fit.
    What comes back may be of class unsupported; its figures then raise ConfigError too.
    """
    return ask(typed_overrides(overrides)).prediction


def ask(overrides: Sequence[str]) -> Answer:
    """Resolves and predicts. Raises ConfigError for wrong overrides, Refused for findings that are errors."""
    experiment = resolve_overrides(overrides)
    if experiment.errors:
        raise Refused.by(experiment.errors)
    return Answer(tuple(overrides), experiment, predict(experiment))


def ask_for_figures(overrides: Sequence[str]) -> Answer:
    """As `ask`, but Refused also where the prediction is of class unsupported."""
    answer = ask(overrides)
    if not answer.prediction.supported:
        raise Refused("no prediction: " + " ".join(answer.prediction.decode.reasons))
    return answer


def resolve_overrides(overrides: Sequence[str]) -> Experiment:
    """The experiment of overrides as typed; findings are in it, errors among them. Raises ConfigError."""
    if len({override_key(text) for text in overrides}) < len(overrides):
        check_overrides(overrides)  # names the key that is given twice
    checked = check_each(overrides)
    return resolve(compose(checked), checked.typed)


def changed(overrides: Sequence[str], changes: Sequence[str]) -> tuple[str, ...]:
    """`overrides` with `changes` in place of those that have the same key."""
    keys = {override_key(text) for text in changes}
    return (*(text for text in overrides if override_key(text) not in keys), *changes)


def override_key(text: str) -> str:
    """What stands before the equals sign."""
    return text.partition("=")[0].strip()


@dataclass(frozen=True)
class Measured:
    """The measured row nearest to a prediction. `differs` says in what it is another configuration; empty where it is
    the same one, and then the ratios are prediction over measurement (None where the row has no such figure)."""

    row: MeasuredRow
    differs: tuple[str, ...]
    decode_ratio: float | None = None
    ttft_ratio: float | None = None


def _nearest_measured(answer: Answer) -> Measured | None:
    row = answer.prediction.nearest(
        measured_points(answer.prediction.points), str(answer.experiment.config.mode), described_spec
    )
    if row is None:
        return None
    differs = _differences(answer, row)
    if differs or not answer.prediction.supported:
        return Measured(row, differs)
    decode, ttft = row.tokens_per_s_per_user, row.ttft_ms
    return Measured(
        row,
        (),
        answer.tokens_per_s_per_user / decode if decode else None,
        answer.ttft_ms / ttft if ttft else None,
    )


def _differences(answer: Answer, row: MeasuredRow) -> tuple[str, ...]:
    """The parts of the configuration in which a row is another one than the answer's."""
    prediction = answer.prediction
    try:
        chosen = [f"device={option('device', row.device)}", f"model={option('model', row.model)}"]
        theirs = _parts(resolve_overrides(changed(row_overrides(row), chosen)))
    except ConfigError:
        return ("the row cannot be resolved here",)
    differs = [name for name, value in _parts(answer.experiment).items() if value != theirs[name]]
    if "device.device_type" in differs:
        differs = ["device", *(name for name in differs if not name.startswith("device."))]
    asked = {"users": (prediction.batch, row.batch), "prompt": (prediction.prompt_length, row.seq)}
    if abs(prediction.context - (row.context or row.seq)) > _CONTEXT_ALIKE:
        asked["context"] = (prediction.context, row.context or row.seq)
    return (*differs, *(name for name, (own, measured) in asked.items() if own != measured))


def _parts(experiment: Experiment) -> dict[str, Any]:
    """What makes a configuration, by the names it is told apart with."""
    tree = experiment.to_dict()
    constants = experiment.calibration.of(experiment.hardware.spec.chip.arch)
    chips = experiment.hardware.parallelism.tensor_parallel_size
    return {
        **{part: tree[part] for part in _CONFIGURATION},
        **{f"device.{name}": value for name, value in tree["device"].items()},
        "sampling": sampling_path(constants, chips, experiment.spec.vocab_size),
        "prefill": constants.prefill,
        "stack": constants.stack,
        "readers per bank": constants.readers_per_bank,
    }


def typed_overrides(overrides: Sequence[str]) -> list[str]:
    """Overrides with options in their file's spelling, as the user would type them. Raises ConfigError."""
    return check_overrides(overrides, this_machine=this_device).texts
