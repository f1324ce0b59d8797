# SPDX-License-Identifier: Apache-2.0
"""From a specification to a model that costs nothing until it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..common.errors import ConfigError
from ..config.auto_config import AutoHardwareConfig
from ..hardware.enums import DeviceType, PrecisionMode
from ..hardware.schema import DeviceConfig
from ..models.decoder import forward
from ..models.spec import ModelSpec
from ..models.weights import SyntheticWeights, WeightSource

if TYPE_CHECKING:
    from torch import Tensor


@dataclass
class Model:
    """A specification on a hardware configuration; weights are read layer by layer, when it runs."""

    spec: ModelSpec
    hw_config: DeviceConfig
    weights: WeightSource

    def forward(self, tokens: Tensor, backend: str = "emulated") -> Tensor:
        """Logits, float32 [batch, tokens, vocab], for int64 `tokens` [batch, tokens]. Raises ConfigError."""
        from ..backends import open_backend

        if tokens.ndim != 2:
            raise ConfigError(f"tokens must be [batch, tokens], not {list(tokens.shape)}.")
        return forward(open_backend(backend, self.hw_config), self.weights, tokens)

    __call__ = forward


class ModelFactory:
    """The seed design's entry point."""

    @staticmethod
    def from_spec(
        spec: ModelSpec,
        device: str | DeviceType | None = None,
        hw_mode: str | PrecisionMode = PrecisionMode.PERFORMANCE,
        hw_config: DeviceConfig | None = None,
        weights: WeightSource | None = None,
        seed: int = 0,
    ) -> Model:
        """A model for `device` in `hw_mode`, model rules applied, or on a ready `hw_config`, taken as it is.

        `weights` default to synthetic ones of `seed`. Raises ConfigError when neither or both of device and hw_config
        are given.
        """
        if (device is None) == (hw_config is None):
            raise ConfigError(
                "ModelFactory.from_spec takes either a device or an hw_config.", 'For example device="N150".'
            )
        if hw_config is None:
            assert device is not None
            hw_config = AutoHardwareConfig.from_device(device, mode=hw_mode, model_spec=spec)
        return Model(spec, hw_config, weights if weights is not None else SyntheticWeights(spec, seed))
