# SPDX-License-Identifier: Apache-2.0
"""A local Hugging Face folder: shapes from config.json, weights from safetensors, never from a pickle."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from ..common.errors import ConfigError
from .spec import ModelSpec, RopeScaling
from .weights import every_tensor, naming, sampled_fingerprint, tensor_shape

if TYPE_CHECKING:
    import torch

_LARGEST_JSON = 16 << 20  # bytes
_LARGEST_NUMBER = 2**31 - 1  # beyond it no dimension makes sense, and a corrupt one must not cost an hour
_NEEDED = object()

# Per architecture: its family, and the defaults its config class has where they differ from `_DEFAULTS`.
_ARCHITECTURES: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {"family": "llama", "max_position_embeddings": 2048},
    "MistralForCausalLM": {"family": "mistral", "num_key_value_heads": 8, "sliding_window": 4096},
    "Qwen2ForCausalLM": {"family": "qwen2", "num_key_value_heads": 32, "sliding_window": 4096},
    "Qwen3ForCausalLM": {
        "family": "qwen3",
        "num_key_value_heads": 32,
        "sliding_window": 4096,
        "head_dim": 128,
    },
    "Phi3ForCausalLM": {
        "family": "phi3",
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 4096,
        "original_max_position_embeddings": 4096,
    },
}
_DEFAULTS: dict[str, Any] = {
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "max_window_layers": 28,
}
# Keys that may be absent or null, or else must have this value: another one means different arithmetic.
_ONLY: dict[str, Any] = {
    "hidden_act": "silu",
    "attention_bias": False,
    "mlp_bias": False,
    "quantization_config": None,
    "num_local_experts": 0,
    "partial_rotary_factor": 1,
    "mrope_section": None,
    "truncate": True,
}
_STORED = {
    "wo": "self_attn.o_proj",
    "w1": "mlp.gate_proj",
    "w3": "mlp.up_proj",
    "w2": "mlp.down_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "q_norm": "self_attn.q_norm",
    "k_norm": "self_attn.k_norm",
}
_GLOBAL_STORED = {"embedding": "model.embed_tokens", "final_norm": "model.norm", "lm_head": "lm_head"}
_SUPPORTED = f"Supported: {', '.join(_ARCHITECTURES)}, dense, whole heads rotated, no output or MLP biases."


class _Config:
    """config.json with its architecture's defaults; a wrong value ends in a ConfigError naming the key."""

    def __init__(self, path: Path, values: dict[str, Any], defaults: dict[str, Any]) -> None:
        self.path, self.values, self.defaults = path, values, defaults

    def get(self, key: str, default: Any = None) -> Any:
        """The value; an explicit null counts as given: sliding_window says "none" with it."""
        return self.values[key] if key in self.values else self.defaults.get(key, default)

    def fail(self, message: str, hint: str = _SUPPORTED) -> ConfigError:
        return ConfigError(f"{self.path}: {message}", hint)

    def whole(self, key: str, default: Any = _NEEDED) -> int:
        """A whole number from 1 to `_LARGEST_NUMBER`."""
        return int(self._number(key, default, int))

    def positive(self, key: str, default: Any = _NEEDED) -> float:
        """A finite number above 0."""
        return float(self._number(key, default, (int, float)))

    def _number(self, key: str, default: Any, kind: Any) -> Any:
        value = self.get(key)
        value = default if value is None else value
        if value is _NEEDED:
            raise self.fail(f"{key} is missing.", "")
        most = _LARGEST_NUMBER if kind is int else 1e30
        if isinstance(value, bool) or not isinstance(value, kind) or not 0 < value <= most:
            what = "whole number" if kind is int else "number"
            raise self.fail(f"{key} must be a positive {what}, not {str(value)[:40]}.", "")
        return value

    def only_supported(self) -> None:
        for key, allowed in _ONLY.items():
            value = self.get(key)
            if value is not None and value != allowed:
                raise self.fail(f"{key} = {str(value)[:60]} is not supported.")


