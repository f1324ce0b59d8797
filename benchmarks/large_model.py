#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What all layers of a large model with stored weights take: wall, processor seconds and memory.

    python benchmarks/large_model.py FOLDER [--tokens 128] [--layers 32] [--keep]

Writes a Hugging Face folder of Llama-8B's shape to FOLDER (16 GB of bf16 safetensors, one shard a layer; weights and
tokens are drawn, so figures of quality mean nothing, and the work is that of real ones), runs task=accuracy on it bit
for bit in the performance preset, and prints what the process took. FOLDER is removed afterwards unless --keep is
given; one that exists is used as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from machine import processor
from safetensors.torch import save_file

ROOT = Path(__file__).resolve().parent.parent
HIDDEN, HEADS, KV_HEADS, HEAD, INNER, VOCABULARY = 4096, 32, 8, 128, 14336, 128256
CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "max_position_embeddings": 8192,
    "tie_word_embeddings": False,
    "vocab_size": VOCABULARY,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--layers", type=int, default=32)
    parser.add_argument("--keep", action="store_true")
    given = parser.parse_args()
    if not given.folder.exists():
        write(given.folder, given.layers)
    try:
        print(
            json.dumps({"processor": processor(), "layers": given.layers} | run(given.folder, given.tokens), indent=1)
        )
    finally:
        if not given.keep:
            shutil.rmtree(given.folder)


def write(folder: Path, layers: int) -> None:
    """The model's folder."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | {"num_hidden_layers": layers}))
    drawn = torch.Generator().manual_seed(0)

    def matrix(rows: int, columns: int) -> torch.Tensor:
        return torch.empty(rows, columns, dtype=torch.bfloat16).normal_(0, 0.02, generator=drawn)

    own, weights = "model.layers.{}.", {}
    kinds = {
        "self_attn.q_proj": (HEADS * HEAD, HIDDEN),
        "self_attn.k_proj": (KV_HEADS * HEAD, HIDDEN),
        "self_attn.v_proj": (KV_HEADS * HEAD, HIDDEN),
        "self_attn.o_proj": (HIDDEN, HEADS * HEAD),
        "mlp.gate_proj": (INNER, HIDDEN),
        "mlp.up_proj": (INNER, HIDDEN),
        "mlp.down_proj": (HIDDEN, INNER),
    }
    for layer in range(layers):
        tensors = {f"{own.format(layer)}{name}.weight": matrix(*shape) for name, shape in kinds.items()}
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{own.format(layer)}{norm}.weight"] = torch.ones(HIDDEN, dtype=torch.bfloat16)
        weights |= shard(folder, f"layer-{layer:02d}", tensors)
    ends = {"model.embed_tokens.weight": matrix(VOCABULARY, HIDDEN), "lm_head.weight": matrix(VOCABULARY, HIDDEN)}
    weights |= shard(folder, "ends", ends | {"model.norm.weight": torch.ones(HIDDEN, dtype=torch.bfloat16)})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))


def shard(folder: Path, name: str, tensors: dict[str, torch.Tensor]) -> dict[str, str]:
    """Writes a file; which tensors are in it."""
    save_file(tensors, folder / f"{name}.safetensors")
    return dict.fromkeys(tensors, f"{name}.safetensors")


def run(folder: Path, tokens: int) -> dict[str, float | int | str]:
    """What one run takes: seconds on the wall and of processors, and the most memory."""
    with tempfile.TemporaryDirectory() as kept:
        words = ["task=accuracy", "device=t3k", "model=hf", f"model.path={folder}", "precision=performance"]
        words += [f"workload.tokens={tokens}", f"workload.window={tokens}"]
        words += ["backend.numerics=exact", "cache.reference_gib=0", f"hydra.run.dir={kept}/run"]
        before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        command = [sys.executable, str(ROOT / "scripts" / "run.py"), *words]
        subprocess.run(command, check=True, cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT / "src")})
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        return {
            "tokens": tokens,
            "wall_s": round(time.monotonic() - started, 1),
            "processor_s": round(used, 1),
            "peak_gib": round(after.ru_maxrss / 2**20, 2),
        }


if __name__ == "__main__":
    main()
