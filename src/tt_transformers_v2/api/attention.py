# SPDX-License-Identifier: Apache-2.0
"""The seed design's attention block: emulated here, or on an open ttnn device."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..config.auto_config import AutoHardwareConfig
from ..config.device_presets import DevicePresets
from ..config.groups import device_types
from ..hardware.schema import DeviceConfig
from ..models.decoder import LayerWeights, attention_block
from ..models.spec import ModelSpec
from ..models.weights import SyntheticWeights, WeightSource

if TYPE_CHECKING:
    from torch import Tensor

    from ..backends.emulated.emulated_ops import EmulatedOps
    from ..backends.ttnn.mesh_attention import AttentionOnMesh


class MultiHeadAttention:
    """Causal multi-head attention in the arithmetic of `hw_config`: on the open device given, else emulated here.

    Args:
        hidden_dim: width of the input, a multiple of num_heads.
        num_heads: heads; as many KV heads.
        device: a device name ("N150") or an open ttnn mesh device, from which the performance preset is taken when
            `hw_config` is not given. An open device must be the system that hw_config describes.
        hw_config: the hardware configuration to use.
        weights: a one-layer weight source; synthetic weights (seed 0) otherwise.

    Weights are made at the first call. Raises ConfigError when neither device nor hw_config is given.
    """

    def __init__(
        self,
        hidden_dim: int,
        num_heads: int,
        device: Any | None = None,
        hw_config: DeviceConfig | None = None,
        weights: WeightSource | None = None,
    ) -> None:
        if hw_config is None:
            if device is None:
                raise ConfigError("MultiHeadAttention needs a device or an hw_config.", 'For example device="N150".')
            hw_config = AutoHardwareConfig.from_device(detect_device_name(device))
        self.hidden_dim = hidden_dim
        self.num_heads = num_heads
        self.hw_config = hw_config
        self.spec = ModelSpec.uniform(32, hidden_dim, 1, num_heads, hidden_dim, name="MultiHeadAttention")
        self.weights: WeightSource = weights if weights is not None else SyntheticWeights(self.spec, seed=0)
        self.recorder: Any = None  # on an open device, what runs the ops instead of backends.ttnn.recording.autofit
        self._open = None if device is None or isinstance(device, str) else device
        self._ops: EmulatedOps | None = None
        self._on_mesh: AttentionOnMesh | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Attention over x, float32 [batch, tokens, hidden_dim]; returns the same shape."""
        import torch

        from ..backends.emulated.emulated_ops import EmulatedOps
        from ..models.rope import rope_tables

        if x.ndim != 3 or x.shape[-1] != self.hidden_dim:
            raise ConfigError(f"x must be [batch, tokens, {self.hidden_dim}], not {list(x.shape)}.")
        if self._open is not None:
            return self._on_device(x)
        if self._ops is None:
            self._ops = EmulatedOps(self.hw_config)
        tables = rope_tables(self.spec, torch.arange(x.shape[1]))
        return attention_block(self._ops, self.spec, LayerWeights(self.weights, 0), self._ops.rounded(x), tables)

    __call__ = forward

    def _on_device(self, x: Tensor) -> Tensor:
        if self._on_mesh is None:
            from ..backends.ttnn.mesh_attention import AttentionOnMesh

            self._on_mesh = AttentionOnMesh(self._open, self.hw_config, self.weights, self.recorder)
        return self._on_mesh(x)


def detect_device_name(device: Any) -> str:
    """The preset for a device name, or for an open ttnn device by its architecture and number of chips."""
    if isinstance(device, str):
        return device
    try:
        arch, chips = str(device.arch()).split(".")[-1].lower(), int(device.get_num_devices())
        banks = int(device.dram_grid_size().x)
    except (AttributeError, TypeError, ValueError):
        raise ConfigError(
            f"cannot tell which device {device!r} is.", 'Pass its name, for example device="N150".'
        ) from None
    for kind in device_types():
        system = DevicePresets.get_config(kind).spec
        if (system.chip.arch.value, system.chips, system.chip.dram_banks) == (arch, chips, banks):
            return kind
    raise ConfigError(f"no preset for {chips} {arch} chips with {banks} DRAM banks.", "Pass hw_config instead.")
