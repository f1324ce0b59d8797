# SPDX-License-Identifier: Apache-2.0
"""Runs one experiment and writes its result, whatever happens on the way."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..hardware.errors import ConfigError
from .configuration import Experiment, hash_of, plain
from .numerics_choice import choose_numerics
from .results import SCHEMA_VERSION, environment, git_state, write_result
from .settings import SEARCHING, BackendName, Part, Task
from .summary import GIB, ProgressLine

if TYPE_CHECKING:
    from ..models.tokenizer import Tokenizer
    from .reference_store import ReferenceStore
    from .text import EvaluationTokens


def run(
    experiment: Experiment,
    folder: Path,
    overrides: Sequence[str] = (),
    *,
    show_progress: bool = True,
    reuse: bool = False,
) -> dict[str, Any]:
    """Runs `experiment`, writes result.json into `folder` and returns it.

    With `reuse`, weights and the reference's states stay in memory for the next job of this process.

    Anything that stops the experiment is recorded with status "failed" and raised again; a ConfigError (a mistake of
    the user's) and an interrupt are raised without a result, so that nothing half-written stays.
    """
    started = time.monotonic()
    result = blank_result(overrides) | {
        "config": (config := experiment.to_dict()),
        "config_hash": hash_of(config),
    }
    result["findings"] = [plain(finding) for finding in experiment.findings]
    result["rules"] = [plain(effect) for effect in experiment.effects if effect.changed]
    try:
        failure = None
        if experiment.config.task is Task.preflight:
            result["preflight"], failure = _preflight(experiment, show_progress)
        elif experiment.config.task in SEARCHING:
            result["search"] = _search(experiment, folder, show_progress)
            result["performance"] = _performance(experiment)
        elif experiment.config.backend.name is BackendName.ttnn:
            result |= _on_card(experiment, show_progress)
        else:
            if experiment.config.task is not Task.performance:
                result["accuracy"] = _accuracy(experiment, show_progress, reuse)
            if experiment.config.task is not Task.accuracy:
                result["performance"] = _performance(experiment)
        result["status"], result["error"] = ("ok", None) if failure is None else ("failed", failure)
    except (ConfigError, KeyboardInterrupt):
        raise
    except BaseException as error:
        result["status"] = "failed"
        result["error"] = f"{type(error).__name__}: {error}".strip()
        result["seconds"] = time.monotonic() - started
        write_result(folder, result)
        raise
    result["seconds"] = time.monotonic() - started
    write_result(folder, result)
    return result


def blank_result(overrides: Sequence[str]) -> dict[str, Any]:
    """A result with every key in its place and nothing measured."""
    return {
        "schema_version": SCHEMA_VERSION,
        "status": "failed",
        "error": None,
        "overrides": list(overrides),
        "config": None,
        "config_hash": None,
        "git": git_state(),
        "environment": environment(),
        "findings": [],
        "rules": [],
        "accuracy": None,
        "performance": None,
        "preflight": None,
        "search": None,
        "seconds": None,
    }


def _accuracy(experiment: Experiment, show_progress: bool, reuse: bool) -> dict[str, Any]:
    from ..backends import open_backend
    from ..backends.emulated import EmulatedOps
    from ..models.open_model import open_weights
    from .accuracy import Phases, measure
    from .accuracy_section import Bars, metrics
    from .reuse import shared

    config, workload = experiment.config, experiment.config.workload
    # What cannot run here is said before anything is read.
    reference = open_backend("reference", experiment.hardware)
    source, tokenizer = open_weights(
        experiment.spec, path=config.model.path, package=config.model.package, seed=config.seed
    )
    tokens = evaluation_tokens(experiment, tokenizer)
    kept = shared(source, lambda: _reference_store(experiment)) if reuse else None
    candidate: Any = reference
    how = {"numerics": "float32", "tensor_parallel": "one chip"}
    phases = Phases(workload.prefill_tokens, experiment.hardware.max_prefill_chunk_size)
    if config.backend.name is BackendName.emulated:
        how["numerics"] = choose_numerics(
            config.backend.numerics.value,
            experiment.spec,
            experiment.hardware,
            tokens=tokens.count,
            window=workload.window,
            synthetic=source.synthetic,
            max_seconds=config.backend.exact_max_seconds,
        )
        candidate = EmulatedOps(
            experiment.hardware,
            how["numerics"],
            None if kept is None else kept.prepared,
            tensor_parallel=config.backend.tensor_parallel,
        )
        how["tensor_parallel"] = str(candidate.chips)
    with ProgressLine(f"accuracy of {experiment.spec.name}", enabled=show_progress) as progress:
        walk = measure(
            source if kept is None else kept.source,
            tokens,
            candidate,
            reference,
            max_seconds=workload.max_seconds,
            progress=progress.update,
            phases=phases,
            isolated=config.accuracy.isolated,
            references=None if kept is None else kept.references,
        )
    bars, prompt = Bars.of(experiment), workload.prefill_tokens
    return how | metrics(walk, source, tokens, candidate.name, bars=bars, prefill_tokens=prompt)


def _reference_store(experiment: Experiment) -> ReferenceStore | None:
    from ..hardware.composition import outputs_dir
    from ..models.open_model import model_files
    from .reference_store import ReferenceStore

    most, model = int(experiment.config.cache.reference_gib * GIB), experiment.config.model
    if not most:
        return None
    return ReferenceStore(
        outputs_dir() / "cache" / "reference", most, model_files(path=model.path, package=model.package)
    )


def evaluation_tokens(experiment: Experiment, tokenizer: Tokenizer | None) -> EvaluationTokens:
    """The user's texts or the default one, or random token ids for a model without a tokenizer."""
    from .text import random_windows, read_text, text_windows, windows_of_texts

    config, workload = experiment.config, experiment.config.workload
    default = type(workload)().texts
    if workload.text_file is not None and workload.texts != default:
        raise ConfigError("workload.text_file and workload.texts are both set.", "Put the file among workload.texts.")
    tokens, window = workload.tokens, workload.window
    if tokenizer is not None:
        how: dict[str, Any] = {"skip": workload.skip, "part": workload.part}
        if workload.text_file is not None:
            return text_windows(tokenizer, *read_text(workload.text_file), tokens, window, **how)
        return windows_of_texts(tokenizer, workload.texts, tokens, window, **how)
    asked = {
        "text_file": workload.text_file is not None,
        "texts": workload.texts != default,
        "skip": workload.skip > 0,
        "part": workload.part is not Part.all,
    }
    if any(asked.values()):
        which = ", ".join(f"workload.{name}" for name, is_set in asked.items() if is_set)
        raise ConfigError(
            f"{which} cannot be: this model has no tokenizer.", "Give model.path=DIR with tokenizer.json."
        )
    return random_windows(experiment.spec.vocab_size, tokens, window, config.seed)


def _performance(experiment: Experiment) -> dict[str, Any]:
    from .performance import performance_section

    return performance_section(experiment)


def _preflight(experiment: Experiment, show_progress: bool) -> tuple[dict[str, Any], str | None]:
    """The section, and why it did not pass."""
    from .preflight.section import failure_of, preflight_section

    with ProgressLine(f"preflight of {experiment.spec.name}", enabled=show_progress) as progress:
        section = preflight_section(experiment, progress.update)
    return section, failure_of(section)


def _search(experiment: Experiment, folder: Path, show_progress: bool) -> dict[str, Any]:
    from .search.job import run_search

    with ProgressLine(f"{experiment.config.task} of {experiment.spec.name}", enabled=show_progress) as progress:
        return run_search(experiment, folder, progress.update)


def _on_card(experiment: Experiment, show_progress: bool) -> dict[str, Any]:
    from .on_card import sections

    with ProgressLine(experiment.spec.name, enabled=show_progress) as progress:
        return sections(experiment, progress.update)
