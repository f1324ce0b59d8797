# SPDX-License-Identifier: Apache-2.0
"""Computed adjustments: what a preset asks for that this model and workload cannot have, mended and reported.

Nothing the user typed is changed here; `checks` refuses it instead.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from ..hardware.enums import Placement
from ..hardware.schema import DeviceConfig
from ..perf.footprint import DecoderShape
from ..planning.split import head_split
from .model_rules import RuleEffect

# ttnn 0.81.1 refuses another place of the cache ("Input tensor 1 buffer type must be DRAM"), paged or not.
L1_CACHE_UNREAD = "ttnn's decode attention reads the KV cache from DRAM only"


def fit_to_model(config: DeviceConfig, model: DecoderShape, *, typed: Iterable[str] = ()) -> list[RuleEffect]:
    """Changes `config` where a preset cannot hold for `model`, and returns what it changed and why."""
    asked = set(typed)
    effects = []
    if not any(path.startswith("parallelism.") for path in asked):
        effects += _split_over_heads(config, model)
    if "memory.kv_cache_placement" not in asked:
        effects += _kv_cache_in_dram(config)
    return effects


def _split_over_heads(config: DeviceConfig, model: DecoderShape) -> list[RuleEffect]:
    """The widest tensor parallelism that divides the model's heads; the other chips become data-parallel groups."""
    wanted = config.parallelism.tensor_parallel_size
    if model.num_heads % head_split(config) == 0 and model.num_kv_heads % head_split(config) == 0:
        return []
    size = math.gcd(wanted, model.num_heads, model.num_kv_heads)
    why = f"{model.num_heads} heads and {model.num_kv_heads} KV heads do not divide over {head_split(config)} chips"
    config.parallelism.tensor_parallel_size = size
    config.parallelism.data_parallel_size = wanted // size
    return [
        RuleEffect("tensor-parallel-divides-heads", "parallelism.tensor_parallel_size", size, wanted, why=why),
        RuleEffect("tensor-parallel-divides-heads", "parallelism.data_parallel_size", wanted // size, 1, why=why),
    ]


def _kv_cache_in_dram(config: DeviceConfig) -> list[RuleEffect]:
    if config.memory.kv_cache_placement is not Placement.L1:
        return []
    config.memory.kv_cache_placement = Placement.DRAM
    return [RuleEffect("kv-cache-in-dram", "memory.kv_cache_placement", "DRAM", "L1", why=L1_CACHE_UNREAD)]
