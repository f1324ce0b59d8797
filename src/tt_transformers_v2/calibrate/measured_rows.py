# SPDX-License-Identifier: Apache-2.0
"""Measured rows as experiments: what was run, resolved like any other configuration, and what it is predicted to do."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError, did_you_mean
from ..config.building import raise_all
from ..config.composition import compose
from ..config.conf_folders import read_yaml
from ..config.groups import groups, option
from ..config.overrides import check_each
from ..config.resolve import Experiment, resolve
from ..config.yaml_files import read_yaml_file
from ..hardware.enums import DataFormat
from ..perf.calibration import Calibration
from ..perf.confidence import EXTRAPOLATED, UNSUPPORTED, Confidence
from ..perf.measurements import MeasuredRow
from ..perf.prediction import Prediction, confidence_rules
from ..run.performance import predict

OTHER_RELEASE = "measured on another release, or in another way, than the calibration"
# Percent. Between releases the same Llama configuration moved by 20 to 30 % (old PERF.md against @040a27c1).
OTHER_RELEASE_BAND = 35.0

# A figure this many times off is in another unit, or of something else.
UNIT_FACTOR = 30.0

MODES = {"accuracy": "accuracy", "performance": "performance", "ff13_bfp4": "performance"}
_FORMATS = {"bfp4": "BFP4", "bfp8": "BFP8", "bf16": "BF16"}
_ACTIVATIONS = {"bf16": ("BF16", "BF16"), "bfp8": ("BFP8", "BFP8"), "mixed": ("BF16", "BFP8")}  # attention, MLP
# What `cfg:` calls a tensor group -> its name here.
_GROUPS = {"ff13": "ff1_ff3", "ff2": "ff2", "wqkv": "wqkv", "wo": "wo", "kv": "kv_cache"}
_CFG_KEYS = (*_GROUPS, "act")


@dataclass(frozen=True)
class ResolvedRow:
    """A row and the experiment it measured; without one, `refusal` says why this project cannot run it."""

    row: MeasuredRow
    experiment: Experiment | None
    refusal: str = ""


@dataclass(frozen=True)
class PredictedRow:
    """A row and its prediction (None where unsupported).

    decode, prefill: how far to trust tokens/s/user and TTFT. decode_covered, prefill_covered: whether the row's source
    is of the releases that the calibration describes.
    """

    row: MeasuredRow
    experiment: Experiment | None
    prediction: Prediction | None
    decode: Confidence
    prefill: Confidence
    decode_covered: bool
    prefill_covered: bool


def row_overrides(row: MeasuredRow) -> list[str]:
    """The overrides that describe a row, as a user would type them.

    Raises ConfigError naming the row for an unknown mode, and for `cfg:` with unknown, repeated or wrong parts.
    """
    mode, finer = MODES.get(row.mode), []
    if row.mode.startswith("cfg:"):
        mode, finer = "performance", _finer(row)
    if mode is None:
        raise ConfigError(f"{_named(row)}: unknown mode {row.mode!r}.", did_you_mean(row.mode, [*MODES, "cfg:…"]))
    if "one_reader_per_bank" in row.flag.split():
        finer.append("runtime.dram_readers_per_bank=1")
    ways = {"sampling": row.sampling, "prefill": row.prefill, "stack": row.stack}
    finer += [f"runtime.{name}={way}" for name, way in ways.items() if way is not None]
    if row.context is not None:
        finer.append(f"workload.context={row.context}")
    return [
        f"device={row.device}",
        f"model={row.model}",
        f"precision={mode}",
        f"parallelism.tensor_parallel_size={row.tensor_parallel}",
        f"parallelism.data_parallel_size={row.data_parallel}",
        f"workload.batch={row.batch * row.data_parallel}",
        f"workload.prompt_length={row.seq}",
        *finer,
    ]


def cfg_formats(mode: str) -> dict[str, str]:
    """The parts of a `cfg:` mode, such as {"ff13": "bfp4", "act": "mixed"}. Raises ConfigError for malformed ones."""
    parts: dict[str, str] = {}
    for part in mode.removeprefix("cfg:").split(","):
        key, equals, value = (text.strip() for text in part.partition("="))
        if not equals or key not in _CFG_KEYS:
            raise ConfigError(f"{part!r} is not KEY=FORMAT.", did_you_mean(key, _CFG_KEYS))
        if key in parts:
            raise ConfigError(f"{key} is given twice.")
        allowed = _ACTIVATIONS if key == "act" else _FORMATS
        if value not in allowed:
            raise ConfigError(f"{key} cannot be {value!r}.", did_you_mean(value, allowed))
        parts[key] = value
    return parts


def _finer(row: MeasuredRow) -> list[str]:
    """Every tensor group's format, and the fidelity of the MLP that tt_transformers gives that format."""
    try:
        parts = cfg_formats(row.mode)
    except ConfigError as error:
        raise ConfigError(f"{_named(row)}: {error}") from None
    found = [f"precision.{_GROUPS[key]}={_FORMATS[value]}" for key, value in parts.items() if key in _GROUPS]
    for key in ("ff13", "ff2"):
        if key in parts:
            fidelity = DataFormat(_FORMATS[parts[key]]).lowest_fidelity
            found.append(f"compute.{_GROUPS[key]}.math_fidelity={fidelity}")
    if "act" in parts:
        attention, mlp = _ACTIVATIONS[parts["act"]]
        found += [f"precision.attention_activations={attention}", f"precision.mlp_activations={mlp}"]
    return found


