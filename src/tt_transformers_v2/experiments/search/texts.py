# SPDX-License-Identifier: Apache-2.0
"""Two texts that share no position: one to search on, one to verify on. Their windows take turns in the same text."""

from __future__ import annotations

import torch
from torch import Tensor

from ...hardware.errors import ConfigError
from ...models.tokenizer import Tokenizer
from ..configuration import Experiment
from ..text import default_text, read_text, text_windows


def search_and_verify(experiment: Experiment, tokenizer: Tokenizer) -> tuple[Tensor, Tensor, str]:
    """Token ids int64 [windows, search.window] to search on and to verify on, and the text's name.

    Raises ConfigError when the text is too short.
    """
    wanted, file = experiment.config.search, experiment.config.workload.text_file
    seen, unseen = -(-wanted.tokens // wanted.window), -(-wanted.verify_tokens // wanted.window)
    text, name = read_text(file) if file else default_text()
    needed = (seen + unseen) * wanted.window
    try:
        windows = text_windows(tokenizer, text, name, needed, wanted.window).windows
    except ConfigError as error:
        raise ConfigError(
            f"{error.message.split(';')[0]}; the search needs {needed} (search.tokens, search.verify_tokens).",
            "Lower search.tokens and search.verify_tokens, or give a longer workload.text_file.",
        ) from None
    turns = [(i + 1) * seen // (seen + unseen) > i * seen // (seen + unseen) for i in range(seen + unseen)]
    return (
        torch.stack([window for window, searched in zip(windows, turns, strict=True) if searched]),
        torch.stack([window for window, searched in zip(windows, turns, strict=True) if not searched]),
        name,
    )
