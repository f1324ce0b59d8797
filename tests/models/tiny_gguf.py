# SPDX-License-Identifier: Apache-2.0
"""Writes small GGUF files of the llama architecture from any weights, the way llama.cpp's converter does."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights, WeightSource

TINY = ModelSpec.uniform(vocab_size=288, hidden_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, intermediate_dim=64)


def byte_letters() -> list[str]:
    """The 256 letters by which byte-level BPE writes bytes (GPT-2's table), in order of the bytes."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def permuted(matrix: np.ndarray, heads: int) -> np.ndarray:
    """llama.cpp's order of q's and k's rows, in the converter's words."""
    return (
        matrix.reshape(heads, 2, matrix.shape[0] // heads // 2, *matrix.shape[1:]).swapaxes(1, 2).reshape(matrix.shape)
    )


def write_gguf(
    path: Path,
    source: WeightSource | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.F32,
    **extra: int,
) -> Path:
    """Write `source` (synthetic TINY when None) with matrices stored as `kind`; `extra` adds llama.* numbers."""
    source = SyntheticWeights(TINY, 1) if source is None else source
    spec = source.spec
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(spec.num_layers)
    writer.add_context_length(spec.max_context)
    writer.add_embedding_length(spec.hidden_dim)
    writer.add_feed_forward_length(spec.intermediate_dim)
    writer.add_head_count(spec.num_heads)
    writer.add_head_count_kv(spec.num_kv_heads)
    writer.add_key_length(spec.head_dim)
    writer.add_layer_norm_rms_eps(spec.norm_eps)
    writer.add_rope_freq_base(spec.rope_theta)
    writer.add_vocab_size(spec.vocab_size)
    if spec.rope_scaling is not None:
        writer.add_rope_scaling_type(gguf.RopeScalingType(spec.rope_scaling.kind))
        writer.add_rope_scaling_factor(spec.rope_scaling.factor)
    for key, value in extra.items():
        writer.add_uint32(f"llama.{key}", value)
    letters = byte_letters()
    tokens = [*letters, "he", "ll", "hell", "hello", "Ġhello", "12", "<|end|>"]
    tokens += [f"<{i}>" for i in range(spec.vocab_size - len(tokens))]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens[: spec.vocab_size])
    writer.add_token_types([3 if token.startswith("<|") else 1 for token in tokens[: spec.vocab_size]])
    writer.add_token_merges(["h e", "l l", "he ll", "hell o", "Ġ hello", "1 2"])

    def add(name: str, values: np.ndarray) -> None:
        if values.ndim == 1:
            writer.add_tensor(name, values.astype(np.float32))
        else:
            writer.add_tensor(name, gguf.quants.quantize(np.ascontiguousarray(values), kind), raw_dtype=kind)

    add("token_embd.weight", source.tensor("embedding").numpy())
    add("output_norm.weight", source.tensor("final_norm").numpy())
    if not spec.tie_embeddings:
        add("output.weight", source.tensor("lm_head").numpy().T)
    q, kv = spec.num_heads * spec.head_dim, spec.num_kv_heads * spec.head_dim
    names = {"wo": "attn_output", "w1": "ffn_gate", "w3": "ffn_up", "w2": "ffn_down"}
    for layer in range(spec.num_layers):
        for part, suffix in (("wqkv", "weight"), ("bqkv", "bias"))[: 2 if spec.qkv_bias else 1]:
            joined = source.tensor(part, layer).numpy().T
            add(f"blk.{layer}.attn_q.{suffix}", permuted(joined[:q], spec.num_heads))
            add(f"blk.{layer}.attn_k.{suffix}", permuted(joined[q : q + kv], spec.num_kv_heads))
            add(f"blk.{layer}.attn_v.{suffix}", joined[q + kv :])
        for name, stored in names.items():
            add(f"blk.{layer}.{stored}.weight", source.tensor(name, layer).numpy().T)
        add(f"blk.{layer}.attn_norm.weight", source.tensor("attention_norm", layer).numpy())
        add(f"blk.{layer}.ffn_norm.weight", source.tensor("ffn_norm", layer).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
