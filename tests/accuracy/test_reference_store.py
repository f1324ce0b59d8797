# SPDX-License-Identifier: Apache-2.0
"""What the reference gave, kept on disk: never anything else than would be computed, and never too much."""

import json
import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from places import DATA
from tt_transformers_v2.accuracy import reference_store
from tt_transformers_v2.accuracy.reference_store import ReferenceStore
from tt_transformers_v2.accuracy.state_reuse import References, SharedStates
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.common import checkout
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.run.runner import run

LLAMA = DATA / "hf_llama"
OUTPUTS = {
    "layer": [torch.arange(60.0).reshape(2, 30), torch.tensor([1e-40, -0.0])],
    "mlp": [torch.ones(3), torch.ones(3)],
}
BYTES = 4 * (60 + 2 + 6)


def same(found, expected):
    return found is not None and all(
        torch.equal(a.view(torch.int32), b.view(torch.int32))
        for name in expected
        for a, b in zip(found[name], expected[name], strict=True)
    )


def test_another_process_finds_the_same_bits(tmp_path):
    ReferenceStore(tmp_path, 1 << 20, []).add(b"text", 3, OUTPUTS)
    other = ReferenceStore(tmp_path, 1 << 20, [])
    assert same(other.get(b"text", 3), OUTPUTS)
    assert other.get(b"text", 2) is other.get(b"other", 3) is None


@pytest.mark.parametrize("what", ["cut", "changed", "emptied"])
def test_a_damaged_file_is_not_used(tmp_path, what):
    store = ReferenceStore(tmp_path, 1 << 20, [])
    store.add(b"text", 0, OUTPUTS)
    (path,) = tmp_path.glob("*/0.safetensors")
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes({"cut": content[:-40], "changed": content, "emptied": b""}[what])
    assert store.get(b"text", 0) is None


@pytest.mark.parametrize("change", ["code", "threads", "weights"])
def test_nothing_is_found_that_could_be_out_of_date(tmp_path, monkeypatch, change):
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"weights")
    ReferenceStore(tmp_path, 1 << 20, [weights]).add(b"text", 0, OUTPUTS)
    if change == "code":
        monkeypatch.setattr(reference_store, "code_version", lambda: "another")
    if change == "threads":
        monkeypatch.setattr(torch, "get_num_threads", lambda: 97)
    if change == "weights":
        os.utime(weights, ns=(1, 1))
    assert ReferenceStore(tmp_path, 1 << 20, [weights]).get(b"text", 0) is None


def files(folder):
    return {path.stem for path in folder.glob("*/*.safetensors")}


def test_what_was_not_used_for_longest_makes_room(tmp_path):
    one = ReferenceStore(tmp_path, 1 << 20, [])
    one.add(b"text", 0, OUTPUTS)
    size = next(tmp_path.glob("*/0.safetensors")).stat().st_size
    assert size > BYTES
    store = ReferenceStore(tmp_path, int(3.5 * size), [])
    for layer, text in enumerate((b"text", b"text", b"another", b"a third")):
        if layer == 3:
            assert store.get(b"text", 0) is not None
        for path in tmp_path.glob("*/*.safetensors"):  # the clock of a file system may be coarse
            os.utime(path, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns - 10**9))
        store.add(text, layer, OUTPUTS)
    assert files(tmp_path) == {"0", "2", "3"}
    assert not [path for path in tmp_path.iterdir() if not any(path.iterdir())]


def test_outputs_larger_than_all_the_room_are_not_written(tmp_path):
    ReferenceStore(tmp_path, BYTES - 1, []).add(b"text", 0, OUTPUTS)
    assert not files(tmp_path)


def test_many_writers_and_readers_never_see_half_a_file(tmp_path):
    stores = [ReferenceStore(tmp_path, 8 * BYTES, []) for _ in range(8)]

    def work(i):
        found = []
        for turn in range(25):
            stores[i].add(b"text", (i + turn) % 12, OUTPUTS)
            found.append(stores[i].get(b"text", (i + 2 * turn) % 12))
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [each for own in pool.map(work, range(8)) for each in own]
    assert all(same(each, OUTPUTS) for each in found if each is not None)
    assert any(each is not None for each in found)


def test_a_folder_that_cannot_be_written_costs_one_warning(tmp_path, capsys):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    store = ReferenceStore(blocked, 1 << 20, [])
    for layer in range(3):
        store.add(b"text", layer, OUTPUTS)
        assert store.get(b"text", layer) is None
    assert capsys.readouterr().err.count("warning: the reference outputs are not cached") == 1


def test_memory_is_asked_before_the_disk(tmp_path):
    store = ReferenceStore(tmp_path, 1 << 20, [])
    References(disk=store).add(b"text", 0, OUTPUTS)
    again = References(disk=store)
    found = again.get(b"text", 0)
    assert same(found, OUTPUTS)
    shutil.rmtree(tmp_path)
    assert again.get(b"text", 0) is found


def resolved(*overrides):
    checked = check_overrides(
        ["task=accuracy", "backend.numerics=fast", "model=hf", f"model.path={LLAMA}", "workload.tokens=40", *overrides]
    )
    return resolve(compose(checked), checked.typed)


def figures(result):
    return json.dumps(result["accuracy"], sort_keys=True)


def test_a_later_sweep_computes_no_reference_and_finds_the_same_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "outputs_dir", lambda: tmp_path / "outputs")
    calls, attention = [], ReferenceOps.attention
    monkeypatch.setattr(ReferenceOps, "attention", lambda *a: (calls.append(1), attention(*a))[1])
    nothing = ("cache.reference_gib=0", "cache.weights_gib=0")
    plain = run(resolved("workload.window=24", *nothing), tmp_path / "0", show_progress=False)
    assert not (tmp_path / "outputs").exists()
    first = run(resolved("workload.window=24"), tmp_path / "1", show_progress=False, shared=SharedStates())
    before = len(calls)
    second = run(resolved("workload.window=24"), tmp_path / "2", show_progress=False, shared=SharedStates())
    assert len(calls) == before > 0
    assert figures(plain) == figures(first) == figures(second)
    run(resolved("workload.window=20"), tmp_path / "3", show_progress=False, shared=SharedStates())
    assert len(calls) > before


def test_a_later_run_alone_computes_no_reference_and_finds_the_same_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "outputs_dir", lambda: tmp_path / "outputs")
    calls, attention = [], ReferenceOps.attention
    monkeypatch.setattr(ReferenceOps, "attention", lambda *a: (calls.append(1), attention(*a))[1])
    first = run(resolved(), tmp_path / "1", show_progress=False)
    before = len(calls)
    second = run(resolved(), tmp_path / "2", show_progress=False)
    assert len(calls) == before > 0
    assert figures(first) == figures(second)
    run(resolved("cache.reference_gib=0"), tmp_path / "3", show_progress=False)
    assert len(calls) == 2 * before


def test_with_no_room_nothing_is_kept_and_the_configuration_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(checkout, "outputs_dir", lambda: tmp_path / "outputs")
    experiment = resolved("cache.reference_gib=0")
    assert experiment.config_hash() == resolved().config_hash()
    run(experiment, tmp_path / "0", show_progress=False, shared=SharedStates())
    assert not (tmp_path / "outputs").exists()
