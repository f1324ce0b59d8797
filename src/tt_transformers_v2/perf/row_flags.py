# SPDX-License-Identifier: Apache-2.0
"""The words in the flag column of measured rows: which figures of such a row are still compared, and what they imply.

A word of LEFT_OUT takes the row out of every fit and every mean: copies, old releases, experiments, other
implementations, figures before a fix. Any other word is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..common.errors import closest
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
# Word -> why no figure of the row is compared.
LEFT_OUT: dict[str, str] = {
    "acc==perf_row": "accuracy and performance mode have the same figures",
    "autoport": "the implementation in models/autoports",
    "before": "measured before a change that the source describes",
    "before_fix": "measured before a fix that the source describes",
    "ci_target": "what CI aims at, not a measurement",
    "copied_3B_row": "a copy of the 3B model's row",
    "copied_Mistral7B_row": "a copy of the Mistral 7B row",
    "dedicated_galaxy_impl": "the implementation of Galaxy alone",
    "degenerate_host_readback": "logits are read back to the host; most rows take 35 to 65 ms a token there",
    "different_workload": "another workload than the columns can say",
    "dp4": "four data-parallel groups beside the split in the columns",
    "dp4_probably": "likely to be four data-parallel groups",
    "dup": "a row that another source gave already",
    "eager_prefill": "prefill without a trace",
    "early_tttv2": "models/common before its release",
    "eval_run_8.8": "of an evaluation run",
    "exp": "an experiment",
    "fabric_regression": "while the fabric was slower",
    "faulty_host": "on a host that was slow",
    "fidelity_ladder": "of a series over fidelities",
    "forge": "compiled by tt-xla, of tt-forge",
    "hybrid_linear_attn": "layers of linear attention, which predictions do not have",
    "moe": "a mixture of experts in another implementation",
    "new_arch": "layers that predictions do not have",
    "old": "an old release",
    "old_release": "an old release",
    "other_client": "another client of the server",
    "other_release": "another release",
    "other_stack": "another stack",
    "range_high": "the upper end of a published range",
    "range_low": "the lower end of a published range",
    "research_impl": "a research implementation",
    "source_imprecise": "the source leaves the configuration open",
    "vllm": "a vLLM server, of a file without the column stack",
    "vlm": "a model of pictures and text",
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
_TIME_PER_TOKEN = "tpot_"  # tpot_21.8: the same figure in ms, as published


def unknown(words: Iterable[str]) -> str:
    """What is wrong with the first word that is not known; "" where all are."""
    known = [*COUNTED, *LEFT_OUT]
    for word in words:
        if word not in known and not word.startswith(_TIME_PER_TOKEN):
            near = closest(word, known)
            return f"flag {word!r} is not known. " + (
                f"Did you mean {near}?" if near else f"Known: {', '.join(known)}."
            )
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
