# SPDX-License-Identifier: Apache-2.0
"""The `quantize` section of the configuration: how task=quantize rounds weights, and a folder of them to use."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..common.checked import Checked
from ..common.errors import ConfigError


@dataclass
class QuantizeConfig(Checked):
    """conf/quantize.

    `tokens` and `verify_tokens` are of each text; `damping` is a share of a Hessian's mean diagonal.
    """

    AT_LEAST = {"tokens": 32, "window": 16, "damping": 1e-6, "verify_tokens": 32}  # noqa: RUF012

    out: str | None = None
    weights: str | None = None
    texts: list[str] = field(default_factory=lambda: ["python_topics"])
    tokens: int = 4096
    window: int = 256
    damping: float = 0.01
    act_order: bool = False
    verify_texts: list[str] = field(default_factory=lambda: ["python_source"])
    verify_tokens: int = 512

    def __post_init__(self) -> None:
        if self.window > min(self.tokens, self.verify_tokens):
            raise ConfigError(
                f"quantize.window={self.window} is longer than quantize.tokens={self.tokens} or "
                f"quantize.verify_tokens={self.verify_tokens}.",
                "Choose a shorter window or more tokens.",
            )
        both = next((name for name in self.verify_texts if name in self.texts), None)
        if both is not None:
            raise ConfigError(
                f"{both} is in quantize.texts and in quantize.verify_texts.",
                "Parts of quantize.texts that are not calibrated on are verified anyway: list other texts.",
            )
        if not self.texts:
            raise ConfigError("quantize.texts is empty.", "List a text to calibrate on.")
        if self.out and self.weights:
            raise ConfigError(
                "quantize.out and quantize.weights are both set.",
                "task=quantize writes a folder to quantize.out; quantize.weights is for the tasks that use one.",
            )
