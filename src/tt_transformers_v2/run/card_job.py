# SPDX-License-Identifier: Apache-2.0
"""What `on_card` runs in the process that opens the device: a model on a mesh, its accuracy and its speed."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..accuracy import walk as accuracy
from ..accuracy.accuracy_result import Bars, metrics
from ..accuracy.evaluation_text import EvaluationTokens
from ..accuracy.used_programs import programs_section
from ..backends.reference import ReferenceOps
from ..backends.ttnn.advice import advised
from ..backends.ttnn.measure_speed import measure_speed, median
from ..backends.ttnn.mesh_model import TtnnModel
from ..backends.ttnn.preflight_walk import group_mesh, question_of
from ..backends.ttnn.process.availability import look_around
from ..backends.ttnn.process.child import Job
from ..backends.ttnn.process.failures import own_words
from ..backends.ttnn.process.session import differences, open_mesh
from ..backends.ttnn.recording.autofit import Fitting, memory_named
from ..backends.ttnn.recording.recorder import Recorder
from ..backends.ttnn.weights.host_weights import CacheShape, HostWeights, open_cache
from ..common.errors import ConfigError
from ..common.units import TILE
from ..config.device_presets import DevicePresets
from ..config.experiment_json import from_sections
from ..config.experiment_schema import Task
from ..config.planned import lm_head_columns, op_plans, row_limit
from ..config.resolve import Experiment
from ..hardware.op_table import EXPERT_MATRICES, MATRICES, PREFILL
from ..hardware.schema import DeviceSpec
from ..models.decoder import decoder_layer, each_layer, final_hidden
from ..models.open_model import open_weights
from ..models.rope import rope_tables
from ..models.weights import WeightSource
from ..perf.ops import padded_prompt
from ..planning.attention_chunks import cache_tokens
from ..planning.op_plans import ordered_kinds
from ..planning.split import Split
from .calibrated_weights import calibrated_weights
from .measure_task import evaluation_tokens
from .this_machine import device_of

RUNS, STEPS = 5, 64  # timed prompts and timed decode steps
SLOW_DISPATCH = "TT_METAL_SLOW_DISPATCH_MODE"  # set, ttnn has no command queues and so no traces


def measure(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """The `accuracy` section and the `measured` part of the `performance` section of an experiment's result.

    `payload` has the resolved `experiment` (config.experiment_json) and `home`, the folder of the weight cache.
    Either section is None where the task does not ask for it. Raises ConfigError.
    """
    experiment = from_sections(payload["experiment"])
    return Measurement(experiment, Path(payload["home"]), job).result(Fitting(experiment.config.runtime.autofit))


@dataclass
class Measurement:
    """One experiment on the way through a device."""

    experiment: Experiment
    home: Path
    job: Job

    def result(self, recorder: Recorder) -> dict[str, Any]:
        """`accuracy` and `measured` as `measure` returns them, every op run through `recorder`. Raises ConfigError."""
        config, task = self.experiment.config, self.experiment.config.task
        source, tokenizer = open_weights(
            self.experiment.spec, path=config.model.files(), package=config.model.package, seed=config.seed
        )
        tokens = expected = None
        own = source
        if task is not Task.performance:
            tokens = evaluation_tokens(self.experiment, tokenizer)
            # The reference is computed before the device is opened, which then serves nobody else.
            expected = reference_hidden(source, tokens, self._progress)
            if config.quantize.weights:
                own = calibrated_weights(config.quantize.weights, source, tokens)
        found: dict[str, Any] = {"accuracy": None, "measured": None}
        with self._model(own, tokens, recorder) as model:
            if tokens is not None and expected is not None:
                found["accuracy"] = self._accuracy(model, source, tokens, expected)
                found["accuracy"]["programs"] = self._programs(tokens, recorder)
                found["accuracy"]["calibrated_weights"] = config.quantize.weights
            if task is not Task.accuracy:
                found["measured"] = self._speed(model, recorder)
        return found

    @contextmanager
    def _model(self, source: WeightSource, tokens: EvaluationTokens | None, recorder: Recorder) -> Iterator[TtnnModel]:
        experiment, hardware = self.experiment, self.experiment.hardware
        split, device = Split.of(hardware, experiment.spec), str(hardware.device_type)
        with ExitStack() as stack:
            stack.enter_context(memory_named(device))
            stack.enter_context(advised(question_of(experiment)))
            refuse_other(unlike(identify({}, self.job), hardware.spec), device)
            mesh = stack.enter_context(open_mesh(hardware, self.job.mock))
            refuse_other(differences(mesh, hardware.spec), device)
            weights = HostWeights(
                source,
                split,
                group_mesh(mesh, hardware, experiment.spec),
                kv=kv_cache(experiment, tokens),
                lm_head_columns=lm_head_columns(experiment.hardware, experiment.spec),
                disk=open_cache(source, split, hardware, self.home, lambda line: self.job.progress(warning=line)),
                placed=lambda count: self.job.progress(stage="tensors", done=count, total=None),
            )
            yield TtnnModel(weights, hardware, recorder, **run_settings(experiment))

    def _accuracy(
        self, model: TtnnModel, source: WeightSource, tokens: EvaluationTokens, expected: list[Tensor]
    ) -> dict[str, Any]:
        """Teacher forcing: logits after every token of every window, from prefill, beside the reference's."""
        head, measured = source.tensor("lm_head"), 0
        walk = accuracy.Walk(source.spec.num_layers)
        for place, (window, hidden) in enumerate(zip(tokens.windows, expected, strict=True)):
            agreement = walk.agreement_on(tokens, place)
            targets = torch.cat([window[1:], torch.tensor([-1])])
            done = 0
            for found in model.all_logits(window.tolist()):
                piece = slice(done, done + len(found))
                agreement.add(found, hidden[piece] @ head, targets[piece], done)
                done += len(found)
                self._progress("tokens", measured + done, tokens.count)
            measured += done
        walk.pool()
        return {
            "numerics": self._through(),
            "tensor_parallel": "as on the card",
            **metrics(walk, source, tokens, self._where(), bars=Bars.of(self.experiment)),
        }

    def _programs(self, tokens: EvaluationTokens, recorder: Recorder) -> list[dict[str, Any]]:
        """By which plans every matmul and the attention of the windows ran."""
        hardware, spec = self.experiment.hardware, self.experiment.spec
        plans = op_plans(self.experiment)
        most = hardware.max_prefill_chunk_size
        lengths = sorted({min(padded_prompt(len(window)), most) for window in tokens.windows})
        fitted = recorder.fitted if isinstance(recorder, Fitting) else {}
        used = []
        known = [op for op in (*MATRICES.values(), *EXPERT_MATRICES.values()) if op.matrix in plans.parts]
        for op in known:
            for own, layers in ordered_kinds(hardware, spec.num_layers) if op.in_layer else [(hardware, [None])]:
                at = plans if layers[0] is None else plans.at_layer(layers[0])
                for rows in [TILE] if op.one_tile else lengths:
                    planned = at.matmul(op, PREFILL, rows, *plans.parts[op.matrix])
                    used.append((op, PREFILL, own, planned.replaced_by(fitted.get((op.op_group, planned.plan)))))
        attended = [
            (PREFILL, own, *plans.at_layer(layers[0]).attention(PREFILL, rows))
            for own, layers in ordered_kinds(hardware, spec.num_layers)
            for rows in lengths
        ]
        return programs_section(used, attended, hardware, spec.num_layers)

    def _speed(self, model: TtnnModel, recorder: Recorder) -> dict[str, Any]:
        experiment, workload = self.experiment, self.experiment.config.workload
        users, vocabulary = model.kv.users, experiment.spec.vocab_size
        generator = torch.Generator().manual_seed(experiment.config.seed)
        prompts = torch.randint(vocabulary, (users, workload.prompt_length), generator=generator).tolist()
        trace = SLOW_DISPATCH not in os.environ
        timings = measure_speed(
            model, prompts, context=experiment.context, runs=RUNS, steps=STEPS, trace=trace, progress=self._progress
        )
        per_user = 1000 / median(timings.steps_ms)
        groups = experiment.hardware.parallelism.data_parallel_size
        return {
            "basis": f"{self._where()}; greedy sampling on the host, decode {'traced' if trace else 'not traced'}, "
            "prompts of random token ids"
            + ("; times are those of a simulator, not of a card" if look_around().simulator else ""),
            "ttft_ms": median(timings.prompts_ms),
            "decode_tokens_per_s_per_user": per_user,
            "users": users,
            "groups_measured": 1,
            "groups": groups,
            "prompts_ms": timings.prompts_ms,
            "steps_ms": timings.steps_ms,
            "plans_made_smaller": recorder.smaller if isinstance(recorder, Fitting) else 0,
        }

    def _where(self) -> str:
        where = "Tenstorrent's simulator of " if look_around().simulator else ""
        return f"measured on {where}{self.experiment.hardware.device_type} through {self._through()}"

    @staticmethod
    def _through() -> str:
        return f"ttnn {look_around().version}"

    def _progress(self, stage: str, done: int, total: int) -> None:
        self.job.progress(stage=stage, done=done, total=total)