def huggingface_spec(folder: Path | str) -> ModelSpec:
    """The shapes of the model in a Hugging Face folder, from its config.json; imports no torch.

    Raises ConfigError for a missing or malformed file and for what cannot be computed here, saying what can.
    """
    path = Path(folder) / "config.json"
    values = _json(path)
    named = values.get("architectures")
    architecture = named[0] if isinstance(named, list) and len(named) == 1 else named
    if not isinstance(architecture, str) or architecture not in _ARCHITECTURES:
        raise ConfigError(f"{path}: architecture {str(architecture)[:60]} is not supported.", _SUPPORTED)
    config = _Config(path, values, _DEFAULTS | _ARCHITECTURES[architecture])
    # Qwen2 has biases on q, k and v whatever this key says, and never one on the output.
    if architecture == "Qwen2ForCausalLM":
        values.pop("attention_bias", None)
    config.only_supported()
    hidden, heads = config.whole("hidden_size"), config.whole("num_attention_heads")
    if config.get("head_dim") is None and hidden % heads:
        raise config.fail(f"hidden_size {hidden} is not a multiple of num_attention_heads {heads}.", "")
    head_dim, vocab = config.whole("head_dim", hidden // heads), config.whole("vocab_size")
    theta, scaling = _rope(config, head_dim)
    family = config.defaults["family"]
    with naming(path):
        return ModelSpec.uniform(
            vocab_size=vocab,
            hidden_dim=hidden,
            num_layers=config.whole("num_hidden_layers"),
            num_heads=heads,
            num_kv_heads=config.whole("num_key_value_heads", heads),
            head_dim=head_dim,
            intermediate_dim=config.whole("intermediate_size"),
            tie_embeddings=config.get("tie_word_embeddings") is True,
            qkv_bias=architecture == "Qwen2ForCausalLM",
            qk_norm=architecture == "Qwen3ForCausalLM",
            norm_eps=config.positive("rms_norm_eps"),
            rope_theta=theta,
            rope_scaling=scaling,
            max_context=config.whole("max_position_embeddings"),
            sliding_window=_window(config, architecture),
            name=_folder_name(Path(folder)),
            # 128256 is the vocabulary of every Llama 3, and of no Llama before it.
            family="llama-3" if family == "llama" and vocab == 128256 else family,
        )


def _json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of bounded size; ConfigError for anything else."""
    try:
        if not path.is_file():
            raise ConfigError(
                f"{path} does not exist.", "A Hugging Face folder contains it, along with safetensors files."
            )
        if path.stat().st_size > _LARGEST_JSON:
            raise ConfigError(f"{path} is implausibly large (more than {_LARGEST_JSON >> 20} MB).")
        values = json.loads(path.read_bytes())
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} is not valid JSON: {str(error)[:100]}.") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must contain a JSON object.")
    return values


def _folder_name(folder: Path) -> str:
    """The folder's name; for the hub's own cache (models--org--name/snapshots/revision) the model's."""
    folder = folder.absolute()
    if folder.parent.name == "snapshots":
        return folder.parent.parent.name.split("--")[-1]
    return folder.name


def _window(config: _Config, architecture: str) -> int | None:
    """Sliding window in tokens, None for full attention; ConfigError when layers differ."""
    if architecture == "LlamaForCausalLM" or config.get("sliding_window") is None:
        return None
    window, layers = config.whole("sliding_window"), config.whole("num_hidden_layers")
    kinds = config.get("layer_types")
    if architecture.startswith("Qwen"):
        if not config.get("use_sliding_window"):
            return None
        if kinds is None:
            full = config.get("max_window_layers")  # the first so many layers see everything
            if full is None or (isinstance(full, int) and full >= layers):
                return None
            kinds = ["sliding_attention"] if full == 0 else ["full_attention", "sliding_attention"]
    if kinds is None or (isinstance(kinds, list) and all(kind == "sliding_attention" for kind in kinds)):
        return window
    if isinstance(kinds, list) and all(kind == "full_attention" for kind in kinds):
        return None
    raise config.fail("models that mix layers with and without a sliding window are not supported.")


def _rope(config: _Config, head_dim: int) -> tuple[float, RopeScaling | None]:
    """Rotary base and scaling, from `rope_parameters` or from the older `rope_theta` and `rope_scaling`."""
    key = "rope_scaling" if config.get("rope_scaling") else "rope_parameters"
    given = {} if config.get(key) is None else config.get(key)
    if not isinstance(given, dict) or any(isinstance(value, dict) for value in given.values()):
        raise config.fail(f"{key} must be one flat object; settings per kind of layer are not supported.")
    rope = _Config(config.path, given, {})
    rope.only_supported()
    theta = rope.positive("rope_theta", config.positive("rope_theta"))
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if config.defaults["family"] == "phi3" and kind in ("su", "yarn"):
        kind = "longrope"  # what Phi-3's first files called it
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling("linear", factor=rope.positive("factor"))
    if kind not in ("llama3", "yarn", "longrope"):
        kinds = "Supported: default, linear, llama3, yarn, longrope."
        raise config.fail(f"rope scaling {str(kind)[:40]!r} is not supported.", kinds)
    context = config.whole("max_position_embeddings")
    original = rope.whole("original_max_position_embeddings", context)
    original = config.whole("original_max_position_embeddings", original)
    if kind == "llama3":
        low, high = rope.positive("low_freq_factor"), rope.positive("high_freq_factor")
        if low >= high:
            raise config.fail(f"low_freq_factor {low} must be below high_freq_factor {high}.", "")
        return theta, RopeScaling(kind, rope.positive("factor"), original, low, high)
    if original < 2 or theta == 1:
        raise config.fail(f"{kind} cannot have an original context of {original} with theta {theta}.", "")
    factor = rope.positive("factor", context / original)
    attention = None if rope.get("attention_factor") is None else rope.positive("attention_factor")
    if kind == "yarn":
        if attention is None and rope.get("mscale") and rope.get("mscale_all_dim") and factor > 1:
            one, all_dim = (0.1 * rope.positive(key) * math.log(factor) for key in ("mscale", "mscale_all_dim"))
            attention = (one + 1) / (all_dim + 1)
        fast, slow = rope.positive("beta_fast", 32.0), rope.positive("beta_slow", 1.0)
        return theta, RopeScaling(kind, factor, original, 1.0, 4.0, fast, slow, attention)
    short, long = _factors(rope, "short_factor", head_dim), _factors(rope, "long_factor", head_dim)
    return theta, RopeScaling(kind, factor, original, 1.0, 4.0, 32.0, 1.0, attention, short, long)


def _factors(rope: _Config, key: str, head_dim: int) -> tuple[float, ...]:
    values = rope.get(key)
    if not isinstance(values, list) or len(values) != head_dim // 2:
        raise rope.fail(f"{key} must be a list of {head_dim // 2} numbers, one per pair of dimensions.", "")
    return tuple(_Config(rope.path, {key: value}, {}).positive(key) for value in values)


@dataclass(frozen=True)
class _Piece:
    """Rows `start` to `stop` of a stored tensor of `shape`, torch's [out, in]."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


class SafetensorsWeights:
    """WeightSource over a folder's safetensors, whole or in shards; see weights.py for names and shapes.

    Stored bfloat16, float16, float32 or float64 arrive as float32. Phi-3's fused projections are split.
    """

    synthetic = False

    def __init__(self, folder: Path | str, spec: ModelSpec | None = None) -> None:
        """Checks every tensor's presence, shape and type against `spec` (config.json's when None).

        Raises ConfigError naming file and tensor; the tensors' data is not read yet.
        """
        self._folder = Path(folder)
        self.spec = huggingface_spec(folder) if spec is None else spec
        self._shards = _shards(self._folder)
        self._fused = "model.layers.0.self_attn.qkv_proj.weight" in self._shards
        self._check()
        self.basis = f"real weights: {_folder_name(self._folder)}, safetensors"
        self.fingerprint = _fingerprint(sorted(set(self._shards.values())))

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        """As WeightSource.tensor; beside the result, one stored tensor is in memory at a time."""
        import torch

        result = torch.empty(tensor_shape(self.spec, name, layer), dtype=torch.float32)
        at = 0
        for piece in self._pieces(name, layer):
            rows = piece.stop - piece.start
            with _opened(self._shards[piece.name]) as file:
                stored = file.get_slice(piece.name)[piece.start : piece.stop]
            if result.ndim == 1 or name == "embedding":
                result[at : at + rows] = stored
            else:
                result[:, at : at + rows] = stored.T
            at += rows
        return result

    def _pieces(self, name: str, layer: int | None) -> Iterator[_Piece]:
        """The stored tensors that make up a canonical one, side by side along its outputs."""
        spec, shape = self.spec, tensor_shape(self.spec, name, layer)
        hidden, inter, prefix = spec.hidden_dim, spec.intermediate_dim, f"model.layers.{layer}."
        if name in ("wqkv", "bqkv"):
            inner, kind = ((hidden,), "weight") if name == "wqkv" else ((), "bias")
            heads = {"q": spec.num_heads, "k": spec.num_kv_heads, "v": spec.num_kv_heads}
            parts = {f"{part}_proj": count * spec.head_dim for part, count in heads.items()}
            for part, rows in ({"qkv_proj": shape[-1]} if self._fused else parts).items():
                yield _Piece(f"{prefix}self_attn.{part}.{kind}", (rows, *inner), 0, rows)
        elif name in ("w1", "w3") and self._fused:
            start = 0 if name == "w1" else inter
            yield _Piece(f"{prefix}mlp.gate_up_proj.weight", (2 * inter, hidden), start, start + inter)
        else:
            tied = name == "lm_head" and spec.tie_embeddings
            stored = shape if name == "embedding" else shape[::-1]
            full = _GLOBAL_STORED["embedding" if tied else name] if layer is None else prefix + _STORED[name]
            yield _Piece(f"{full}.weight", stored, 0, stored[0])

    def _check(self) -> None:
        by_shard: dict[Path, list[_Piece]] = {}
        for name, layer in every_tensor(self.spec):
            for piece in self._pieces(name, layer):
                if piece.name not in self._shards:
                    raise ConfigError(f"{self._folder}: no safetensors file contains {piece.name!r}.")
                by_shard.setdefault(self._shards[piece.name], []).append(piece)
        for shard, pieces in by_shard.items():
            with _opened(shard) as file:
                held = set(file.keys())
                for piece in pieces:
                    if piece.name not in held:
                        raise ConfigError(f"{shard}: tensor {piece.name!r} is missing.")
                    stored = file.get_slice(piece.name)
                    has, kind = tuple(stored.get_shape()), stored.get_dtype()
                    if has != piece.shape or kind not in ("BF16", "F16", "F32", "F64"):
                        raise ConfigError(
                            f"{shard}: tensor {piece.name!r} is {list(has)} in {kind}, but the model needs "
                            f"{list(piece.shape)} in BF16, F16, F32 or F64."
                        )


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file for reading; whatever goes wrong with it inside the block ends in a ConfigError."""
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except ConfigError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"{path} is not a readable safetensors file: {str(error)[:120]}.") from error


