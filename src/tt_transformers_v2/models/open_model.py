# SPDX-License-Identifier: Apache-2.0
"""From what the user named (a path, a package or nothing) to weights and, where there is one, a tokenizer."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from .gguf_tokenizer import gguf_tokenizer
from .gguf_weights import GgufWeights, gguf_spec, packaged_gguf
from .huggingface import SafetensorsWeights, huggingface_spec
from .model_place import model_place
from .spec import ModelSpec
from .tokenizer import Tokenizer, folder_tokenizer
from .weights import SyntheticWeights, WeightSource

# How far a model may be driven is the experiment's choice; it changes no tensor.
_FREE = ("max_context", "_metadata")


def open_weights(
    spec: ModelSpec | None,
    *,
    path: str | None = None,
    package: str | None = None,
    seed: int = 0,
) -> tuple[WeightSource, Tokenizer | None]:
    """Weights and tokenizer of a model.

    Args:
        spec: what the model must look like; None takes the shapes that the files state.
        path: a Hugging Face folder or a .gguf file, as `model_place` takes it; goes before `package`.
        package: an installed distribution that carries a GGUF file.
        seed: for synthetic weights, when neither path nor package is given.

    The tokenizer is None for synthetic weights and where `why_no_tokenizer` gives a reason. Raises ConfigError
    for files that are missing, unreadable or of another shape than `spec`, and for nothing to go by at all.
    """
    if not path and not package:
        if spec is None:
            raise ConfigError("a model needs shapes, a path or a package.", "Choose one with model=NAME.")
        return SyntheticWeights(spec, seed), None
    place = model_place(path) if path else packaged_gguf(str(package))
    weights: WeightSource
    if place.is_dir():
        weights = SafetensorsWeights(place, _agreed(spec, huggingface_spec(place), place))
    else:
        weights = GgufWeights(place, _agreed(spec, gguf_spec(place), place))
    tokenizer, _ = _tokenizer(place)
    return weights, None if tokenizer is None else tokenizer.for_rows(weights.spec.vocab_size)


def why_no_tokenizer(*, path: str | None = None, package: str | None = None) -> str:
    """Why `open_weights` gives no tokenizer for these files, in a few words; "" where it gives one or is synthetic."""
    if not path and not package:
        return ""
    return _tokenizer(model_place(path) if path else packaged_gguf(str(package)))[1]


def _tokenizer(place: Path) -> tuple[Tokenizer | None, str]:
    """The tokenizer of a folder or of a .gguf file, or why there is none.

    Weights are of use without one. Raises ConfigError for a tokenizer.json that is there and broken.
    """
    if place.is_dir():
        if (place / "tokenizer.json").is_file():
            return folder_tokenizer(place), ""
        return None, f"{place} has no tokenizer.json"
    beside = place.parent / "tokenizer.json"
    try:
        return gguf_tokenizer(place), ""
    except ConfigError as error:
        if beside.is_file():
            return folder_tokenizer(place.parent), ""
        return None, error.message.rstrip(".")


def model_files(*, path: str | None = None, package: str | None = None) -> list[Path]:
    """The files that `open_weights` reads weights from, sorted; none for synthetic ones. Raises ConfigError."""
    if not path and not package:
        return []
    place = model_place(path) if path else packaged_gguf(str(package))
    return sorted(place.glob("*.safetensors")) if place.is_dir() else [place]


def read_spec(path: str) -> ModelSpec:
    """The shapes that a Hugging Face folder or a .gguf file states; no weights are read. Raises ConfigError."""
    place = model_place(path)
    return huggingface_spec(place) if place.is_dir() else gguf_spec(place)


def check_files(spec: ModelSpec, path: str) -> None:
    """Raises ConfigError where there are no files at `path`, or those of another model than `spec`."""
    _agreed(spec, read_spec(path), model_place(path))


def _agreed(wanted: ModelSpec | None, stated: ModelSpec, place: Path) -> ModelSpec:
    """`wanted` (with its own name and context) if it computes what the files state, else ConfigError."""
    if wanted is None:
        return stated
    chosen = _completed(wanted, stated)
    names = [field.name for field in dataclasses.fields(ModelSpec) if field.name not in _FREE]
    differing = [name for name in names if not _same(getattr(chosen, name), getattr(stated, name))]
    if differing:
        shown = [f"{name} should be {getattr(wanted, name)} but is {getattr(stated, name)}" for name in differing[:3]]
        more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
        raise ConfigError(
            f"model {wanted.name} does not match {place}: {', '.join(shown)}{more}.",
            "Use model=hf to take the shapes from the files.",
        )
    return chosen


def _completed(wanted: ModelSpec, stated: ModelSpec) -> ModelSpec:
    """`wanted` with what a preset leaves to its files: longrope's lists of factors, and a window that never closes.

    A window as long as the context computes what no window does.
    """
    if wanted.kinds or stated.kinds:
        return wanted
    found: dict[str, Any] = {}
    if wanted.rope_scaling is None and stated.rope_scaling is not None and stated.rope_scaling.kind == "longrope":
        found["rope_scaling"] = stated.rope_scaling
    windows = [spec.sliding_window for spec in (wanted, stated)]
    if windows[0] != windows[1] and all(window is None or window >= wanted.max_context for window in windows):
        found["sliding_window"] = stated.sliding_window
    return dataclasses.replace(wanted, **found) if found else wanted


def _same(one: Any, other: Any) -> bool:
    # 1e-5 that went through float32 is still 1e-5.
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=1e-6)
    return one == other