def refuse_other(found: list[str], device: str) -> None:
    """Raises ConfigError when the opened system is not the configured one."""
    if found:
        raise ConfigError(
            " ".join(found), f"This machine is not device={device.lower()}; device=auto takes what it is and has."
        )


def unlike(seen: dict[str, Any], spec: DeviceSpec) -> list[str]:
    """What `identify` saw that is otherwise than `spec` says, one sentence each."""
    arch, chips = spec.chip.arch.value, spec.chips
    found = []
    if seen["arch"] != arch:
        found.append(f"{spec.device_type}: the machine's chips are {seen['arch']}, but the device file says {arch}.")
    if seen["chips"] != chips:
        found.append(f"{spec.device_type}: the machine has {seen['chips']} chips, but the device file says {chips}.")
    return found


def reference_hidden(
    source: WeightSource, tokens: EvaluationTokens, progress: Callable[[str, int, int], None]
) -> list[Tensor]:
    """The float32 reference's normed output of the last layer for every window, [tokens, hidden] each."""
    spec, ops = source.spec, ReferenceOps()
    table = source.tensor("embedding")
    streams = [ops.embed(window[None], table) for window in tokens.windows]
    for weights in each_layer(source, keep=True):
        progress("reference layers", weights.layer, spec.num_layers)
        for i, x in enumerate(streams):
            streams[i] = decoder_layer(ops, spec, weights, x, rope_tables(spec, torch.arange(x.shape[1])))
    progress("reference layers", spec.num_layers, spec.num_layers)
    return [final_hidden(ops, spec, source, x)[0] for x in streams]


