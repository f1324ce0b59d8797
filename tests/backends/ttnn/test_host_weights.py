# SPDX-License-Identifier: Apache-2.0
"""Weights on their way to a mesh: arranged without changing what the model computes, converted once, kept safely."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from kinds_of_layers import KINDS, of_kind
from mesh_on_host import logits_on_mesh

from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.backends.ttnn.weights import arrange
from tt_transformers_v2.backends.ttnn.weights.host_weights import CacheShape
from tt_transformers_v2.backends.ttnn.weights.weight_cache import ABANDONED, WeightCache, open_folder
from tt_transformers_v2.models.decoder import forward
from tt_transformers_v2.models.head_order import card_order
from tt_transformers_v2.models.rope import apply_rope, rope_tables
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.planning.split import Split

Run = Callable[..., dict[str, Any]]


class Uneven(SyntheticWeights):
    """Synthetic weights whose norms are no ones, so that an order that is wrong shows."""

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        values = super().tensor(name, layer)
        return values + torch.linspace(-0.5, 0.5, len(values)) if name.endswith("norm") else values


def model(**changes: Any) -> Uneven:
    shape: dict[str, Any] = {
        "vocab_size": 500,
        "hidden_dim": 512,
        "num_layers": 2,
        "num_heads": 8,
        "num_kv_heads": 4,
        "head_dim": 64,
        "intermediate_dim": 300,
        "qkv_bias": True,
        "qk_norm": True,
    }
    return Uneven(ModelSpec.uniform(**shape | changes))


# What the chips compute


@pytest.mark.parametrize("head_dim", [32, 64, 128])
def test_neighbours_turned_in_ttnns_order_are_halves_turned_in_ours(head_dim: int) -> None:
    spec = model(head_dim=head_dim).spec
    x = torch.randn(1, 2, 50, head_dim)
    order = card_order(head_dim)
    (own,) = arrange.rotary_tables(spec, 50).values()
    reordered = x[..., order]
    turned = (reordered.unflatten(-1, (-1, 32)) @ arrange.rotation()[0, 0]).flatten(-2)
    (table,) = rope_tables(spec, torch.arange(50)).values()
    expected = apply_rope(x, table.cos, table.sin)[..., order]
    torch.testing.assert_close(reordered * own.cos + turned * own.sin, expected)


SPLITS = [
    Split(1, 1, 1, (1, 1)),
    Split(4, 1, 1, (1, 4)),
    Split(8, 1, 0, (8, 1)),  # more chips than KV heads
    Split(8, 4, 0, (8, 4)),
    Split(4, 2, 1, (2, 4)),
]


@pytest.mark.parametrize("split", SPLITS, ids=str)
def test_the_pieces_compute_what_the_whole_model_does(split: Split) -> None:
    source, tokens = model(), torch.randint(500, (40,))
    expected = forward(ReferenceOps(), source, tokens[None])[0]
    torch.testing.assert_close(logits_on_mesh(source, split, tokens), expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("split", [SPLITS[2], SPLITS[4]], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_so_they_do_with_layers_of_every_kind(kind: str, split: Split) -> None:
    source, tokens = Uneven(of_kind(kind)), torch.randint(500, (40,))
    expected = forward(ReferenceOps(), source, tokens[None])[0]
    assert expected.std() > 0.05
    torch.testing.assert_close(logits_on_mesh(source, split, tokens), expected, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize(("heads", "rows"), [(8, 32), (32, 32), (40, 64)])
def test_sinks_of_decode_are_a_column_of_whole_tiles_and_undo_the_scale(heads: int, rows: int) -> None:
    values = torch.arange(1.0, 2 * heads + 1)
    found = arrange.sinks(values, heads, 0.125, decode=True)
    assert found.shape == (2 * rows, 32)
    assert torch.equal(found[:heads, 0], 8 * values[:heads])
    assert torch.equal(found[rows : rows + heads, 0], 8 * values[heads:])
    assert found.count_nonzero() == 2 * heads
    assert torch.equal(arrange.sinks(values, heads, 0.125, decode=False), 8 * values.reshape(1, -1, 1, 1))


def test_parts_of_the_lm_head_are_columns_of_every_chip() -> None:
    split = Split(2, 1, 1, (1, 2))
    whole = arrange.matrix(model().spec, split, "lm_head", model().tensor("lm_head"))
    assert whole.shape[-1] == 2 * 256
    part = arrange.columns(split, whole, 128, 128)
    for chip in range(2):
        own = whole.chunk(2, -1)[chip]
        assert torch.equal(part.chunk(2, -1)[chip], own[..., 128:256])


@pytest.mark.parametrize(
    ("shape", "blocks", "whole"),
    [
        (CacheShape(4, 100, 32), 4, (16, 32)),
        (CacheShape(4, 100, 64), 2, (8, 64)),
        (CacheShape(4, 100, None), 1, (4, 128)),
    ],
)
def test_a_cache_holds_every_users_tokens(shape: CacheShape, blocks: int, whole: tuple[int, int]) -> None:
    assert (shape.blocks, shape.shape) == (blocks, whole)


# The disk cache, with files of plain bytes


def dump(path: Path, tensor: bytes) -> None:
    path.write_bytes(tensor)


class Made:
    """Counts conversions."""

    def __init__(self, value: bytes = b"tensor") -> None:
        self.value, self.count = value, 0

    def __call__(self) -> tuple[bytes, str]:
        self.count += 1
        return self.value, "0" * 64


def cache_in(folder: Path, warnings: list[str] | None = None, **changes: Any) -> WeightCache:
    options = {"dump": dump, "load": Path.read_bytes, "warn": [].append if warnings is None else warnings.append}
    return WeightCache(folder, **options | changes)


def test_what_is_kept_is_not_made_again(tmp_path: Path) -> None:
    make = Made()
    for _ in range(3):
        cache = cache_in(tmp_path)
        assert cache.fetch("wo", {"format": "bfloat8_b"}, make) == b"tensor"
    assert make.count == 1
    assert (cache.converted, cache.found) == (0, 1)
    entry = json.loads((tmp_path / "wo.json").read_text())
    assert entry["about"] == {"format": "bfloat8_b", "source_sha256": "0" * 64}


def damaged(folder: Path, how: str) -> None:
    card = folder / "wo.json"
    path = folder / json.loads(card.read_text())["file"]
    if how == "a flipped bit":
        path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])
    elif how == "cut short":
        path.write_bytes(path.read_bytes()[:-1])
    elif how == "gone":
        path.unlink()
    elif how == "half a JSON file":
        card.write_text(card.read_text()[:20])
    elif how == "another JSON file":
        card.write_text("[]")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("a flipped bit", "checksum"),
        ("cut short", "5 bytes instead of 6"),
        ("gone", "the file is missing"),
        ("half a JSON file", "rebuilding"),
        ("another JSON file", "rebuilding"),
    ],
)
def test_a_damaged_entry_is_told_and_made_anew(how: str, said: str, tmp_path: Path) -> None:
    make, warnings = Made(), []
    cache_in(tmp_path).fetch("wo", {}, make)
    damaged(tmp_path, how)
    assert cache_in(tmp_path, warnings).fetch("wo", {}, make) == b"tensor"
    assert make.count == 2
    assert len(warnings) == 1
    assert said in warnings[0]
    assert "\n" not in warnings[0]
    assert cache_in(tmp_path, warnings).fetch("wo", {}, make) == b"tensor"
    assert (make.count, len(warnings)) == (2, 1)


def test_an_entry_of_something_else_is_stale(tmp_path: Path) -> None:
    warnings: list[str] = []
    cache_in(tmp_path).fetch("wo", {"layer": 1}, Made())
    assert cache_in(tmp_path, warnings).fetch("wo", {"layer": 2}, Made(b"other")) == b"other"
    assert "different layer" in warnings[0]
    assert len(list(tmp_path.glob("*.tensorbin"))) == 1


def test_what_ttnn_cannot_read_is_made_anew(tmp_path: Path) -> None:
    def refuses(path: Path) -> bytes:
        raise RuntimeError("TT_THROW: not a tensor\nmore")

    warnings: list[str] = []
    cache_in(tmp_path).fetch("wo", {}, Made())
    assert cache_in(tmp_path, warnings, load=refuses).fetch("wo", {}, Made(b"other")) == b"other"
    assert warnings[0].endswith("TT_THROW: not a tensor")


def test_a_folder_that_cannot_be_written_costs_a_warning(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    warnings: list[str] = []
    assert cache_in(tmp_path / "file" / "folder", warnings).fetch("wo", {}, Made()) == b"tensor"
    assert "are not cached" in warnings[-1]


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def fails(path: Path, tensor: bytes) -> None:
        path.write_bytes(tensor[:3])
        raise OSError(28, "No space left on device")

    warnings: list[str] = []
    assert cache_in(tmp_path, warnings, dump=fails).fetch("wo", {}, Made()) == b"tensor"
    assert list(tmp_path.iterdir()) == []
    assert "No space left on device" in warnings[0]


KILLED = """
import sys, time
from pathlib import Path
from tt_transformers_v2.backends.ttnn.weights.weight_cache import WeightCache

