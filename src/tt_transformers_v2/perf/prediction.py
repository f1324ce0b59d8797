# SPDX-License-Identifier: Apache-2.0
"""One prediction: speed and memory, how far to trust them, and the nearest thing anybody measured."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from ..common.errors import ConfigError
from ..hardware.enums import Stack
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec
from .calibration import Calibration
from .confidence import UNSUPPORTED, Asked, Confidence, ConfidenceRules, confidences, ways_outside
from .footprint import batched_tokens
from .measurements import MeasuredRow
from .memory import MemoryFit, memory_fit
from .nearest import Shapes, nearest
from .roofline import predict_performance
from .speed import Performance
from .token_costs import sampling_path


@dataclass(frozen=True, init=False)
class Prediction:
    """What a configuration will cost, predicted without a card.

    hardware, spec, calibration: what was asked; prompt_length, context in tokens, batch in users per data-parallel
    group. decode, prefill: confidence in tokens/s/user and in TTFT. batched: tokens of the prompts that batched prefill
    computes in one pass, else 0. Ask `speed` for figures: it raises ConfigError
    where the class is unsupported, so that no number is taken for one.
    """

    hardware: DeviceConfig
    spec: ModelSpec
    calibration: Calibration
    prompt_length: int
    batch: int
    context: int
    decode: Confidence
    prefill: Confidence
    performance: Performance | None
    batched: int = 0

    def __init__(
        self,
        hardware: DeviceConfig,
        spec: ModelSpec,
        calibration: Calibration,
        prompt_length: int,
        batch: int,
        context: int,
        decode: Confidence,
        prefill: Confidence,
        performance: Performance | None,
        batched: int = 0,
    ) -> None:
        # As for Performance: a frozen dataclass would set the fields one by one.
        vars(self).update(
            hardware=hardware,
            spec=spec,
            calibration=calibration,
            prompt_length=prompt_length,
            batch=batch,
            context=context,
            decode=decode,
            prefill=prefill,
            performance=performance,
            batched=batched,
        )

    @property
    def supported(self) -> bool:
        """Whether there are figures at all."""
        return self.decode.kind != UNSUPPORTED

    @property
    def speed(self) -> Performance:
        """The predicted figures. Raises ConfigError with the reasons where the class is unsupported."""
        if self.performance is None:
            raise ConfigError("no prediction: " + " ".join(self.decode.reasons))
        return self.performance

    @functools.cached_property
    def memory(self) -> MemoryFit:
        """DRAM per chip."""
        return memory_fit(self.hardware, self.spec, batch=self.batch, context=self.context, batched=self.batched)

    @property
    def points(self) -> str:
        """The file of measured rows, under conf/measurements, that the calibration was fitted to."""
        return confidence_rules(self.calibration).points

    def nearest(self, rows: Sequence[MeasuredRow], mode: str, shapes: Shapes) -> MeasuredRow | None:
        """The one of measured `rows` most like this; `mode` is the precision mode, `shapes` knows the rows' models."""
        return nearest(rows, self._asked, mode, shapes)

    @functools.cached_property
    def assumes(self) -> dict[str, str]:
        """What software it assumes: the release, where tokens are sampled, what drives the model, how prompts run."""
        own, parallel = self.calibration.of(self.hardware.spec.chip.arch), self.hardware.parallelism
        found = {
            "release": self.calibration.release,
            "sampling": str(sampling_path(own, parallel.tensor_parallel_size, self.spec.vocab_size)),
            "stack": str(own.stack),
            "prefill": str(own.prefill),
        }
        return found | ({"max_num_seqs": str(own.max_num_seqs)} if own.stack is Stack.vllm else {})

    @property
    def outside(self) -> frozenset[str]:
        """The ways in which this is outside what the calibration covers, by their names in its `beyond`."""
        return ways_outside(self._asked, confidence_rules(self.calibration))

    @property
    def _asked(self) -> Asked:
        constants = self.calibration.of(self.hardware.spec.chip.arch)
        return Asked(self.hardware, self.spec, constants, self.prompt_length, self.batch, self.context)


def predict(
    hw: DeviceConfig,
    spec: ModelSpec,
    calibration: Calibration,
    *,
    prompt_length: int,
    batch: int = 1,
    context: int | None = None,
    prefill_users: int | None = None,
) -> Prediction:
    """Predicts speed and memory of `batch` users per data-parallel group.

    `prompt_length` and `context` are tokens; `context` defaults to `prompt_length`. Raises ConfigError for sizes below
    one, and for an architecture the calibration has no constants for.
    """
    constants = calibration.of(hw.spec.chip.arch)
    context = prompt_length if context is None else context
    asked = Asked(hw, spec, constants, prompt_length, batch, context)
    decode, prefill = confidences(asked, confidence_rules(calibration))
    speed = None
    if decode.kind != UNSUPPORTED:
        speed = predict_performance(
            hw,
            spec,
            calibration,
            prompt_length=prompt_length,
            batch=batch,
            context=context,
            prefill_users=prefill_users,
        )
    batched = batched_tokens(constants.prefill, prompt_length, batch if prefill_users is None else prefill_users)
    return Prediction(hw, spec, calibration, prompt_length, batch, context, decode, prefill, speed, batched)


def confidence_rules(calibration: Calibration) -> ConfidenceRules:
    """The calibration's confidence section, checked once."""
    found = _RULES.get(id(calibration))
    if found is None or found[0] is not calibration:
        if len(_RULES) > 1000:
            _RULES.clear()
        found = _RULES[id(calibration)] = (calibration, ConfidenceRules.from_dict(calibration.confidence))
    return found[1]


_RULES: dict[int, tuple[Calibration, ConfidenceRules]] = {}
