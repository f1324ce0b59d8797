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
from ..quantize.quantize_text import calibration_tokens, used_tokens
from ..run.calibrated_weights import is_seen, shared_tokens
from .calibrated_options import CalibrationText


def search_and_verify(experiment: Experiment, tokenizer: Tokenizer) -> tuple[Tensor, Tensor, str]:
    """Token ids int64 [windows, search.window] to search on and to verify on, and the text's name.

    Raises ConfigError when a text is too short, and for workload.part, which this divides by itself.
    """
    wanted, workload = experiment.config.search, experiment.config.workload
    if workload.part is not Part.all:
        raise ConfigError("a search splits its text into two parts itself.", "Leave workload.part unset.")
    counts = -(-wanted.tokens // wanted.window), -(-wanted.verify_tokens // wanted.window)
    try:
        names = _names(experiment)
        seen, unseen = disjoint_windows(tokenizer, names, counts, wanted.window, workload.skip, workload.bos)
    except TextTooShort as error:
        needed = sum(counts) * wanted.window
        raise ConfigError(
            f"{error.message.split(';')[0]}; the search needs {needed} (search.tokens, search.verify_tokens).",
            "Lower search.tokens and search.verify_tokens, or use a longer text.",
        ) from None
    return torch.stack(seen.windows), torch.stack(unseen.windows), seen.name


def calibration_text(experiment: Experiment, tokenizer: Tokenizer, seen: Tensor, unseen: Tensor) -> CalibrationText:
    """The text of the `quantize` section, behind what the search uses of the same texts: `seen` and `unseen`.

    Raises ConfigError for a text that is too short, and where it has passages of what the search measures on.
    """
    workload, settings = experiment.config.workload, experiment.config.quantize
    names = _names(experiment)
    used = used_tokens(names, workload.skip + (seen.numel() + unseen.numel()) // len(names))
    tokens, skip = calibration_tokens(settings, tokenizer, workload.bos, used)
    ids = [window.tolist() for window in tokens.windows]
    for what, windows in (("measures", seen), ("verifies", unseen)):
        if is_seen(shared := shared_tokens(ids, list(windows)), windows.numel()):
            raise ConfigError(
                f"{shared} of {windows.numel()} tokens that the search {what} on are in the text to calibrate on, "
                f"{tokens.name}.",
                "Leave quantize.skip unset, or set quantize.texts to other texts.",
            )
    return CalibrationText(tokens, skip)


def _names(experiment: Experiment) -> list[str]:
    workload = experiment.config.workload
    return workload.texts if workload.text_file is None else [workload.text_file]
