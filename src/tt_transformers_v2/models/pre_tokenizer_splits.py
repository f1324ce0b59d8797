# SPDX-License-Identifier: Apache-2.0
"""How byte-level BPE tokenizers split text before they merge, by the names that GGUF files have for it.

The expressions are those of the models' own tokenizer.json; which name means which is llama.cpp's (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
_SIGNS = r" ?[^\s\p{L}\p{N}]+[\r\n]*"
_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"


def _llama3(digits: str) -> str:
    return rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{digits}|{_SIGNS}|{_REST}"


def _by_case(digits: str, ending: str = "") -> str:
    """Words split where a lower-case letter is followed by an upper-case one."""
    start, signs = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n/]*"
    words = f"{start}{_UPPER}*{_LOWER}+{ending}|{start}{_UPPER}+{_LOWER}*{ending}"
    return rf"{words}|\p{{N}}{digits}|{signs}|{_REST}"


@dataclass(frozen=True)
class Split:
    """Expressions that split a text one after the other, each match and what is between matches being a piece.

    whole: a piece that is a token is taken as it is, even where its merges lead elsewhere. begins: texts begin with
    BOS where the file does not say (tokenizer.ggml.add_bos_token).
    """

    expressions: tuple[str, ...]
    whole: bool = False
    begins: bool = False


_LLAMA3 = Split((_llama3("{1,3}"),), whole=True, begins=True)
_QWEN2 = Split((_llama3(""),))
_PLAIN = Split((_GPT2,))
_SMOLLM = Split((r"\p{N}", _GPT2))
_DEEPSEEK3 = Split(
    (
        r"\p{N}{1,3}",
        r"[一-龥぀-ゟ゠-ヿ]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_REST}",
    )
)
_GPT4O = Split((_by_case("{1,3}", f"{_CONTRACTIONS}?"),))

SPLITS: Mapping[str, Split] = {
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "pixtral"), _LLAMA3),
    **dict.fromkeys(("dbrx", "smaug-bpe", "glm4", "chatglm-bpe"), Split(_LLAMA3.expressions)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), _QWEN2),
    "qwen35": Split(
        (
            rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?[\p{{L}}\p{{M}}]+|\p{{N}}"
            rf"| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|{_REST}",
        )
    ),
    **dict.fromkeys(("gpt-2", "phi-2", "mpt", "olmo", "exaone4", "granite-docling"), _PLAIN),
    **dict.fromkeys(("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"), _SMOLLM),
    **dict.fromkeys(("gpt-4o", "llama4"), _GPT4O),
    "tekken": Split((_by_case(""),), whole=True, begins=True),
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense"), _DEEPSEEK3),
    "seed-coder": Split(
        (rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1}}| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_REST}",)
    ),
}
