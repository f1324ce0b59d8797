# SPDX-License-Identifier: Apache-2.0
"""The tokenizer that a GGUF file holds: byte-level BPE, or SentencePiece's BPE with scores."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers
from tokenizers import Tokenizer as FastTokenizer

from ..common.errors import ConfigError
from .gguf_file import read_gguf
from .pre_tokenizer_splits import SPLITS
from .tokenizer import Tokenizer

# llama.cpp's types of tokens. Control tokens and those that a user defined are matched before the text is split.
_NORMAL, _UNKNOWN, _CONTROL, _USER = 1, 2, 3, 4
_SPACE = "▁"


def gguf_tokenizer(path: Path | str) -> Tokenizer:
    """The tokenizer stored in a GGUF file.

    How byte-level BPE splits text before merging is not stored but named (`tokenizer.ggml.pre`), and a wrong split
    gives plausible wrong ids: an unknown name raises ConfigError, like a missing or inconsistent vocabulary.
    """
    metadata = read_gguf(path).metadata
    kind, pre = metadata.get("tokenizer.ggml.model"), metadata.get("tokenizer.ggml.pre")
    if kind == "llama":
        return _sentencepiece(path, metadata)
    if kind != "gpt2" or not isinstance(pre, str) or pre not in SPLITS:
        given = f"{str(kind)[:40]!r} with {str(pre)[:40]!r}"
        raise ConfigError(
            f"{path}: tokenizer {given} is not supported.",
            f"Supported: 'llama', and 'gpt2' with {', '.join(SPLITS)}; or the model's Hugging Face folder.",
        )
    tokens, types = _vocabulary(path, metadata)
    merges = [merge.partition(" ")[::2] for merge in _texts(path, metadata, "tokenizer.ggml.merges")]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    if not all({*pair, "".join(pair)} <= vocabulary.keys() for pair in merges):
        raise ConfigError(f"{path}: its vocabulary is corrupt (it merges tokens that it does not contain).")
    split = SPLITS[pre]
    tokenizer = FastTokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=split.whole))
    steps: list[Any] = [pre_tokenizers.Split(Regex(each), behavior="isolated") for each in split.expressions]
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [*steps, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _add(tokenizer, tokens, types)
    return Tokenizer(tokenizer, f"{Path(path).name} ({pre})", **_begin(metadata, len(tokens), split.begins))


def _sentencepiece(path: Path | str, metadata: dict[str, Any]) -> Tokenizer:
    """BPE by scores: of all neighbours whose union is a token, those with the best score merge first."""
    stored, types = _vocabulary(path, metadata)
    # llama.cpp's converter writes runs of spaces that a user defined as they are. In the tokenizer.json of such models
    # they merge like others, but first.
    runs = {token.replace(" ", _SPACE) for token in stored if set(token) == {" "}}
    tokens = [token.replace(" ", _SPACE) if set(token) == {" "} else token for token in stored]
    types = [_NORMAL if token in runs else kind for token, kind in zip(tokens, types, strict=True)]
    scores = metadata.get("tokenizer.ggml.scores")
    if not isinstance(scores, list) or len(scores) != len(tokens):
        raise ConfigError(f"{path}: tokenizer.ggml.scores is missing or not as long as its vocabulary.")
    vocabulary = {token: number for number, token in enumerate(tokens)}
    numbers = all(isinstance(score, (int, float)) for score in scores)
    if len(vocabulary) != len(tokens) or not numbers:
        raise ConfigError(f"{path}: its vocabulary is corrupt (repeated tokens, or a score that is not a number).")
    unknown = next((token for token, kind in zip(tokens, types, strict=True) if kind == _UNKNOWN), None)
    if unknown is None:
        number = metadata.get("tokenizer.ggml.unknown_token_id")
        unknown = tokens[number] if isinstance(number, int) and 0 <= number < len(tokens) else None
    normal = {token for token, kind in zip(tokens, types, strict=True) if kind in (_NORMAL, _USER)}
    merges = [
        (token[:at], token[at:])
        for token in sorted(normal, key=lambda own: (own not in runs, -scores[vocabulary[own]], vocabulary[own]))
        for at in range(len(token) - 1, 0, -1)
        if token[:at] in normal and token[at:] in normal
    ]
    tokenizer = FastTokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    )
    spaces: list[Any] = [normalizers.Replace(" ", _SPACE)]
    steps: list[Any] = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if metadata.get("tokenizer.ggml.add_space_prefix", True):
        spaces.insert(0, normalizers.Prepend(_SPACE))
        steps.append(decoders.Strip(" ", 1, 0))
    tokenizer.normalizer = normalizers.Sequence(spaces)
    tokenizer.decoder = decoders.Sequence(steps)
    _add(tokenizer, tokens, types)
    return Tokenizer(tokenizer, f"{Path(path).name} (SentencePiece)", **_begin(metadata, len(tokens), True))


def _begin(metadata: dict[str, Any], count: int, default: bool) -> dict[str, Any]:
    """BOS and whether texts begin with it, as the file says; else SentencePiece's texts do (as in llama.cpp). And EOS.

    None for an id that the vocabulary does not have.
    """

    def known(key: str) -> int | None:
        number = metadata.get(key)
        return number if isinstance(number, int) and not isinstance(number, bool) and 0 <= number < count else None

    return {
        "bos": known("tokenizer.ggml.bos_token_id"),
        "begins": bool(metadata.get("tokenizer.ggml.add_bos_token", default)),
        "eos": known("tokenizer.ggml.eos_token_id"),
    }


def _add(tokenizer: FastTokenizer, tokens: list[str], types: list[int]) -> None:
    added = [token for token, kind in zip(tokens, types, strict=True) if kind in (_CONTROL, _USER) and token]
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in added])


def _vocabulary(path: Path | str, metadata: dict[str, Any]) -> tuple[list[str], list[int]]:
    """The tokens and llama.cpp's type of each."""
    tokens = _texts(path, metadata, "tokenizer.ggml.tokens")
    types = metadata.get("tokenizer.ggml.token_type", [_NORMAL] * len(tokens))
    if not isinstance(types, list) or len(types) != len(tokens) or len(set(tokens)) != len(tokens):
        raise ConfigError(f"{path}: its vocabulary is corrupt (repeated tokens, or types that do not match).")
    return tokens, types


def _texts(path: Path | str, metadata: dict[str, Any], key: str) -> list[str]:
    texts = metadata.get(key)
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ConfigError(f"{path}: {key} is missing or not a list of strings.")
    return texts
