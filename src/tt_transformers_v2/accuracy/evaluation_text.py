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

from ..common.errors import ConfigError, did_you_mean
from ..config.experiment_schema import Part
from ..models.tokenizer import Tokenizer

if TYPE_CHECKING:
    from torch import Tensor

MAX_TEXT_BYTES = 64 << 20
# English has about four characters a token; twenty leaves room for any tokenizer without encoding a whole book.
CHARACTERS_PER_TOKEN = 20
# Characters taken of the standard library's modules, which hold many times as much.
_MOST_OF_LIBRARY = 2_000_000


class TextTooShort(ConfigError):
    """A text has fewer tokens than are asked for."""


@dataclass(frozen=True)
class EvaluationTokens:
    """`windows` are int64 tensors [tokens], of one length but perhaps the last of a text; `name` says where from.

    `meaningful` is False for random ids: agreement can be measured on them, perplexity cannot. `texts` names the text
    of each window as the user does; empty where there is one text only.
    """

    windows: list[Tensor]
    name: str
    meaningful: bool = True
    texts: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Tokens in all windows together."""
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


def named_text(name: str, setting: str = "workload.texts") -> tuple[str, str]:
    """A text and what to call it: one of NAMED, or a UTF-8 file. Raises ConfigError for an unknown name or bad file."""
    if name in NAMED:
        return NAMED[name]()
    if not Path(name).suffix and not Path(name).exists():
        raise ConfigError(f"{setting}: no text or file is named {name!r}.", did_you_mean(name, NAMED))
    return read_text(name, setting=setting)


def read_text(path: str, *, setting: str = "workload.text_file") -> tuple[str, str]:
    """A UTF-8 file's text and name. Raises ConfigError when there is no such file, or it is not text or over 64 MiB."""
    file = Path(path)
    try:
        if file.stat().st_size > MAX_TEXT_BYTES:
            raise ConfigError(f"{setting}: {path} is larger than {MAX_TEXT_BYTES >> 20} MiB.", "Shorten it first.")
        return file.read_text(encoding="utf-8"), file.name
    except UnicodeDecodeError:
        raise ConfigError(f"{setting}: {path} is not UTF-8 text.") from None
    except OSError as error:
        raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}.") from None


def text_windows(
    tokenizer: Tokenizer,
    text: str,
    name: str,
    tokens: int,
    window: int,
    skip: int = 0,
    part: Part = Part.all,
    bos: bool | None = None,
) -> EvaluationTokens:
    """`tokens` tokens of `text` after its first `skip`, in windows of `window`. A last window of one token is dropped.

    Each window begins with BOS where `bos` says so, or is None and the tokenizer does; it is one of the window's
    tokens. Of `part` even or odd, every second window counts, so that the two share no token. Raises ConfigError when
    the text is too short, and for a BOS that the tokenizer does not name.
    """
    import torch

    begin = torch.tensor(_begin(tokenizer, bos), dtype=torch.int64)
    every, first = (1, 0) if part is Part.all else (2, 0 if part is Part.even else 1)
    full, rest = divmod(tokens, window)
    rest = rest if rest > len(begin) else 0  # BOS alone predicts nothing
    last, own = full if rest else full - 1, window - len(begin)
    needed = skip + max((every * last + first) * own + (rest - len(begin) if rest else own), 0)
    ids = _ids(tokenizer, text, needed)
    pieces = [torch.cat([begin, piece]) for piece in torch.tensor(ids[skip:]).split(own)[first::every]]
    if len(ids) < needed:
        raise _too_short(name, sum(map(len, pieces)), tokens, skip, part)
    named = name + _which(skip, part) + (", BOS before each window" if len(begin) else "")
    return EvaluationTokens(_of_two_tokens(pieces), named)


def _begin(tokenizer: Tokenizer, asked: bool | None) -> list[int]:
    """What each window begins with."""
    if asked and tokenizer.bos is None:
        raise ConfigError("workload.bos=true: this model's tokenizer names no BOS.", "Leave workload.bos unset.")
    wanted = tokenizer.begins if asked is None else asked
    return [tokenizer.bos] if wanted and tokenizer.bos is not None else []


