# SPDX-License-Identifier: Apache-2.0
"""The text to calibrate on, and texts to verify on that share no position with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..accuracy.evaluation_text import EvaluationTokens, TextTooShort, disjoint_windows, windows_of_texts
from ..common.errors import ConfigError
from ..config.quantize_schema import QuantizeConfig
from ..models.tokenizer import Tokenizer


@dataclass(frozen=True)
class QuantizeTexts:
    """`calibration`, and what is verified by a name that says how it is related to it. `span`: how many tokens of each
    text are used."""

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
    window = settings.window
    counts = -(-settings.tokens // window), -(-settings.verify_tokens // window)
    try:
        seen, unseen = disjoint_windows(tokenizer, settings.texts, counts, window, bos=bos, setting="quantize.texts")
        verified = {"same texts, other windows": unseen}
        if settings.verify_texts:
            verified["other texts"] = windows_of_texts(
                tokenizer, settings.verify_texts, counts[1] * window, window, bos=bos, setting="quantize.verify_texts"
            )
    except TextTooShort as error:
        raise ConfigError(
            f"{error.message.split(';')[0]}; quantize.tokens and quantize.verify_tokens ask for "
            f"{counts[0] * window} and {counts[1] * window} of each text.",
            "Lower them, or use longer texts.",
        ) from None
    return QuantizeTexts(seen, verified, sum(counts) * window)
