# SPDX-License-Identifier: Apache-2.0
"""task=quantize from beginning to end: a folder of calibrated weights, and what they are worth on unseen text."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as functional
from torch import Tensor

from ..common.errors import ConfigError
from ..config.quantize_schema import LayerInputs
from ..config.resolve import Experiment
from ..models.gguf_weights import GgufWeights
from ..models.huggingface import SafetensorsWeights
from ..models.open_model import model_files, open_weights
from ..models.rope import rope_tables
from ..models.stored_model import StoredModel
from ..models.weights import WeightSource
from .calibrated_layer import Settings, round_layer
from .chosen_matrices import Grids, check_tokens, chosen_matrices
from .quantize_result import quantize_section
from .quantize_text import QuantizeTexts, quantize_texts
from .quantized_folder import WORK, QuantizedFolder, check_room, open_record
from .unseen_quality import unseen_quality

Progress = Callable[[str, int, int | None], None]


def run_quantize(experiment: Experiment, progress: Progress) -> dict[str, Any]:
    """Writes `quantize.out`, or continues what an interrupted run left of it, and returns the section of the result.

    Raises ConfigError before anything is written for what cannot be done, and for weights that are not finite, singular
    Hessians and a full disk; what is done by then stays, and a rerun continues from it.
    """
    settings, out = experiment.config.quantize, Path(str(experiment.config.quantize.out)).expanduser()
    source, texts = _opened(experiment)
    grids, left = chosen_matrices(experiment, source)
    warnings = check_tokens(source, grids, texts.calibration.count)
    record = open_record(out, _asked(experiment, source, texts, grids, left), texts.record())
    if not record.finished:
        (out / WORK).mkdir(parents=True, exist_ok=True)
        try:
            model = _model(experiment, source, out)
            for name in sorted({name for own in (*grids, *left) for name in own}):
                model.check_exact(name)
            check_room(out, model, 4 * texts.calibration.count * source.spec.hidden_dim)
        except ConfigError:
            _leave_nothing(out)
            raise
        folder = QuantizedFolder(out, model, record)
        folder.begin()
        how = Settings(settings.damping, settings.act_order, settings.inputs is LayerInputs.original)
        seconds = _round(folder, source, grids, left, texts, how, progress)
    else:
        seconds = 0.0
    written, _ = open_weights(source.spec, path=str(out))
    quality = unseen_quality(experiment, source, written, texts.verified, progress)
    return quantize_section(record, quality, out=out, source=source, seconds=seconds, warnings=warnings)


def _opened(experiment: Experiment) -> tuple[SafetensorsWeights | GgufWeights, QuantizeTexts]:
    model, spec = experiment.config.model, experiment.spec
    source, tokenizer = open_weights(spec, path=model.files(), package=model.package, seed=experiment.config.seed)
    if not isinstance(source, (SafetensorsWeights, GgufWeights)) or tokenizer is None:
        raise ConfigError(
            f"task=quantize needs a text, and model {spec.name} has no real weights and tokenizer here.",
            "Use model=hf model.path=DIR (safetensors or GGUF, with its tokenizer) or model=smollm2_135m.",
        )
    return source, quantize_texts(experiment.config.quantize, tokenizer, experiment.config.workload.bos)


def _asked(
    experiment: Experiment, source: WeightSource, texts: QuantizeTexts, grids: Grids, left: Grids
) -> dict[str, Any]:
    """All that the folder's bytes depend on."""
    settings, ids = experiment.config.quantize, hashlib.sha256()
    for window in texts.calibration.windows:
        ids.update(window.numpy().tobytes())
    return {
        "version": 2,
        "weights": source.fingerprint,
        "model": hashlib.sha256(source.spec.identity.encode()).hexdigest()[:16],
        "text": texts.calibration.name,
        "ids": ids.hexdigest()[:16],
        "window": settings.window,
        "tokens": texts.calibration.count,
        "damping": settings.damping,
        "act_order": settings.act_order,
        "inputs": str(settings.inputs),
        "formats": [{name: str(grid) for name, grid in own.items()} for own in grids],
        "nearest": [{name: str(grid) for name, grid in own.items()} for own in left],
    }


def _model(experiment: Experiment, source: SafetensorsWeights | GgufWeights, out: Path) -> StoredModel:
    model = experiment.config.model
    files = model_files(path=model.files(), package=model.package)
    place = files[0] if isinstance(source, GgufWeights) else files[0].parent
    return StoredModel(source, place, out / WORK)


def _leave_nothing(out: Path) -> None:
    """Removes what was made before the first layer, where nothing else is there."""
    import shutil

    if [each.name for each in out.iterdir()] == [WORK]:
        shutil.rmtree(out / WORK)
        out.rmdir()


def _round(
    folder: QuantizedFolder,
    source: WeightSource,
    grids: Grids,
    left: Grids,
    texts: QuantizeTexts,
    settings: Settings,
    progress: Progress,
) -> float:
    """Rounds and writes every layer that is not there yet; the seconds that it took."""
    started, spec = time.monotonic(), source.spec
    windows = torch.stack(texts.calibration.windows)
    tables = rope_tables(spec, torch.arange(windows.shape[1]))
    x: Tensor
    if folder.record.done == 0:
        x = functional.embedding(windows, source.tensor("embedding"))
    elif folder.record.done < spec.num_layers:
        x = folder.hidden()
    each = [len(own) + len(others) for own, others in zip(grids, left, strict=True)]
    total, done = sum(each), sum(each[: folder.record.done])
    for layer in range(folder.record.done, spec.num_layers):

        def matrix_done(name: str, layer: int = layer) -> None:
            nonlocal done
            done += 1
            progress("matrices", done, total)

        rounded = round_layer(source, layer, grids[layer], x, tables, settings, matrix_done, left[layer])
        folder.add_layer(layer, rounded)
        x = rounded.output
    folder.finish()
    return time.monotonic() - started
