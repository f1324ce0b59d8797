# SPDX-License-Identifier: Apache-2.0
"""What the real ttnn cannot run, or would run wrongly, and does not say or says of another op without a card.

Each reason has one place, so that runs, predictions and the preflight say the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from ..common.errors import ConfigError
from ..common.units import TILE, tiles_text
from ..hardware.enums import Arch, Placement
from ..hardware.schema import DeviceConfig
from ..models.spec import ModelSpec

Shape = tuple[int, int]


class Refusal(NamedTuple):
    """Three sentences: what is wrong, why, and what to do."""

    what: str
    why: str
    fix: str

    @property
    def error(self) -> ConfigError:
        """The same as an error."""
        return ConfigError(f"{self.what} {self.why}", self.fix)


def uneven_heads(head_dim: int) -> Refusal | None:
    """Why heads of `head_dim` elements cannot run; None where they are whole tiles wide.

    Seen with ttnn 0.81.1: nlp_create_qkv_heads makes a head_dim of 48 one of 64, in the logical shape too, and
    rotary_embedding_llama refuses tables of another width.
    """
    if head_dim % TILE == 0:
        return None
    padded = math.ceil(head_dim / TILE) * TILE
    return Refusal(
        f"model.head_dim={head_dim} cannot run on a card: it is not whole tiles of {TILE}.",
        f"ttnn splits such heads into {padded} wide ones, and its rotary embedding then refuses the tables.",
        "Take a model whose head_dim is a multiple of 32; what this one loses can still be emulated (task=accuracy).",
    )


def beyond_ttnn(spec: ModelSpec) -> Refusal | None:
    """Why backend=ttnn cannot compute a model's layers; None where it can.

    Attention with soft caps: ttnn 0.81.1's scaled_dot_product_attention takes no cap, in prefill or decode, and
    computes scores where no other op could reach them.
    """
    if all(kind.attention.cap is None for kind in spec.kinds):
        return None
    return Refusal(
        f"backend=ttnn cannot compute {spec.name}.",
        "Its layers have soft caps of attention, for which ttnn's attention has no argument.",
        "Use backend=emulated; memory and speed are predicted all the same.",
    )


def two_readers(config: DeviceConfig, matrices: Mapping[str, Shape], readers: int, setting: str) -> Refusal | None:
    """Why `readers` cores per DRAM bank cannot run, as `setting` asks; None where they can.

    matrices: (inputs, outputs) in elements of each chip's part, by name. In the words of ttnn 0.81.1: more than one is
    "currently supported only on Blackhole", and a bank's shard width in tiles "must be divisible by workers_per_bank".
    """
    if readers < 2 or not dram_sharded(config):
        return None
    what, fix = f"{setting}={readers} cannot run here.", f"Set {setting}=1."
    chip = config.spec.chip
    if chip.arch is not Arch.blackhole:
        return Refusal(what, "ttnn has more than one reader per DRAM bank on Blackhole only.", fix)
    widths = {name: math.ceil(outputs / TILE / chip.dram_banks) for name, (_, outputs) in matrices.items()}
    uneven = [f"{name} {tiles_text(width)}" for name, width in widths.items() if width % readers]
    if not uneven:
        return None
    return Refusal(
        what,
        f"{readers} readers share a bank's tiles evenly; each of {chip.dram_banks} banks holds {', '.join(uneven)}.",
        fix,
    )


def dram_sharded(config: DeviceConfig) -> bool:
    """Whether decode matmuls read weights that are spread over the DRAM banks by their columns."""
    return config.memory.weights_placement is Placement.DRAM and config.memory.use_width_sharding


def readers_of(programs: Mapping[str, Mapping[str, Any]], group: str, default: int) -> tuple[int, str]:
    """Cores per DRAM bank that an op group's decode matmul has, and the setting that says so."""
    for key in (f"{group}_decode", group):
        if "readers_per_bank" in programs.get(key, {}):
            return int(programs[key]["readers_per_bank"]), f"runtime.programs.{key}.readers_per_bank"
    return default, "runtime.dram_readers_per_bank"
