# SPDX-License-Identifier: Apache-2.0
"""task=accuracy, performance and both: measured on a backend of this machine, or on a card."""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError
from ..common.garbage import uncollected
from ..common.terminal import ProgressLine
from ..common.units import GIB
from ..config.experiment_schema import BackendName, Part, Task
from ..config.resolve import Experiment
from .host_backend import emulated_ops
from .performance import performance_section
from .tasks import Job, Outcome, runs

if TYPE_CHECKING:
    from ..accuracy.evaluation_text import EvaluationTokens
    from ..accuracy.packed_store import PackedStore
    from ..accuracy.reference_store import ReferenceStore
    from ..models.tokenizer import Tokenizer
    from ..models.weights import WeightSource


@runs(Task.accuracy, Task.performance, Task.both)
def measure_task(job: Job) -> Outcome:
    """The `accuracy` and `performance` sections that the task asks for."""
    experiment = job.experiment
    if experiment.config.backend.name is BackendName.ttnn:
        from .on_card import sections

        with ProgressLine(experiment.spec.name, enabled=job.show_progress) as progress:
            return Outcome(sections(experiment, progress.update))
    found: dict[str, Any] = {}
    if experiment.config.task is not Task.performance:
        # Of caches: what they hold is complete when the run ends, also where it fails.
        with ThreadPoolExecutor(1, thread_name_prefix="caches") as background:
            found["accuracy"] = _accuracy(job, background)
    if experiment.config.task is not Task.accuracy:
        found["performance"] = performance_section(experiment)
    return Outcome(found)


def _accuracy(job: Job, background: Executor) -> dict[str, Any]:
    with uncollected():
        from ..accuracy.accuracy_result import Bars, metrics
        from ..accuracy.state_reuse import References
        from ..accuracy.used_programs import programs_section
        from ..accuracy.walk import Phases, measure
        from ..backends import open_backend
        from ..models.open_model import open_weights

    experiment = job.experiment
    config, workload = experiment.config, experiment.config.workload
    # What cannot run here is said before anything is read.
    reference = open_backend("reference", experiment.hardware)
    source, tokenizer = open_weights(
        experiment.spec, path=config.model.files(), package=config.model.package, seed=config.seed
    )
    tokens = evaluation_tokens(experiment, tokenizer)
    kept = None if job.shared is None else job.shared.of(source, lambda: _reference_store(experiment))
    references = None if kept is None else kept.references
    if references is None and not source.synthetic:
        # A single run keeps nothing in memory for others, but finds what earlier ones left on disk.
        references = References(0, _reference_store(experiment, background))
    candidate: Any = reference
    own = None
    if config.quantize.weights:
        from .calibrated_weights import calibrated_weights

        own = calibrated_weights(config.quantize.weights, source, tokens)
        candidate = open_backend("reference", experiment.hardware)
    how: dict[str, Any] = {"numerics": "float32", "tensor_parallel": "one chip", "programs": None}
    how["calibrated_weights"] = config.quantize.weights
    phases = Phases(workload.prefill_tokens, experiment.hardware.max_prefill_chunk_size)
    if config.backend.name is BackendName.emulated:
        candidate = emulated_ops(
            experiment,
            tokens=tokens.count,
            window=workload.window,
            synthetic=source.synthetic,
            prepared=None if kept is None else kept.prepared,
            # Several jobs keep them in memory.
            packed=_packed_store(experiment, source, background) if kept is None else None,
        )
        how["numerics"] = candidate.numerics
        how["tensor_parallel"] = str(candidate.chips)
    with ProgressLine(f"accuracy of {experiment.spec.name}", enabled=job.show_progress) as progress:
        walk = measure(
            source if kept is None else kept.source,
            tokens,
            candidate,
            reference,
            max_seconds=workload.max_seconds,
            progress=progress.update,
            phases=phases,
            isolated=config.accuracy.isolated,
            references=references,
            own=own,
        )
    if config.backend.name is BackendName.emulated:
        used = [(own.op, own.phase, own.hardware, own.planned) for own in candidate.used.values()]
        attended = candidate.attended.values()
        how["programs"] = programs_section(used, attended, experiment.hardware, experiment.spec.num_layers)
    bars, prompt = Bars.of(experiment), workload.prefill_tokens
    return how | metrics(walk, source, tokens, candidate.name, bars=bars, prefill_tokens=prompt)


def _bytes_of(gib: float) -> int:
    """More than any disk has is no limit."""
    return int(min(gib * GIB, 2**63))


def _reference_store(experiment: Experiment, background: Executor | None = None) -> ReferenceStore | None:
    from ..accuracy.reference_store import ReferenceStore
    from ..common.checkout import outputs_dir
    from ..models.open_model import model_files

    most, model = _bytes_of(experiment.config.cache.reference_gib), experiment.config.model
    if not most:
        return None
    files = model_files(path=model.files(), package=model.package)
    return ReferenceStore(outputs_dir() / "cache" / "reference", most, files, background)


def _packed_store(experiment: Experiment, source: WeightSource, background: Executor) -> PackedStore | None:
    """None for weights that are drawn, and for more than there is room for: of those none would be left to be found."""
    from ..accuracy.packed_store import PackedStore
    from ..common.checkout import outputs_dir
    from ..models.open_model import model_files

    most, model = _bytes_of(experiment.config.cache.weights_gib), experiment.config.model
    if source.synthetic or 2 * source.spec.num_parameters > most:
        return None
    files = model_files(path=model.files(), package=model.package)
    return PackedStore(outputs_dir() / "cache" / "weights", most, source, files, background)


def evaluation_tokens(experiment: Experiment, tokenizer: Tokenizer | None) -> EvaluationTokens:
    """The user's texts or the default one, or random token ids for a model without a tokenizer."""
    from ..accuracy.evaluation_text import random_windows, read_text, text_windows, windows_of_texts

    config, workload = experiment.config, experiment.config.workload
    default = type(workload)().texts
    if workload.text_file is not None and workload.texts != default:
        raise ConfigError("workload.text_file and workload.texts are both set.", "Add the file to workload.texts.")
    tokens, window = workload.tokens, workload.window
    if tokenizer is not None:
        how: dict[str, Any] = {"skip": workload.skip, "part": workload.part, "bos": workload.bos}
        if workload.text_file is not None:
            return text_windows(tokenizer, *read_text(workload.text_file), tokens, window, **how)
        return windows_of_texts(tokenizer, workload.texts, tokens, window, **how)
    why = _why_random(experiment)
    asked = {
        "text_file": workload.text_file is not None,
        "texts": workload.texts != default,
        "skip": workload.skip > 0,
        "part": workload.part is not Part.all,
        "bos": workload.bos is not None,
    }
    if any(asked.values()):
        which = ", ".join(f"workload.{name}" for name, is_set in asked.items() if is_set)
        raise ConfigError(
            f"{which} cannot be used: this model has no tokenizer{f' ({why})' if why else ''}.",
            "Use model.path=DIR with a tokenizer.json.",
        )
    return random_windows(experiment.spec.vocab_size, tokens, window, config.seed, why)


def _why_random(experiment: Experiment) -> str:
    """Why real weights have no text; "" for synthetic ones."""
    from ..models.open_model import why_no_tokenizer

    model = experiment.config.model
    return why_no_tokenizer(path=model.files(), package=model.package)
