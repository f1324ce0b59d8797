# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back: from a GGUF file's vocabulary or a Hugging Face tokenizer.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from ..common.errors import ConfigError
from .gguf_weights import read_gguf

# Llama 3's own split: contractions, words with a leading sign, up to three digits, signs, line ends, spaces.
_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SUPPORTED_PRE = ("smollm", "gpt-2", "llama-bpe")
# llama.cpp's token types: control tokens and those a user defined are matched before the text is split.
_ADDED_TYPES = (3, 4)
_LARGEST_JSON = 64 << 20  # bytes; the largest tokenizer.json in use has about 35 MB


class Tokenizer:
    """Text to token ids and back.

    `basis` says where the vocabulary came from; `vocab_size` counts the ids, special ones included.
    """

    def __init__(self, tokenizer: FastTokenizer, basis: str) -> None:
        self._tokenizer = tokenizer
        self.basis = basis
        self._rows: int | None = None

    @property
    def vocab_size(self) -> int:
        """How many ids there are, special ones included."""
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`; nothing is put before or after it, so no BOS. Special tokens' names are read
        as those tokens. Raises ConfigError for an id that the model has no row for (`for_rows`)."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        if self._rows is not None and ids and max(ids) >= self._rows:
            raise ConfigError(
                f"{self.basis}: the text has token {max(ids)}, but the model's embedding has {self._rows} rows.",
                "The tokenizer is another model's, or vocab_size in config.json is wrong.",
            )
        return ids

    def for_rows(self, rows: int) -> Tokenizer:
        """The same, of a model whose embedding has `rows` rows."""
        self._rows = rows
        return self

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens included; bytes that are no whole character become U+FFFD."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)


def gguf_tokenizer(path: Path | str) -> Tokenizer:
    """The byte-level BPE tokenizer stored in a GGUF file.

    How text is split before merging is not stored but named (`tokenizer.ggml.pre`), and a wrong split gives
    plausible wrong ids: an unknown name raises ConfigError, like a missing or inconsistent vocabulary.
    """
    metadata = read_gguf(path).metadata
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind != "gpt2" or pre not in _SUPPORTED_PRE:
        given = f"{str(kind)[:40]!r} with {str(pre)[:40]!r}"
        raise ConfigError(
            f"{path}: tokenizer {given} is not supported; only 'gpt2' with {', '.join(_SUPPORTED_PRE)} is.",
            "Use the model's Hugging Face folder, with its tokenizer.json.",
        )
    tokens = _texts(path, metadata, "tokenizer.ggml.tokens")
    merges = [merge.partition(" ")[::2] for merge in _texts(path, metadata, "tokenizer.ggml.merges")]
    types = metadata.get("tokenizer.ggml.token_type", [1] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ConfigError(f"{path}: its vocabulary is corrupt (repeated tokens, or types that do not match).")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if not all({*pair, "".join(pair)} <= vocabulary.keys() for pair in merges):
        raise ConfigError(f"{path}: its vocabulary is corrupt (it merges tokens that it does not contain).")
    # Llama 3 takes a piece that is a token as it is, even where its merges lead elsewhere.
    whole = pre == "llama-bpe"
    tokenizer = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=whole))
    tokenizer.pre_tokenizer = _pre_tokenizer(pre)
    tokenizer.decoder = decoders.ByteLevel()
    added = [token for token, kind in zip(tokens, types, strict=True) if kind in _ADDED_TYPES and token]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in added])
    return Tokenizer(tokenizer, f"{Path(path).name} ({pre})")


def folder_tokenizer(folder: Path | str) -> Tokenizer:
    """The tokenizer of a Hugging Face folder, from its tokenizer.json.

    Raises ConfigError when that file is missing, too large or no tokenizer.
    """
    path = Path(folder) / "tokenizer.json"
    try:
        size = path.stat().st_size
        if size > _LARGEST_JSON:
            raise ConfigError(f"{path} has {size} bytes; a tokenizer.json may have at most {_LARGEST_JSON}.")
        tokenizer = FastTokenizer.from_str(path.read_text("utf-8"))
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}.") from error
    except Exception as error:  # tokenizers raises bare Exception for whatever it cannot parse
        raise ConfigError(f"{path} is not a tokenizer: {str(error)[:200]}.") from error
    # A file may bring truncation and padding from training; an experiment wants the whole text and no more.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return Tokenizer(tokenizer, str(path))


def _texts(path: Path | str, metadata: dict[str, Any], key: str) -> list[str]:
    texts = metadata.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{path}: {key} is missing or not a list of strings.")
    return texts


def _pre_tokenizer(pre: str) -> pre_tokenizers.PreTokenizer:
    """The split that llama.cpp calls `pre`."""
    if pre == "llama-bpe":
        split = pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated")
        return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "smollm":
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), byte_level])
    return byte_level
