# SPDX-License-Identifier: Apache-2.0
"""The constants of the performance model that measured rows can fit: their usual sizes and bounds, and which are."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Free:
    """A constant that can be fitted: from which measurements, its usual size (in its own unit) and its bounds."""

    phase: str
    usual: float
    lower: float = 0.0
    upper: float = math.inf


# In order of priority: where rows cannot tell two constants apart, the first is fitted and the other kept.
FREE: dict[str, Free] = {
    "token_overhead_ms": Free("decode", 5.0),
    "collective_chip_us": Free("decode", 3.0),
    "layer_overhead_us": Free("decode", 100.0),
    "reader_cycles_per_tile": Free("decode", 16.0),
    "user_overhead_us": Free("decode", 200.0),
    "sdpa_decode_us_per_64k": Free("decode", 250.0),
    "group_overhead_ms": Free("decode", 0.5),
    "layer_overhead_2d_us": Free("decode", 500.0),
    "dram_efficiency": Free("decode", 0.9, 0.05, 1.0),
    "topk_16k_ms": Free("decode", 3.0),
    "topk_32k_ms": Free("decode", 3.0),
    "topk_64k_ms": Free("decode", 20.0),
    "topk_wide_us": Free("decode", 0.5),
    "host_sampling_ms": Free("decode", 5.0),
    "host_chip_ms": Free("decode", 3.0),
    "device_argmax_ms": Free("decode", 1.0),
    "server_overhead_ms": Free("decode", 2.0),
    "server_chip_ms": Free("decode", 0.5),
    "server_attention_us_per_64k": Free("decode", 200.0),
    "prefill_layer_overhead_us": Free("prefill", 1000.0),
    "softmax_elements_per_cycle": Free("prefill", 1.5, 0.01),
    "matmul_half_rows": Free("prefill", 150.0),
    "prefill_user_overhead_ms": Free("prefill", 0.5),
    "prefill_chip_overhead_us": Free("prefill", 70.0),
    "matmul_efficiency": Free("prefill", 0.5, 0.05, 1.0),
    "dram_efficiency_interleaved": Free("prefill", 0.66, 0.05, 1.0),
    "prefill_traced_layer_us": Free("prefill", 50.0),
    "prefill_traced_chip_us": Free("prefill", 50.0),
    "prefill_batched_factor": Free("prefill", 1.2, 0.5, 5.0),
    "prefill_batched_chip": Free("prefill", 0.05),
}
# Fitted unless others are asked for: what silicon alone decides comes from microbenchmarks.
DEFAULT_CONSTANTS = (
    "token_overhead_ms",
    "layer_overhead_us",
    "reader_cycles_per_tile",
    "user_overhead_us",
    "sdpa_decode_us_per_64k",
    "group_overhead_ms",
    "layer_overhead_2d_us",
    "prefill_layer_overhead_us",
    "softmax_elements_per_cycle",
    "matmul_half_rows",
    "prefill_user_overhead_ms",
    "prefill_chip_overhead_us",
    "topk_16k_ms",
    "topk_32k_ms",
    "topk_64k_ms",
    "topk_wide_us",
    "host_sampling_ms",
    "host_chip_ms",
    "server_overhead_ms",
    "server_attention_us_per_64k",
    "collective_chip_us",
    "prefill_traced_layer_us",
    "prefill_traced_chip_us",
    "prefill_batched_factor",
    "prefill_batched_chip",
)