def _shards(folder: Path) -> dict[str, Path]:
    """Each stored tensor's file, from the index or from the single file's own header."""
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if index.is_file():
        names = _json(index).get("weight_map")
        if not isinstance(names, dict):
            raise ConfigError(f"{index} has no weight_map.")
        for shard in names.values():
            # A downloaded index must not make the program open files elsewhere.
            plain = isinstance(shard, str) and Path(shard).name == shard and len(shard) < 64
            if not plain or "\\" in shard or "\0" in shard:
                raise ConfigError(f"{index} names a shard outside its folder: {str(shard)[:60]!r}.")
        absent = sorted(shard for shard in set(names.values()) if not (folder / shard).is_file())
        if absent:
            raise ConfigError(f"{folder} is missing {len(absent)} of its weight files, including {absent[0]}.")
        return {name: folder / shard for name, shard in names.items()}
    if not single.is_file():
        pickles = [path.name for kind in ("*.bin", "*.pt", "*.pth") for path in sorted(folder.glob(kind))]
        if pickles:
            raise ConfigError(
                f"{folder} has its weights in {pickles[0]}, a pickle, which can run arbitrary code when loaded.",
                "Convert it: load it with transformers, then save_pretrained(folder) writes safetensors.",
            )
        raise ConfigError(f"{folder} has neither model.safetensors nor model.safetensors.index.json.")
    with _opened(single) as file:
        return dict.fromkeys(file.keys(), single)


def _fingerprint(shards: list[Path]) -> str:
    try:
        headers = []
        for shard in shards:
            with shard.open("rb") as file:
                headers.append((shard, 8 + int.from_bytes(file.read(8), "little")))
        return sampled_fingerprint(headers)
    except OSError as error:
        raise ConfigError(f"cannot read the weights: {error}.") from error
