# SPDX-License-Identifier: Apache-2.0
"""`quantize.weights`: a folder that task=quantize wrote, in the place of the model's own weights, and never measured on
the text that it was calibrated on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..config.quantize_schema import RECORD
from ..models.config_values import read_json
from ..models.open_model import open_weights
from ..models.weights import WeightSource

if TYPE_CHECKING:
    from torch import Tensor

    from ..accuracy.evaluation_text import EvaluationTokens

# Runs of so many tokens tell a text: unseen text of the same kind shares few of them.
_RUN = 16
# The share of measured tokens inside such runs from which a text counts as seen.
_SEEN = 0.1


def folder_record(folder: Path) -> dict[str, Any]:
    """What is recorded of a folder of calibrated weights. Raises ConfigError where it is none, or is not finished."""
    if not (folder / RECORD).is_file():
        raise ConfigError(
            f"quantize.weights: {folder} has no {RECORD}.", "Use a folder that task=quantize has written."
        )
    record = read_json(folder / RECORD)
    if not record.get("finished"):
        raise ConfigError(
            f"quantize.weights: {folder} is not finished.", "Run the command that wrote it again: it continues."
        )
    return record


def calibrated_weights(folder: str, source: WeightSource, tokens: EvaluationTokens) -> WeightSource:
    """The weights in `folder`, which must be those of `source`'s model.

    Raises ConfigError for weights of another model, and for `tokens` that they were calibrated on.
    """
    place = Path(folder).expanduser()
    record = folder_record(place)
    of = record["asked"].get("weights")
    if of != source.fingerprint:
        raise ConfigError(
            f"quantize.weights: {folder} was made from other weights than those of {source.spec.name}.",
            "Use the model that it was made from, or model.path=DIR to measure it as a model of its own.",
        )
    refuse_seen(folder, record, tokens)
    weights, _ = open_weights(source.spec, path=str(place))
    return weights


def refuse_seen(folder: str, record: dict[str, Any], tokens: EvaluationTokens) -> None:
    """Raises ConfigError where more than a tenth of `tokens` are text that the weights were calibrated on."""
    seen = shared_tokens(record["calibration"]["ids"], tokens.windows)
    if is_seen(seen, tokens.count):
        raise ConfigError(
            f"{seen} of {tokens.count} tokens of {tokens.name} are text that {folder} was calibrated on.",
            f"Set workload.skip={record['calibration']['span']} or other workload.texts.",
        )


def shared_tokens(calibration: Iterable[Sequence[int]], windows: Iterable[Tensor]) -> int:
    """How many tokens of `windows` lie in passages of the windows of ids that weights are calibrated on."""
    runs = {tuple(ids[i : i + _RUN]) for ids in calibration for i in range(len(ids) - _RUN + 1)}
    return sum(_covered(window.tolist(), runs) for window in windows)


def is_seen(shared: int, tokens: int) -> bool:
    """Whether a text of which so many tokens are shared counts as one that was calibrated on."""
    return shared > _SEEN * tokens


def _covered(ids: list[int], runs: set[tuple[int, ...]]) -> int:
    """How many of `ids` lie in a run of `runs`."""
    covered = [False] * len(ids)
    for i in range(len(ids) - _RUN + 1):
        if tuple(ids[i : i + _RUN]) in runs:
            covered[i : i + _RUN] = [True] * _RUN
    return sum(covered)
