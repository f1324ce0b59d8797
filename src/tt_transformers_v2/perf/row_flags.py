# SPDX-License-Identifier: Apache-2.0
"""The words in the flag column of measured rows: which figures of such a row are still compared, and what they imply.

A word that is not in COUNTED takes the row out of every fit and every mean: copies, old releases, experiments, other
implementations, figures before a fix.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from ..hardware.enums import Prefill, Sampling, Stack
from ..hardware.op_table import DECODE, PREFILL

# Word -> the phases whose figures are compared all the same.
COUNTED: dict[str, tuple[str, ...]] = {
    "gate_value": (DECODE, PREFILL),  # what CI holds the demo to, set from a run
    "approx": (DECODE,),
    "ttft_per_user_batched_prefill": (DECODE, PREFILL),
    "seq_prefill": (DECODE, PREFILL),
    "device_full_sampler": (DECODE, PREFILL),
    "device_argmax": (DECODE, PREFILL),
    "server_overhead": (DECODE,),  # a server's TTFT has the client's queue in it
    "one_reader_per_bank": (DECODE, PREFILL),
    "first_token": (DECODE, PREFILL),
    "128th_token": (DECODE, PREFILL),
    "galaxy_submesh": (DECODE,),
    "cold_ttft": (DECODE,),
    "prefix_cached_ttft": (DECODE,),
    "ttft_at_concurrency": (DECODE,),
}
# Word -> what the other columns must not contradict.
_IMPLIED: dict[str, tuple[str, object]] = {
    "ttft_per_user_batched_prefill": ("prefill", Prefill.batched),
    "seq_prefill": ("prefill", Prefill.traced),
    "device_full_sampler": ("sampling", Sampling.device),
    "device_argmax": ("sampling", Sampling.device_argmax),
    "degenerate_host_readback": ("sampling", Sampling.host),
    "server_overhead": ("stack", Stack.vllm),
}
_NEARLY = 0.85  # difflib's ratio of a word that is one of ours, misspelt
_TIME_PER_TOKEN = "tpot_"  # tpot_21.8: the same figure in ms, as published


def misspelt(words: Iterable[str]) -> str:
    """What is wrong with a word that is nearly one that has a meaning here; "" where none is."""
    meant = [*COUNTED, *_IMPLIED]
    for word in words:
        near = difflib.get_close_matches(word, meant, n=1, cutoff=_NEARLY)
        if near and word not in meant:
            return f"flag {word!r} would take the row out of every figure. Did you mean {near[0]}?"
    return ""


def counted(words: Iterable[str], phase: str) -> bool:
    """Whether a row with these words has a figure of `phase` that can be compared."""
    return all(phase in COUNTED.get(word, ()) or word.startswith(_TIME_PER_TOKEN) for word in words)


def contradiction(words: Iterable[str], sampling: Sampling | None, prefill: Prefill | None, stack: Stack | None) -> str:
    """What a flag's words say against the row's other columns, or against each other; "" where nothing."""
    words = list(words)
    stated: dict[str, tuple[object, str]] = {}
    for column, own in (("sampling", sampling), ("prefill", prefill), ("stack", stack)):
        if own is not None:
            stated[column] = own, f"{column}={own}"
    for word in words:
        if word in _IMPLIED:
            column, implied = _IMPLIED[word]
            given, by = stated.setdefault(column, (implied, f"flag {word}"))
            if given is not implied:
                return f"flag {word} contradicts {by}."
    return ""
