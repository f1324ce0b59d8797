# SPDX-License-Identifier: Apache-2.0
"""Files that are read ahead by another thread: what would be read when asked, and no more than a few of them."""

import threading

import pytest
import torch

from tt_transformers_v2.accuracy import tensor_files
from tt_transformers_v2.accuracy.tensor_files import TensorFiles


@pytest.fixture
def files(tmp_path):
    own = TensorFiles(tmp_path, 1 << 20, "numbers")
    for number in range(40):
        own.add("group", str(number), {"it": torch.tensor([float(number)])})
    return own


@pytest.fixture
def readers(monkeypatch):
    """The file and the thread of every reading."""
    seen, read = [], tensor_files._read

    def recorded(path):
        seen.append((path.stem, threading.current_thread().name.startswith("read-ahead")))
        return read(path)

    monkeypatch.setattr(tensor_files, "_read", recorded)
    return seen


def value(files, name, **then):
    found = files.get("group", name, **then)
    return None if found is None else found["it"].item()


def test_what_comes_next_is_read_once_by_another_thread(files, readers):
    assert [value(files, str(n), then=[str(n + 1)]) for n in range(3)] == [0, 1, 2]
    files._reader.shutdown()
    assert readers == [("0", False), ("1", True), ("2", True), ("3", True)]


def test_nothing_is_read_ahead_of_what_is_not_there(files, readers):
    assert value(files, "50", then=["1"]) is None
    assert readers == [("50", False)]
    assert value(files, "39", then=["40"]) == 39
    assert value(files, "40") is None


def test_a_damaged_file_that_is_read_ahead_is_not_used_and_may_be_replaced(files, tmp_path):
    (tmp_path / "group" / "1.safetensors").write_bytes(b"no tensors")
    assert value(files, "0", then=["1"]) == 0
    assert value(files, "1") is None
    files.add("group", "1", {"it": torch.tensor([7.0])})
    assert value(files, "1") == 7


def test_only_the_last_sixteen_wait(files):
    for number in range(17):
        value(files, "39", then=[str(number)])
    assert [path.stem for path in files._ahead] == [str(number) for number in range(1, 17)]
    assert value(files, "0") == 0  # read when asked
