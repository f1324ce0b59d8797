# SPDX-License-Identifier: Apache-2.0
"""The `quantize` section of the configuration: how task=quantize rounds weights, and a folder of them to use."""

from __future__ import annotations

from dataclasses import dataclass, field

from ..common.checked import Checked
from ..common.errors import ConfigError, did_you_mean
from ..hardware.enums import Named
from ..hardware.op_table import EXPERT_OPS, MATRICES

# What task=quantize leaves of itself in the folder that it writes.
RECORD = "quantize.json"
# Groups of layers' weights, by which matrices to calibrate are named.
SITES = tuple(dict.fromkeys(op.tensor_group for op in (*MATRICES.values(), *EXPERT_OPS) if op.in_layer))


class LayerInputs(Named):
    """What a matrix sees of the text while it is calibrated: what comes through the layers before as they were rounded,
    or through the model's own weights. The first gives somewhat better weights for a whole configuration; with the
    second a matrix is rounded alike whatever becomes of the others, as a search needs it."""

    rounded = "rounded"
    original = "original"


@dataclass
class QuantizeConfig(Checked):
    """conf/quantize.

    `tokens` and `verify_tokens` are of each text, after its first `skip` (None: 0, but in a search as many as that
    uses); `damping` is a share of a Hessian's mean diagonal. `calibrated` maps a group of weights to the layers in
    which it is calibrated, as layers.select writes them (None: all in a block format).
    """

    AT_LEAST = {"tokens": 32, "window": 16, "skip": 0, "damping": 1e-6, "verify_tokens": 32}  # noqa: RUF012

    out: str | None = None
    weights: str | None = None
    texts: list[str] = field(default_factory=lambda: ["python_topics"])
    tokens: int = 4096
    window: int = 256
    skip: int | None = None
    damping: float = 0.01
    act_order: bool = False
    inputs: LayerInputs = LayerInputs.rounded
    calibrated: dict[str, str] | None = None
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
        if self.calibrated is not None and not self.calibrated:
            raise ConfigError("quantize.calibrated is empty.", "Leave it unset to calibrate all.")
        unknown = next((site for site in self.calibrated or {} if site not in SITES), None)
        if unknown is not None:
            raise ConfigError(f"quantize.calibrated has no site {unknown!r}.", did_you_mean(unknown, SITES))
        if not self.texts:
            raise ConfigError("quantize.texts is empty.", "List a text to calibrate on.")
        if self.out and self.weights:
            raise ConfigError(
                "quantize.out and quantize.weights are both set.",
                "task=quantize writes a folder to quantize.out; quantize.weights is for the tasks that use one.",
            )
