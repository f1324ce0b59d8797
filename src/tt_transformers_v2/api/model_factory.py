# SPDX-License-Identifier: Apache-2.0
"""From a specification, or from a model's files, to a model that costs nothing until it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
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

    from ..models.tokenizer import Tokenizer


@dataclass
class Model:
    """A specification on a hardware configuration; weights are read layer by layer, when it runs.

    `tokenizer` is that of the model's files, None where there are none or they have none.
    """

    spec: ModelSpec
    hw_config: DeviceConfig
    weights: WeightSource
    tokenizer: Tokenizer | None = None

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
        _check_one("from_spec", device, hw_config)
        hardware = _hardware(spec, device, hw_mode, hw_config)
        return Model(spec, hardware, weights if weights is not None else SyntheticWeights(spec, seed))

    @staticmethod
    def from_pretrained(
        path: str | Path,
        device: str | DeviceType | None = None,
        hw_mode: str | PrecisionMode = PrecisionMode.PERFORMANCE,
        hw_config: DeviceConfig | None = None,
    ) -> Model:
        """As `from_spec`, of a model's own files: its shapes, weights and tokenizer.

        `path` is a Hugging Face folder with safetensors, a folder of the hub's cache (models--org--name), a .gguf file
        or a folder that holds one. Every tensor's presence and shape is checked; the weights are read when the model
        runs. Raises ConfigError for files that are missing, broken or of a model that cannot be computed, and when
        neither or both of device and hw_config are given.
        """
        from ..models.open_model import open_weights

        _check_one("from_pretrained", device, hw_config)
        weights, tokenizer = open_weights(None, path=str(path))
        return Model(weights.spec, _hardware(weights.spec, device, hw_mode, hw_config), weights, tokenizer)


def _check_one(method: str, device: object, hw_config: object) -> None:
    if (device is None) == (hw_config is None):
        raise ConfigError(f"ModelFactory.{method} takes either a device or an hw_config.", 'For example device="N150".')


def _hardware(
    spec: ModelSpec, device: str | DeviceType | None, mode: str | PrecisionMode, hw_config: DeviceConfig | None
) -> DeviceConfig:
    if hw_config is not None:
        return hw_config
    assert device is not None  # _check_one
    return AutoHardwareConfig.from_device(device, mode=mode, model_spec=spec)