def windows_of_texts(
    tokenizer: Tokenizer,
    names: Sequence[str],
    tokens: int,
    window: int,
    skip: int = 0,
    part: Part = Part.all,
    bos: bool | None = None,
    setting: str = "workload.texts",
) -> EvaluationTokens:
    """`tokens` tokens of each named text or file. Raises ConfigError as `named_text` and `text_windows` do."""
    _check_names(names, setting)
    found = [text_windows(tokenizer, *named_text(name, setting), tokens, window, skip, part, bos) for name in names]
    return _together(names, found)


def disjoint_windows(
    tokenizer: Tokenizer,
    names: Sequence[str],
    counts: tuple[int, int],
    window: int,
    skip: int = 0,
    bos: bool | None = None,
    setting: str = "workload.texts",
) -> tuple[EvaluationTokens, EvaluationTokens]:
    """Two sets of whole windows that share no token, `counts` of each named text or file: one to choose a configuration
    on, one to verify it on. Their windows take turns in every text, so that both see the same kinds of passages.

    Raises ConfigError as `named_text` and `text_windows` do.
    """
    _check_names(names, setting)
    total = sum(counts)
    turns = [(i + 1) * counts[0] // total > i * counts[0] // total for i in range(total)]
    parts: tuple[list[EvaluationTokens], list[EvaluationTokens]] = ([], [])
    for name in names:
        found = text_windows(tokenizer, *named_text(name, setting), total * window, window, skip, bos=bos)
        for part, wanted in zip(parts, (True, False), strict=True):
            own = [one for one, turn in zip(found.windows, turns, strict=True) if turn is wanted]
            part.append(EvaluationTokens(own, found.name))
    return _together(names, parts[0]), _together(names, parts[1])


def _check_names(names: Sequence[str], setting: str) -> None:
    if not names:
        raise ConfigError(f"{setting} is empty.", f"List some of {', '.join(NAMED)}, or files.")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ConfigError(f"{setting} lists {twice} twice.", "List each text once.")


def _together(names: Sequence[str], found: Sequence[EvaluationTokens]) -> EvaluationTokens:
    if len(found) == 1:
        return found[0]
    return EvaluationTokens(
        [own for each in found for own in each.windows],
        "; ".join(each.name for each in found),
        texts=[name for name, each in zip(names, found, strict=True) for _ in each.windows],
    )


def _ids(tokenizer: Tokenizer, text: str, needed: int) -> list[int]:
    """The first `needed` ids of `text`, or all where it has fewer."""
    ids = tokenizer.encode(text[: needed * CHARACTERS_PER_TOKEN])[:needed]
    return ids if len(ids) == needed else tokenizer.encode(text)[:needed]


def _too_short(name: str, there: int, tokens: int, skip: int, part: Part) -> TextTooShort:
    instead = f"Set workload.tokens={there} or use" if there > 1 else "Use"
    larger = " or evaluate more of it" if _which(skip, part) else ""
    return TextTooShort(
        f"the text ({name}{_which(skip, part)}) has {there} tokens; workload.tokens asks for {tokens}.",
        f"{instead} a longer text{larger}.",
    )


def _which(skip: int, part: Part) -> str:
    """What is evaluated of a text, where that is not all of it from its beginning."""
    return ("" if part is Part.all else f", {part} windows") + (f" after {skip} tokens" if skip else "")


def random_windows(vocab_size: int, tokens: int, window: int, seed: int, why: str = "") -> EvaluationTokens:
    """Token ids drawn evenly, for models that come without a tokenizer; `why` they do is said in the name."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(vocab_size, (tokens,), generator=generator)
    name = f"random token ids (seed {seed})" + (f", as {why}" if why else "")
    return EvaluationTokens(_of_two_tokens(ids.split(window)), name, meaningful=False)


def _of_two_tokens(pieces: Sequence[Tensor]) -> list[Tensor]:
    """Those that have a next token to predict."""
    kept = [piece for piece in pieces if len(piece) > 1]
    if not kept:
        raise ConfigError("accuracy needs at least 2 tokens.", "Set workload.tokens to 2 or more.")
    return kept
