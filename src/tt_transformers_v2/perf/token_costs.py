# SPDX-License-Identifier: Apache-2.0
"""What a token costs besides the model's layers: choosing it, the host's loop, and a server around that.

Sampling on the host reads the logits of every tensor-parallel chip, and costs in proportion to them. Top-k on the
device pads a chip's logits to a power
of two and is one program up to 65536 of them; wider ones go through one core, in proportion to their number.
"""

from __future__ import annotations

import functools
import math

from ..common.errors import ConfigError
from ..hardware.enums import Sampling, Stack
from .calibration import ArchCalibration

_MOST = 0.5  # share of a decode step from which sampling is named first
HOST_LOGITS = 131072  # logits that host_sampling_ms and host_chip_ms are given for
WIDEST_TOPK = 65536  # logits per chip that one program's top-k takes (PR #50597)


def logits_per_chip(vocab_size: int, tensor_parallel: int) -> int:
    """The share of the vocabulary whose logits a chip has."""
    return math.ceil(vocab_size / tensor_parallel)


def sampling_path(c: ArchCalibration, chips: int, vocab_size: int) -> Sampling:
    """Where the release samples `vocab_size` logits over `chips` chips.

    tt_transformers (tt/model.py) samples on the device where vocab_size // chips is at most 64 * 1024, counting a
    single chip as two, and on the host otherwise.
    """
    if c.sampling_widest is not None and vocab_size // max(chips, 2) > c.sampling_widest:
        return Sampling.host
    return c.sampling


def token_us(c: ArchCalibration, *, users: int, groups: int, chips: int, vocab_size: int) -> float:
    """Microseconds of a decode step beside its layers, for `users` of each of `groups` data-parallel groups.

    chips: those of a group, over which the `vocab_size` logits are split. Raises ConfigError where the release cannot
    sample so (see unable_to_sample).
    """
    host = c.token_overhead_ms + c.user_overhead_us / 1e3 * (users - 1) + c.group_overhead_ms * (groups - 1)
    return (host + sampling_ms(c, chips, vocab_size) + server_ms(c, chips)) * 1e3


def sampling_ms(c: ArchCalibration, chips: int, vocab_size: int) -> float:
    """Milliseconds of choosing the next token in the way that the constants name."""
    if reason := unable_to_sample(c, chips, vocab_size):
        raise ConfigError(reason)
    path = sampling_path(c, chips, vocab_size)
    if path is Sampling.host:
        # A server reads logits that the chips have gathered.
        further = (c.host_chip_ms or 0.0) * (chips - 1) if c.stack is not Stack.vllm else 0.0
        return ((c.host_sampling_ms or 0.0) + further) * vocab_size / HOST_LOGITS
    if path is Sampling.device_argmax:
        return c.device_argmax_ms or 0.0
    return _topk_ms(c, logits_per_chip(vocab_size, chips))


def server_ms(c: ArchCalibration, chips: int) -> float:
    """Milliseconds that a vLLM server adds to a decode step; 0 without one."""
    if c.stack is not Stack.vllm:
        return 0.0
    return (c.server_overhead_ms or 0.0) + (c.server_chip_ms or 0.0) * (chips - 1)


def unable_to_sample(c: ArchCalibration, chips: int, vocab_size: int, *, two_d: bool = False) -> str:
    """Why the release cannot sample in the way that its constants name, in words for a user; "" where it can."""
    path = sampling_path(c, chips, vocab_size)
    if path is Sampling.device_argmax and c.device_argmax_ms is None:
        return "the calibration has no cost of argmax on the device: use runtime.sampling=host or device."
    width = logits_per_chip(vocab_size, chips)
    if path is Sampling.device and c.topk_wide_us is None and (width > WIDEST_TOPK or two_d):
        return (
            f"sampling on the device handles at most {WIDEST_TOPK} logits per chip of a 1-D mesh, not {width}: "
            "use runtime.sampling=host, or more tensor-parallel chips."
        )
    return ""


def _topk_ms(c: ArchCalibration, width: int) -> float:
    if width > WIDEST_TOPK:
        assert c.topk_wide_us is not None, "unable_to_sample"
        return c.topk_wide_us * width / 1e3
    if width > WIDEST_TOPK // 2:
        return c.topk_64k_ms
    return c.topk_32k_ms if width > WIDEST_TOPK // 4 or c.topk_16k_ms is None else c.topk_16k_ms


def sampling_notes(c: ArchCalibration, chips: int, vocab_size: int, share: float) -> tuple[str, ...]:
    """What to change first where choosing the next token takes more than half of a decode step, `share` of it with the
    host, and another way is faster: no format gains as much."""
    ways = _faster_ways(c, chips, vocab_size) if share > _MOST else ""
    return (f"{share:.0%} of a token is sampling on the device; faster: {ways}",) if ways else ()


@functools.lru_cache(maxsize=1_000)
def _faster_ways(c: ArchCalibration, chips: int, vocab_size: int) -> str:
    """What to type for the ways that are faster than the full sampler of the device; "" where there are none."""
    if sampling_path(c, chips, vocab_size) is not Sampling.device:
        return ""
    own, found = sampling_ms(c, chips, vocab_size), []
    for way, when in ((Sampling.host, ""), (Sampling.device_argmax, " (greedy)")):
        other = c.replace(sampling=way)
        if not unable_to_sample(other, chips, vocab_size) and sampling_ms(other, chips, vocab_size) < own:
            found.append(f"runtime.sampling={way}{when}")
    return " or ".join(found)