def kv_cache(experiment: Experiment, tokens: EvaluationTokens | None) -> CacheShape:
    """The cache that every part of the task fits in: padded windows, padded prompts, and context with new tokens."""
    config, hardware = experiment.config, experiment.hardware
    users, needed = 1, 0
    if tokens is not None:
        needed = max(padded_prompt(len(window)) for window in tokens.windows)
    if config.task is not Task.accuracy:
        users = math.ceil(config.workload.batch / hardware.parallelism.data_parallel_size)
        needed = max(needed, padded_prompt(config.workload.prompt_length), experiment.context + STEPS + 1)
    page = config.runtime.kv_page_size
    return CacheShape(users, cache_tokens(needed, page), page)


def run_settings(experiment: Experiment) -> dict[str, Any]:
    """Fields of ops.Run that come from the experiment and are the same in both phases."""
    runtime = experiment.config.runtime
    return {
        "readers_per_bank": runtime.dram_readers_per_bank or 1,
        "row_limit": row_limit(experiment.hardware, experiment.spec),
        "lm_head_columns": lm_head_columns(experiment.hardware, experiment.spec),
        "programs": runtime.programs,
    }


def identify(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """What ttnn says this machine is, without opening it: its name of the system, architecture, number of chips."""
    import ttnn

    return {
        "cluster": ttnn.cluster.get_cluster_type().name,
        "arch": ttnn.get_arch_name(),
        "chips": ttnn.get_num_devices(),
    }


def look(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """What `identify` says, and the `grid` (columns, rows of cores for programs) of the system as its device file would
    have it opened; None, with the reason in `why`, where it cannot be opened or no file describes it."""
    seen = identify(payload, job) | {"grid": None, "why": None}
    try:
        with open_mesh(DevicePresets.get_config(device_of(seen)).spec, job.mock) as mesh:
            grid = mesh.compute_with_storage_grid_size()
            seen["grid"] = [grid.x, grid.y]
    except (ConfigError, RuntimeError) as error:
        seen["why"] = own_words(str(error)) or type(error).__name__
    return seen
