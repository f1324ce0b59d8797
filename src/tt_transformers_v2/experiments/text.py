# SPDX-License-Identifier: Apache-2.0
"""The texts that accuracy is measured on: those every Python carries, and the user's own files."""

from __future__ import annotations

import ast
import sys
import sysconfig
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from ..hardware.errors import ConfigError, did_you_mean
from ..models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

MAX_TEXT_BYTES = 64 << 20
# English has about four characters a token; twenty leaves room for any tokenizer without encoding a whole book.
CHARACTERS_PER_TOKEN = 20
# Characters taken of the standard library's modules, which hold many times as much.
_MOST_OF_LIBRARY = 2_000_000


@dataclass(frozen=True)
class EvaluationTokens:
    """`windows` are int64 tensors [tokens], of one length but perhaps the last of a text; `name` says where from.

    `meaningful` is False for random ids: agreement can be measured on them, perplexity cannot. `texts` names the text
    of each window; empty where there is one text only.
    """

    windows: list[Tensor]
    name: str
    meaningful: bool = True
    texts: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(len(window) for window in self.windows)


def default_text() -> tuple[str, str]:
    """English that every Python carries: its help topics sorted by key, joined by blank lines; and the text's name."""
    from pydoc_data import topics

    return "\n\n".join(topics.topics[key] for key in sorted(topics.topics)), f"pydoc_data.topics of {_python()}"


def _source() -> tuple[str, str]:
    """Program text: the standard library's modules by name."""
    return "\n\n".join(_modules()), f"standard library source of {_python()}"


def _docstrings() -> tuple[str, str]:
    """English about programs: the docstrings of the standard library's modules."""
    found = [text for module in _modules() for text in _docstrings_of(module)]
    return "\n\n".join(found), f"standard library docstrings of {_python()}"


def _python() -> str:
    return f"Python {sys.version_info.major}.{sys.version_info.minor}.{sys.version_info.micro}"


def _modules() -> Iterator[str]:
    left = _MOST_OF_LIBRARY
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text = path.read_text(encoding="utf-8", errors="replace")
        yield text
        left -= len(text)
        if left < 0:
            return


def _docstrings_of(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(module)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield text


NAMED: dict[str, Callable[[], tuple[str, str]]] = {
    "python_topics": default_text,
    "python_docstrings": _docstrings,
    "python_source": _source,
}


def named_text(name: str) -> tuple[str, str]:
    """A text and what to call it: one of NAMED, or a UTF-8 file. Raises ConfigError for an unknown name or bad file."""
    if name in NAMED:
        return NAMED[name]()
    if not Path(name).suffix and not Path(name).exists():
        raise ConfigError(f"there is no text named {name!r}.", did_you_mean(name, NAMED) + " A file's path does too.")
    return read_text(name)


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


def text_windows(
    tokenizer: Tokenizer, text: str, name: str, tokens: int, window: int, skip: int = 0
) -> EvaluationTokens:
    """`tokens` tokens of `text` after its first `skip`, in windows of `window`, without BOS. A last window of one token
    is dropped.

    Raises ConfigError when the text is too short.
    """
    import torch

    wanted = skip + tokens
    ids = tokenizer.encode(text[: wanted * CHARACTERS_PER_TOKEN])[:wanted]
    if len(ids) < wanted:
        ids = tokenizer.encode(text)[:wanted]
    if len(ids) < wanted:
        after = f" after the first {skip}" if skip else ""
        raise ConfigError(
            f"the text ({name}) has {len(ids)} tokens; workload.tokens asks for {tokens}{after}.",
            f"Set workload.tokens={max(len(ids) - skip, 2)} or give a longer text.",
        )
    return EvaluationTokens(_cut(torch.tensor(ids[skip:]), window), name)


def windows_of_texts(
    tokenizer: Tokenizer, names: Sequence[str], tokens: int, window: int, skip: int = 0
) -> EvaluationTokens:
    """`tokens` tokens of each named text or file. Raises ConfigError as `named_text` and `text_windows` do."""
    if not names:
        raise ConfigError("workload.texts is empty.", f"Name some of {', '.join(NAMED)}, or files.")
    found = [text_windows(tokenizer, *named_text(name), tokens, window, skip) for name in names]
    if len(found) == 1:
        return found[0]
    return EvaluationTokens(
        [own for each in found for own in each.windows],
        "; ".join(each.name for each in found),
        texts=[each.name for each in found for _ in each.windows],
    )


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
