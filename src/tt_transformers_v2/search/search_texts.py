# SPDX-License-Identifier: Apache-2.0
"""Two texts that share no position: one to search on, one to verify on. Their windows take turns in the same texts."""

from __future__ import annotations

import torch
from torch import Tensor

from ..accuracy.evaluation_text import TextTooShort, disjoint_windows
from ..common.errors import ConfigError
from ..config.experiment_schema import Part
from ..config.resolve import Experiment
from ..models.tokenizer import Tokenizer


def search_and_verify(experiment: Experiment, tokenizer: Tokenizer) -> tuple[Tensor, Tensor, str]:
    """Token ids int64 [windows, search.window] to search on and to verify on, and the text's name.

    Raises ConfigError when a text is too short, and for workload.part, which this divides by itself.
    """
    wanted, workload = experiment.config.search, experiment.config.workload
    if workload.part is not Part.all:
        raise ConfigError("a search splits its text into two parts itself.", "Leave workload.part unset.")
    counts = -(-wanted.tokens // wanted.window), -(-wanted.verify_tokens // wanted.window)
    names = workload.texts if workload.text_file is None else [workload.text_file]
    try:
        seen, unseen = disjoint_windows(tokenizer, names, counts, wanted.window, workload.skip, workload.bos)
    except TextTooShort as error:
        needed = sum(counts) * wanted.window
        raise ConfigError(
            f"{error.message.split(';')[0]}; the search needs {needed} (search.tokens, search.verify_tokens).",
            "Lower search.tokens and search.verify_tokens, or use a longer text.",
        ) from None
    return torch.stack(seen.windows), torch.stack(unseen.windows), seen.name
