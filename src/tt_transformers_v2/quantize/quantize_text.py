# SPDX-License-Identifier: Apache-2.0
"""The text to calibrate on, and texts to verify on that share no position with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..accuracy.evaluation_text import NAMED, EvaluationTokens, TextTooShort, disjoint_windows, windows_of_texts
from ..common.errors import ConfigError
from ..config.quantize_schema import QuantizeConfig
from ..models.tokenizer import Tokenizer


@dataclass(frozen=True)
class QuantizeTexts:
    """`calibration`, and what is verified by a name that says how it is related to it. `span`: up to where
    each text is used, in tokens."""

    calibration: EvaluationTokens
    verified: dict[str, EvaluationTokens]
    span: int

    def record(self) -> dict[str, Any]:
        """What the folder says of its calibration."""
        return {
            "text": self.calibration.name,
            "tokens": self.calibration.count,
            "span": self.span,
            "ids": [window.tolist() for window in self.calibration.windows],
        }


def quantize_texts(settings: QuantizeConfig, tokenizer: Tokenizer, bos: bool | None = None) -> QuantizeTexts:
    """The texts that `settings` asks for, in windows that begin as `bos` says (workload.bos).

    Raises ConfigError for a text that is not there or too short, and for a BOS that the tokenizer does not name.
    """
    window, skip = settings.window, settings.skip or 0
    counts = _counts(settings)
    try:
        seen, unseen = _halves(settings, tokenizer, bos, skip)
        verified = {"same texts, other windows": unseen}
        if settings.verify_texts:
            verified["other texts"] = windows_of_texts(
                tokenizer, settings.verify_texts, counts[1] * window, window, bos=bos, setting="quantize.verify_texts"
            )
    except TextTooShort as error:
        raise _too_short(settings, error, skip) from None
    return QuantizeTexts(seen, verified, skip + sum(counts) * window)


def calibration_tokens(
    settings: QuantizeConfig, tokenizer: Tokenizer, bos: bool | None, used: Mapping[str, int]
) -> tuple[EvaluationTokens, int]:
    """The text to calibrate on where `used` tokens at the beginning of each text are for something else, and how many
    were skipped for it: as many as any of `settings.texts` has used, unless `settings.skip` says how many.

    Raises ConfigError as `quantize_texts` does, whose calibration is the same with that `skip`.
    """
    skip = settings.skip
    if skip is None:
        skip = max((used.get(_identity(name), 0) for name in settings.texts), default=0)
    try:
        return _halves(settings, tokenizer, bos, skip)[0], skip
    except TextTooShort as error:
        raise _too_short(settings, error, skip) from None


def used_tokens(names: Sequence[str], tokens: int) -> dict[str, int]:
    """What `calibration_tokens` is told of texts of which the first `tokens` are used."""
    return dict.fromkeys(map(_identity, names), tokens)


def _identity(name: str) -> str:
    """The same for all spellings of a file."""
    return name if name in NAMED else str(Path(name).resolve())


def _counts(settings: QuantizeConfig) -> tuple[int, int]:
    """Windows of each text to calibrate on and to verify on."""
    return -(-settings.tokens // settings.window), -(-settings.verify_tokens // settings.window)


def _halves(
    settings: QuantizeConfig, tokenizer: Tokenizer, bos: bool | None, skip: int
) -> tuple[EvaluationTokens, EvaluationTokens]:
    return disjoint_windows(
        tokenizer, settings.texts, _counts(settings), settings.window, skip, bos=bos, setting="quantize.texts"
    )


def _too_short(settings: QuantizeConfig, error: TextTooShort, skip: int) -> ConfigError:
    calibrate, verify = (count * settings.window for count in _counts(settings))
    return ConfigError(
        f"{error.message.split(';')[0]}; quantize.tokens and quantize.verify_tokens ask for {calibrate} and {verify} "
        f"of each text{f' after the first {skip}' if skip else ''}.",
        "Lower them, or use longer texts.",
    )
