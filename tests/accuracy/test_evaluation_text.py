# SPDX-License-Identifier: Apache-2.0
"""Which tokens of which texts accuracy is measured on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tt_transformers_v2.accuracy.evaluation_text import TextTooShort, disjoint_windows, text_windows, windows_of_texts
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.experiment_schema import Part
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.run.measure_task import evaluation_tokens


class Words:
    """A tokenizer whose ids are the numbers that a text consists of."""

    def __init__(self, bos=None, begins=False):
        self.bos, self.begins = bos, begins

    def encode(self, text):
        return [int(word) for word in text.split()]


def numbers(count):
    return " ".join(str(i) for i in range(count))


def ids(tokens):
    return [] if tokens is None else torch.cat(tokens.windows).tolist()


@given(tokens=st.integers(2, 60), window=st.integers(2, 20), skip=st.integers(0, 9), part=st.sampled_from(Part))
def test_as_many_tokens_as_asked_for_from_the_right_windows(tokens, window, skip, part):
    found = ids(text_windows(Words(), numbers(200), "numbers", tokens, window, skip, part))
    # A last window of one token predicts nothing.
    assert len(found) == (tokens - 1 if tokens % window == 1 else tokens)
    turns = [(number - skip) // window for number in found]
    assert found == sorted(found)
    assert found[0] >= skip
    assert all(part is Part.all or turn % 2 == (part is Part.odd) for turn in turns)
    assert part is not Part.all or found == list(range(skip, skip + len(found)))


@given(tokens=st.integers(2, 60), window=st.integers(2, 20), skip=st.integers(0, 9), part=st.sampled_from(Part))
def test_bos_is_the_first_token_of_each_window(tokens, window, skip, part):
    found = text_windows(Words(-1, begins=True), numbers(300), "numbers", tokens, window, skip, part)
    assert [int(own[0]) for own in found.windows] == [-1] * len(found.windows)
    assert found.count == (tokens - 1 if tokens % window == 1 else tokens)
    text = [number for own in found.windows for number in own[1:].tolist()]
    turns = [(number - skip) // (window - 1) for number in text]
    assert all(part is Part.all or turn % 2 == (part is Part.odd) for turn in turns)
    assert part is not Part.all or text == list(range(skip, skip + len(text)))
    assert found.name.endswith("BOS before each window")


def test_bos_is_there_as_asked_for_or_as_the_tokenizer_does():
    def begins(tokenizer, bos):
        found = text_windows(tokenizer, numbers(20), "numbers", 8, 4, bos=bos)
        return [int(own[0]) for own in found.windows]

    assert begins(Words(-1, begins=True), None) == begins(Words(-1), True) == [-1, -1]
    assert begins(Words(-1), None) == begins(Words(-1, begins=True), False) == begins(Words(), None) == [0, 4]
    with pytest.raises(ConfigError, match=r"workload\.bos=true: this model's tokenizer names no BOS"):
        begins(Words(), True)


def test_bos_alone_is_no_text():
    with pytest.raises(ConfigError, match="at least 2 tokens"):
        text_windows(Words(-1, begins=True), numbers(20), "numbers", 1, 4)


def test_windows_to_search_and_to_verify_on_begin_with_bos_and_share_no_text(tmp_path):
    (tmp_path / "numbers.txt").write_text(numbers(30))
    seen, unseen = disjoint_windows(Words(-1, begins=True), [str(tmp_path / "numbers.txt")], (2, 2), 5)
    assert all(int(own[0]) == -1 and len(own) == 5 for own in [*seen.windows, *unseen.windows])
    assert set(ids(seen)) & set(ids(unseen)) == {-1}


@given(tokens=st.integers(2, 40), window=st.integers(2, 12), length=st.integers(2, 100), part=st.sampled_from(Part))
def test_a_text_too_short_says_how_many_tokens_would_do(tokens, window, length, part):
    def cut(wanted):
        return text_windows(Words(), numbers(length), "numbers", wanted, window, 3, part)

    error = None
    try:
        cut(tokens)
    except TextTooShort as said:
        error = said
    if error is not None:
        would_do = int(error.message.split(" has ")[1].split()[0])
        assert would_do < tokens
        assert (f"workload.tokens={would_do} " in error.hint) == (would_do > 1)
        if would_do > 1:
            cut(would_do)


def test_even_and_odd_windows_share_no_token():
    even = text_windows(Words(), numbers(100), "numbers", 30, 10, part=Part.even)
    odd = text_windows(Words(), numbers(100), "numbers", 30, 10, part=Part.odd)
    assert ids(even) == [*range(10), *range(20, 30), *range(40, 50)]
    assert ids(odd) == [*range(10, 20), *range(30, 40), *range(50, 60)]
    assert (even.name, odd.name) == ("numbers, even windows", "numbers, odd windows")


def test_two_sets_of_windows_take_turns_in_every_text(tmp_path):
    files = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path, first in zip(files, (0, 1000), strict=True):
        path.write_text(" ".join(str(first + i) for i in range(100)))
    names = [str(path) for path in files]
    chosen, unseen = disjoint_windows(Words(), names, (1, 3), 10, skip=5)
    assert len(chosen.windows) == 2
    assert len(unseen.windows) == 6
    assert not set(ids(chosen)) & set(ids(unseen))
    assert sorted(ids(chosen) + ids(unseen)) == [*range(5, 45), *range(1005, 1045)]
    assert chosen.texts == names
    assert unseen.texts == [name for name in names for _ in range(3)]
    with pytest.raises(TextTooShort, match="asks for 200"):
        disjoint_windows(Words(), names, (10, 10), 10)


def test_files_of_one_name_in_two_folders_stay_two_texts(tmp_path):
    names = []
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        names.append(str(tmp_path / folder / "notes.txt"))
        (tmp_path / folder / "notes.txt").write_text(numbers(20))
    assert windows_of_texts(Words(), names, 10, 10).texts == names


@pytest.mark.parametrize("text", ["python_topics", "python_docstrings", "python_source"])
def test_texts_of_python_are_long_enough_to_choose_and_to_verify(text):
    class Characters(Words):
        def encode(self, written):
            return list(range(len(written) // 4))

    chosen, unseen = disjoint_windows(Characters(), [text], (64, 64), 512)
    assert len(chosen.windows) == len(unseen.windows) == 64


def resolved(*overrides):
    checked = check_overrides(["task=accuracy", *overrides])
    return resolve(compose(checked.texts), checked.typed)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("workload.texts=[python_source]", "workload.texts"),
        ("workload.skip=1", "workload.skip"),
        ("workload.part=odd", "workload.part"),
        ("workload.bos=true", "workload.bos"),
    ],
)
def test_a_model_without_a_tokenizer_refuses_what_needs_a_text(override, said):
    with pytest.raises(ConfigError, match=f"{said} cannot be used: this model has no tokenizer"):
        evaluation_tokens(resolved("model=llama1b", override), None)


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("workload.texts=[python_source,python_source]", "python_source twice"),
        ("workload.texts=[python_sauce]", "Did you mean python_source"),
        ("workload.texts=[nowhere.txt]", "workload.texts: nowhere.txt cannot be read"),
        ("workload.texts=[]", "empty"),
    ],
)
def test_texts_that_cannot_be_are_said(override, said):
    with pytest.raises(ConfigError, match=said):
        evaluation_tokens(resolved(override), Words())
