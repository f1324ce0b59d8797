# SPDX-License-Identifier: Apache-2.0
"""Text to token ids and back, by a Hugging Face tokenizer.json or what models.gguf_tokenizer makes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer as FastTokenizer

from ..common.errors import ConfigError

_LARGEST_JSON = 64 << 20  # bytes; the largest tokenizer.json in use has about 35 MB


class Tokenizer:
    """Text to token ids and back.

    `basis` says where the vocabulary came from; `vocab_size` counts the ids, special ones included. `bos` is the id of
    the token that a text begins with, None where the files name none; `begins` whether the model is used with it.
    `eos` is that of the token a model ends its text with, None where the files name none.
    """

    def __init__(
        self,
        tokenizer: FastTokenizer,
        basis: str,
        bos: int | None = None,
        *,
        begins: bool = False,
        eos: int | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self.basis = basis
        self.bos, self.begins = bos, begins and bos is not None
        self.eos = eos
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

    def to_json(self) -> str:
        """The text of a tokenizer.json that is this tokenizer."""
        return str(self._tokenizer.to_str())

    def decode(self, ids: list[int]) -> str:
        """Text of token ids, special tokens included; bytes that are no whole character become U+FFFD."""
        return self._tokenizer.decode(ids, skip_special_tokens=False)


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
    stated = _stated(Path(folder) / "tokenizer_config.json")
    bos, begins = _bos(tokenizer, stated)
    return Tokenizer(tokenizer, str(path), bos, begins=begins, eos=_named(tokenizer, stated, "eos_token"))


def _named(tokenizer: FastTokenizer, stated: dict[str, Any], key: str) -> int | None:
    """The id of a token that tokenizer_config.json names, as a text or as an object with one; None for none."""
    token = stated.get(key)
    token = token.get("content") if isinstance(token, dict) else token
    return tokenizer.token_to_id(token) if isinstance(token, str) else None


def _bos(tokenizer: FastTokenizer, stated: dict[str, Any]) -> tuple[int | None, bool]:
    """The id of BOS, and whether a text begins with it: as tokenizer_config.json says, else as tokenizer.json's
    post-processor does it."""
    text = tokenizer.encode("a", add_special_tokens=False).ids
    whole = tokenizer.encode("a", add_special_tokens=True).ids
    first = whole[0] if len(whole) > len(text) and whole[1 : 1 + len(text)] == text else None
    named = _named(tokenizer, stated, "bos_token")
    added = stated.get("add_bos_token")
    bos = first if first is not None and named is None else named
    return bos, added if isinstance(added, bool) else first is not None and first == bos


def _stated(config: Path) -> dict[str, Any]:
    """tokenizer_config.json, or nothing where there is none. Raises ConfigError for one that is broken."""
    try:
        stated = json.loads(config.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot read {config}: {error}.") from None
    if not isinstance(stated, dict):
        raise ConfigError(f"{config} is not a JSON object.")
    return stated