def slowly(path, tensor):
    path.write_bytes(tensor[:3])
    print("writing", flush=True)
    time.sleep(60)

cache = WeightCache(Path(sys.argv[1]), slowly, Path.read_bytes, print)
cache.fetch("wo", {}, lambda: (b"tensor", ""))
"""


def test_a_process_killed_while_writing_leaves_no_entry(tmp_path: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"writing\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    warnings: list[str] = []
    make = Made()
    assert cache_in(tmp_path, warnings).fetch("wo", {}, make) == b"tensor"
    assert (make.count, warnings) == (1, [])


def test_many_at_once_agree(tmp_path: Path) -> None:
    def one(number: int) -> bytes:
        return cache_in(tmp_path).fetch("wo", {}, Made(b"tensor"))

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(64))) == {b"tensor"}
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".json", ".tensorbin"]


def test_a_folder_belongs_to_what_it_was_made_from(tmp_path: Path) -> None:
    one = open_folder(tmp_path, "meta-llama/Llama 3", {"fingerprint": "a", "ttnn": "0.81.1"})
    assert one == open_folder(tmp_path, "meta-llama/Llama 3", {"fingerprint": "a", "ttnn": "0.81.1"})
    assert one != open_folder(tmp_path, "meta-llama/Llama 3", {"fingerprint": "b", "ttnn": "0.81.1"})
    assert one != open_folder(tmp_path, "meta-llama/Llama 3", {"fingerprint": "a", "ttnn": "0.82.0"})
    assert one.parent == tmp_path / "weights"
    assert one.name.startswith("meta-llama_Llama_3-")


def test_half_written_files_of_long_ago_are_swept_out(tmp_path: Path) -> None:
    folder = open_folder(tmp_path, "m", {})
    folder.mkdir(parents=True)
    old, new = folder / ".old.tensorbin", folder / ".new.tensorbin"
    old.touch()
    new.touch()
    long_ago = time.time() - ABANDONED - 1
    os.utime(old, (long_ago, long_ago))
    open_folder(tmp_path, "m", {})
    assert [path.name for path in folder.iterdir()] == [".new.tensorbin"]


# With ttnn's own conversion


def test_every_chip_gets_its_piece_in_our_packing(run: Run) -> None:
    """The files of a mesh hold, chip by chip, what arrange gives and numerics.formats rounds."""
    answer = run("ttnn_model_jobs:pieces", "T3K")
    assert answer["compared"] == 2 * 8 * 3
    assert answer["different"] == []


@pytest.mark.parametrize("device", ["N300", pytest.param("WH_GALAXY", marks=pytest.mark.slow)])
def test_what_is_placed_is_what_the_preflight_asks_about(device: str, run: Run) -> None:
    assert run("ttnn_model_jobs:as_asked", device) == []


def test_a_second_opening_converts_nothing_and_another_precision_has_other_files(run: Run, tmp_path: Path) -> None:
    first, again = run("ttnn_model_jobs:converts", home=str(tmp_path), rounds=[["BFP8"], ["BFP8", "BFP4"]])
    assert first == {"converted": 3, "found": 0, "warnings": []}
    assert again == {"converted": 2, "found": 3, "warnings": []}
    damaged_file = next(tmp_path.rglob("layer_0_wo_bfloat8_b.*.tensorbin"))
    content = bytearray(damaged_file.read_bytes())
    content[len(content) // 2] ^= 0x10
    damaged_file.write_bytes(content)
    (after,) = run("ttnn_model_jobs:converts", home=str(tmp_path), rounds=[["BFP8"]])
    assert (after["converted"], after["found"]) == (1, 2)
    assert "the checksum does not match" in after["warnings"][0]