def _named(row: MeasuredRow) -> str:
    return f"line {row.line} ({row.model} on {row.device})" if row.line else f"{row.model} on {row.device}"


def resolve_rows(rows: Iterable[MeasuredRow]) -> list[ResolvedRow]:
    """Every row resolved. What cannot run here is refused with a reason; a row that cannot be read raises ConfigError,
    naming all such rows."""
    found, problems = [], []
    for row in rows:
        try:
            found.append(_resolved(row, row_overrides(row)))
        except ConfigError as problem:
            problems.append(problem)
    raise_all(problems)
    return found


def _resolved(row: MeasuredRow, overrides: Sequence[str]) -> ResolvedRow:
    try:
        chosen = [f"device={option('device', row.device)}", f"model={option('model', row.model)}"]
        # Beyond device and model, which are checked here, every override is of this module's own making.
        texts = [*chosen, *overrides[len(chosen) :]]
        asked = check_each(texts)
        experiment = resolve(compose(asked), asked.typed)
    except ConfigError as error:
        return ResolvedRow(row, None, error.message)
    # What was measured did fit, however narrowly.
    errors = [finding for finding in experiment.errors if finding.id != "dram-overflow"]
    if errors:
        return ResolvedRow(row, None, " ".join(finding.what for finding in errors))
    return ResolvedRow(row, experiment)


@dataclass
class RowPredictor:
    """Predicts resolved rows under one calibration; the runtime switches of each row are kept."""

    calibration: Calibration
    _switched: dict[Hashable, Calibration] = field(default_factory=dict)

    def calibration_for(self, experiment: Experiment, date: str) -> Calibration:
        """This calibration as of `date`, with the switches that the experiment's `runtime` asks for."""
        switches = experiment.config.runtime.constants()
        key = (date, *switches.items())
        if key not in self._switched:
            self._switched[key] = self.calibration.at(date).replace(**switches)
        return self._switched[key]

    def predict(self, resolved: ResolvedRow) -> PredictedRow:
        """The prediction of a row; class unsupported where there is none."""
        row, experiment = resolved.row, resolved.experiment
        rules = confidence_rules(self.calibration)
        covered = rules.covers(row, "decode"), rules.covers(row, "prefill")
        if experiment is None:
            return _refused(resolved, resolved.refusal, covered)
        try:
            asked = dataclasses.replace(experiment, calibration=self.calibration_for(experiment, row.date))
            prediction = predict(asked)
        except ConfigError as error:
            return _refused(resolved, error.message, covered)
        if not prediction.supported:
            return _refused(resolved, " ".join(prediction.decode.reasons), covered)
        _check_units(row, prediction)
        confidences = (prediction.decode, prediction.prefill)
        decode, prefill = (own if of else other_release(own) for own, of in zip(confidences, covered, strict=True))
        return PredictedRow(row, asked, prediction, decode, prefill, *covered)


