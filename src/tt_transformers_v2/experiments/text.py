# SPDX-License-Identifier: Apache-2.0
"""The text that accuracy is measured on."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..hardware.errors import ConfigError
from ..models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

MAX_TEXT_BYTES = 64 << 20
# English has about four characters a token; twenty leaves room for any tokenizer without encoding a whole book.
CHARACTERS_PER_TOKEN = 20


@dataclass(frozen=True)
class EvaluationTokens:
    """`windows` are int64 tensors [tokens], all of one length but perhaps the last; `name` says where they are from.

    `meaningful` is False for random ids: agreement can be measured on them, perplexity cannot.
    """

    windows: list[Tensor]
    name: str
    meaningful: bool = True

    @property
    def count(self) -> int:
        return sum(len(window) for window in self.windows)


def default_text() -> tuple[str, str]:
    """English that every Python carries: its help topics sorted by key, joined by blank lines; and the text's name."""
    from pydoc_data import topics

    version = f"{sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"
    return "\n\n".join(topics.topics[key] for key in sorted(topics.topics)), f"pydoc_data.topics of Python {version}"


def read_text(path: str) -> tuple[str, str]:
    """A UTF-8 file's text and name. Raises ConfigError when there is no such file, or it is no text, or over 64 MiB."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_TEXT_BYTES:
            raise ConfigError(f"workload.text_file={path} is larger than {MAX_TEXT_BYTES >> 20} MiB.", "Cut it first.")
        return file.read_text(encoding="utf-8"), file.name
    except UnicodeDecodeError:
        raise ConfigError(f"workload.text_file={path} is not UTF-8 text.") from None
    except OSError as error:
        raise ConfigError(f"workload.text_file={path} cannot be read: {error.strerror}.") from None


def text_windows(tokenizer: Tokenizer, text: str, name: str, tokens: int, window: int) -> EvaluationTokens:
    """The first `tokens` tokens of `text` in windows of `window`, without BOS. A last window of one token is dropped.

    Raises ConfigError when the text is too short.
    """
    import torch

    ids = tokenizer.encode(text[: tokens * CHARACTERS_PER_TOKEN])[:tokens]
    if len(ids) < tokens:
        ids = tokenizer.encode(text)[:tokens]
    if len(ids) < tokens:
        raise ConfigError(
            f"the text ({name}) has {len(ids)} tokens; workload.tokens asks for {tokens}.",
            f"Set workload.tokens={len(ids)} or give a longer text.",
        )
    return EvaluationTokens(_cut(torch.tensor(ids), window), name)


def random_windows(vocab_size: int, tokens: int, window: int, seed: int) -> EvaluationTokens:
    """Token ids drawn evenly, for models that come without a tokenizer."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (tokens,), generator=generator)
    return EvaluationTokens(_cut(ids, window), f"random token ids (seed {seed})", meaningful=False)


def _cut(ids: Tensor, window: int) -> list[Tensor]:
    pieces = [piece for piece in ids.split(window) if len(piece) > 1]
    if not pieces:
        raise ConfigError("accuracy needs at least 2 tokens.", "Set workload.tokens=2 or more.")
    return pieces
