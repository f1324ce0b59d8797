# SPDX-License-Identifier: Apache-2.0
"""A text in the phases a card computes it in: a prompt in one or several chunks, then tokens from the KV cache.

Every row of every op is independent of the other rows, so tokens whose text is known (teacher forcing) may be decoded
in one block: each still looks at the cache up to itself, and the bits are those of one token at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from ..common.errors import ConfigError
from ..hardware.op_table import DECODE, PREFILL
from .decoder import LayerWeights, Ops, Tap, decoder_layer, no_tap
from .kv_cache import KVCache
from .spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor

    from .rope import RotaryTables


class PhasedOps(Ops, Protocol):
    """Ops that know the phases and can go on from a cache: those of backends on this machine."""

    def at_layer(self, layer: int) -> PhasedOps:
        """The same backend with the settings of one layer, in the same phase."""
        ...

    def in_phase(self, phase: str) -> PhasedOps:
        """The same with the settings of "prefill" or "decode"."""
        ...

    def continuing(self, cache: KVCache) -> PhasedOps:
        """The same with attention that looks at `cache` too, and adds to it."""
        ...


@dataclass(frozen=True)
class Segment:
    """Positions start..stop - 1, computed together in one phase."""

    start: int
    stop: int
    phase: str


def segments(tokens: int, *, prefill: int | None = None, chunk: int | None = None, block: int = 1) -> list[Segment]:
    """How `tokens` positions are computed: `prefill` of them (None: all) in chunks of `chunk` (None: all at once), the
    rest decoded `block` at a time. Raises ConfigError for numbers below 1 and a prompt longer than the text."""
    prompt = tokens if prefill is None else prefill
    if not 1 <= prompt <= tokens:
        raise ConfigError(f"a prompt of {prompt} out of {tokens} tokens is not possible.", f"Use 1 to {tokens}.")
    if block < 1 or (chunk is not None and chunk < 1):
        raise ConfigError(f"tokens are computed at least one at a time, not {min(block, chunk or block)}.")
    return [
        *(
            Segment(start, min(start + (chunk or prompt), prompt), PREFILL)
            for start in range(0, prompt, chunk or prompt)
        ),
        *(Segment(start, min(start + block, tokens), DECODE) for start in range(prompt, tokens, block)),
    ]


def phased_layer(
    ops: PhasedOps,
    spec: ModelSpec,
    weights: LayerWeights,
    x: Tensor,
    tables: RotaryTables,
    parts: Sequence[Segment],
    tap: Tap = no_tap,
) -> Tensor:
    """One layer on x [batch, tokens, hidden] in `parts`; `tap` sees whole outputs, as with decoder_layer."""
    import torch

    from .rope import table_rows

    if len(parts) == 1 and parts[0].phase == PREFILL:
        return decoder_layer(ops.in_phase(PREFILL), spec, weights, x, tables, tap)
    cache = KVCache()
    seen: dict[str, list[Tensor]] = {}
    outputs = []
    for part in parts:
        rows = slice(part.start, part.stop)
        own = ops.in_phase(part.phase).continuing(cache)
        outputs.append(decoder_layer(own, spec, weights, x[:, rows], table_rows(tables, rows), _into(seen)))
    for name, pieces in seen.items():
        tap(name, torch.cat(pieces, dim=1))
    return torch.cat(outputs, dim=1)


def _into(seen: dict[str, list[Tensor]]) -> Tap:
    return lambda name, value: seen.setdefault(name, []).append(value)