def _check_units(row: MeasuredRow, prediction: Prediction) -> None:
    """Raises ConfigError for a figure that is too far from its prediction to be in the unit of its column."""
    if row.flag:
        return
    for name, measured, predicted, unit in (
        ("ttft_ms", row.ttft_ms, prediction.speed.ttft_ms, "milliseconds"),
        ("tsu", row.tokens_per_s_per_user, prediction.speed.decode_tokens_per_s_per_user, "tokens/s/user"),
    ):
        if measured is not None and not 1 / UNIT_FACTOR < measured / predicted < UNIT_FACTOR:
            raise ConfigError(
                f"{_named(row)}: {name} is {measured:g} and {predicted:.3g} is predicted: {unit} are expected.",
                "Check the unit, or give the row a flag.",
            )


def _refused(resolved: ResolvedRow, reason: str, covered: tuple[bool, bool]) -> PredictedRow:
    none = Confidence(UNSUPPORTED, math.inf, (reason,))
    return PredictedRow(resolved.row, resolved.experiment, None, none, none, *covered)


def other_release(confidence: Confidence) -> Confidence:
    """The confidence in a prediction of what the constants do not describe: extrapolated at best."""
    reasons = (*confidence.reasons, OTHER_RELEASE)
    return Confidence(EXTRAPOLATED, max(confidence.band, OTHER_RELEASE_BAND), reasons)


def predict_rows(rows: Iterable[MeasuredRow], calibration: Calibration) -> list[PredictedRow]:
    """Every row's prediction, in order. Raises ConfigError for rows that cannot be read (see resolve_rows)."""
    predictor = RowPredictor(calibration)
    return [predictor.predict(resolved) for resolved in resolve_rows(rows)]


def calibration_data(name: str | None = None) -> dict[str, Any]:
    """Plain data of a calibration: an option of conf/calibration, a YAML file, or the default for None.

    Raises ConfigError when there is no such option or file.
    """
    if name is not None and (name.endswith((".yaml", ".yml")) or "/" in name):
        data: Any = read_yaml_file(Path(name))[1]
        if not isinstance(data, dict):
            raise ConfigError(f"{name} is not a calibration: it must be a mapping.")
        return data
    chosen = [] if name is None else [f"calibration={option('calibration', name)}"]
    data = compose(chosen)["calibration"]
    assert isinstance(data, dict)
    return _with_priors(data)


def _with_priors(data: dict[str, Any]) -> dict[str, Any]:
    """A packaged calibration with the `prior` of its constants, which conf/provenance has."""
    try:
        provenance = read_yaml(f"provenance/{data['name']}.yaml")
    except ConfigError:
        return data  # a calibration of the user's own, which has its priors beside the values
    for arch, entries in provenance.items():
        for name, entry in entries.items():
            if "prior" in entry and name in data.get(arch, {}):
                data[arch][name]["prior"] = entry["prior"]
    return data


def fitted_to(points: str) -> str | None:
    """The packaged calibration that was fitted to a file of that name; None where there is none."""
    for name in groups()["calibration"]:
        if calibration_data(name)["confidence"]["points"] == points:
            return name
    return None


def load_calibration(name: str | None = None) -> Calibration:
    """The calibration of `calibration_data`, checked. Raises ConfigError naming the file and what is wrong with it."""
    data = calibration_data(name)
    try:
        calibration = Calibration.from_dict(data)
        confidence_rules(calibration)
    except ConfigError as error:
        raise ConfigError(f"{name or 'the default calibration'}: {error}") from None
    return calibration
