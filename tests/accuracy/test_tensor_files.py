# SPDX-License-Identifier: Apache-2.0
"""Files that another thread reads ahead and writes: the same as without it, and no more than a few at a time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tt_transformers_v2.accuracy import tensor_files
from tt_transformers_v2.accuracy.tensor_files import TensorFiles


@pytest.fixture
def background():
    with ThreadPoolExecutor(1, thread_name_prefix="background") as pool:
        yield pool


@pytest.fixture
def files(tmp_path, background):
    """Files 0 to 39 in a group."""
    before = TensorFiles(tmp_path, 1 << 20, "numbers")
    for number in range(40):
        before.add("group", str(number), number_of(number))
    return TensorFiles(tmp_path, 1 << 20, "numbers", background)


@pytest.fixture
def readers(monkeypatch):
    """The file and the thread of every reading."""
    seen, read = [], tensor_files._read

    def recorded(path):
        seen.append((path.stem, threading.current_thread().name.startswith("background")))
        return read(path)

    monkeypatch.setattr(tensor_files, "_read", recorded)
    return seen


def number_of(number):
    return {"it": torch.tensor([float(number)])}


def value(files, name, **then):
    found = files.get("group", name, **then)
    return None if found is None else found["it"].item()


def test_what_comes_next_is_read_once_by_another_thread(files, readers, background):
    assert [value(files, str(n), then=[str(n + 1)]) for n in range(3)] == [0, 1, 2]
    background.shutdown()
    assert readers == [("0", False), ("1", True), ("2", True), ("3", True)]


def test_nothing_is_read_ahead_of_what_is_not_there(files, readers):
    assert value(files, "50", then=["1"]) is None
    assert readers == [("50", False)]
    assert value(files, "39", then=["40"]) == 39
    assert value(files, "40") is None


def test_a_damaged_file_that_is_read_ahead_is_not_used_and_may_be_replaced(files, tmp_path, background):
    (tmp_path / "group" / "1.safetensors").write_bytes(b"no tensors")
    assert value(files, "0", then=["1"]) == 0
    assert value(files, "1") is None
    files.add("group", "1", number_of(7))
    background.shutdown()
    assert value(files, "1") == 7


def test_only_the_last_sixteen_wait(files):
    for number in range(17):
        value(files, "39", then=[str(number)])
    assert [path.stem for path in files._ahead] == [str(number) for number in range(1, 17)]
    assert value(files, "0") == 0  # read when asked


@pytest.fixture
def held(background):
    """Keeps the background from doing anything until it is set."""
    go = threading.Event()
    background.submit(go.wait)
    yield go
    go.set()


def test_what_is_added_is_written_in_the_background_and_complete_when_that_has_ended(tmp_path, background, held):
    files = TensorFiles(tmp_path / "new", 1 << 20, "numbers", background)
    for number in range(3):
        files.add("group", str(number), number_of(number))
    assert not (tmp_path / "new").exists()
    assert [value(files, str(number)) for number in range(4)] == [0, 1, 2, None]
    held.set()
    background.shutdown()
    assert [value(files, str(number)) for number in range(4)] == [0, 1, 2, None]


def test_only_sixteen_wait_to_be_written(tmp_path, background, held):
    files = TensorFiles(tmp_path, 1 << 20, "numbers", background)
    for number in range(16):
        files.add("group", str(number), number_of(number))
    seventeenth = threading.Thread(target=files.add, args=("group", "16", number_of(16)))
    seventeenth.start()
    seventeenth.join(0.2)
    assert seventeenth.is_alive()
    held.set()
    seventeenth.join(30)
    background.shutdown()
    assert [value(files, str(number)) for number in range(17)] == list(range(17))


def test_what_cannot_be_written_is_said_once(tmp_path, background, capsys):
    (tmp_path / "file").write_text("no folder")
    files = TensorFiles(tmp_path / "file", 1 << 20, "numbers", background)
    for number in range(3):
        files.add("group", str(number), number_of(number))
    background.shutdown()
    assert capsys.readouterr().err.count("warning: numbers are not cached") == 1


def test_a_file_in_the_place_of_another_is_not_used(files, tmp_path):
    (tmp_path / "group" / "2.safetensors").replace(tmp_path / "group" / "1.safetensors")
    assert value(files, "1") is None


def test_a_folder_that_goes_away_while_a_file_is_added_is_made_again(tmp_path, monkeypatch, capsys):
    files, write, failures = TensorFiles(tmp_path, 1 << 20, "numbers"), tensor_files.write_atomically, ["once"]

    def fails_once(path, content, **how):
        if failures:
            raise FileNotFoundError(failures.pop())
        write(path, content, **how)

    monkeypatch.setattr(tensor_files, "write_atomically", fails_once)
    files.add("group", "0", number_of(5))
    assert value(files, "0") == 5
    assert not capsys.readouterr().err


def test_what_cannot_be_removed_is_as_good_as_not_there(files, tmp_path, monkeypatch):
    (tmp_path / "group" / "0.safetensors").write_bytes(b"no tensors")

    def refused(path, missing_ok=False):
        raise PermissionError(path)

    monkeypatch.setattr(Path, "unlink", refused)
    assert value(files, "0") is None
