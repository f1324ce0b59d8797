# SPDX-License-Identifier: Apache-2.0
"""Jobs with a whole model on a described system: everything a run on a card does, but for running the programs."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
import ttnn
from kinds_of_layers import KINDS, of_kind

from tt_transformers_v2.api.attention import MultiHeadAttention
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.session import captured, open_mesh
from tt_transformers_v2.backends.ttnn.weights import arrange
from tt_transformers_v2.backends.ttnn.weights.host_weights import CacheShape, Handle, HostWeights, open_cache
from tt_transformers_v2.backends.ttnn.weights.shapes_only import ShapesOnly
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import Experiment, resolve
from tt_transformers_v2.hardware.enums import DataFormat, Placement
from tt_transformers_v2.hardware.schema import DeviceConfig
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights, layer_tensors
from tt_transformers_v2.numerics import quantize
from tt_transformers_v2.planning.split import Split
from tt_transformers_v2.run import card_job
from tt_transformers_v2.run.card_job import Measurement

SMALL = ModelSpec.uniform(1000, 512, 1, 8, 640, num_kv_heads=8, head_dim=64, name="small", qk_norm=True, qkv_bias=True)


class Checking:
    """recorder.Recorder that has ttnn check every op and runs none."""

    def __init__(self) -> None:
        self.ops: list[str] = []

    def run(self, name: str, call: Any, plan: Any = None, *, fixed: bool = False) -> Any:
        answer = captured(lambda: call(plan))
        if answer.error is not None:
            raise RuntimeError(f"{name}: {answer.error}")
        self.ops.append(name)
        return answer.value


@contextmanager
def small_weights(job: Job, home: str | None = None, spec: ModelSpec = SMALL) -> Any:
    """HostWeights of a small model on the described system, and what their disk cache warned of."""
    config = DevicePresets.get_config(job.device.device_type)
    source, split, warnings = SyntheticWeights(spec), Split.of(config, spec), []
    with open_mesh(config, job.mock) as mesh:
        disk = open_cache(source, split, config, Path(home), warnings.append) if home else None
        kv = CacheShape(2, 64, 32)
        yield HostWeights(source, split, mesh, kv=kv, lm_head_columns=64, disk=disk), config, warnings


def pieces(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """Compares every chip's piece of a matrix split by columns and of one split by rows with our own rounding."""
    compared, different = 0, []
    with small_weights(job) as (weights, _, _):
        heads = weights.split.heads
        for name, axes, dim in (("wqkv", (3, 2), 3), ("w2", (2, 3), 2)):
            whole = arrange.matrix(SMALL, weights.split, name, weights.source.tensor(name, 0))
            for form in (DataFormat.BFP4, DataFormat.BFP8, DataFormat.BF16):
                tensor = weights.from_torch(whole, form, row_major=False, axes=axes)
                for chip, piece in enumerate(ttnn.get_device_tensors(tensor)):
                    compared += 1
                    expected = quantize(whole.chunk(heads, dim)[chip][0, 0], form.value.lower())
                    if not torch.equal(ttnn.to_torch(piece).float()[0, 0], expected):
                        different.append([name, form.value, chip])
    return {"compared": compared, "different": different}


def converts(payload: dict[str, Any], job: Job) -> list[dict[str, Any]]:
    """Opens the model once for each of `rounds`, which names the formats asked for."""
    found = []
    for formats in payload["rounds"]:
        with small_weights(job, payload["home"]) as (weights, config, warnings):
            for name in ("wqkv", "wo"):
                for form in formats:
                    weights.matrix(Handle(name, 0), DataFormat(form), config)
            weights.table(Handle("embedding"), DataFormat.BF16)
            found.append({"converted": weights.disk.converted, "found": weights.disk.found, "warnings": warnings})
    return found


def as_asked(payload: dict[str, Any], job: Job) -> list[Any]:
    """Tensors on the mesh that are otherwise than the preflight's of the same name: shape, format, layout, place."""
    different = []

    def compare(name: str, real: Any, empty: Any) -> None:
        real, empty = (x if isinstance(x, (list, tuple)) else [x] for x in (real, empty))
        for one, other in zip(real, empty, strict=True):
            facts = [[list(t.shape), str(t.dtype), str(t.layout), str(t.memory_config())] for t in (one, other)]
            if facts[0] != facts[1]:
                different.append([name, *facts])

    with small_weights(job) as (weights, config, _):
        split, kv = weights.split, weights.kv
        asked = ShapesOnly(SMALL, split, weights.mesh, users=2, context=64, page=32, lm_head_columns=64)
        for name in split.matrices(SMALL):
            handle = Handle(name, None if name == "lm_head" else 0)
            compare(
                name, *(each.matrix(key, DataFormat.BFP8, config) for each, key in ((weights, handle), (asked, name)))
            )
        for name in ("attention_norm", "q_norm", "bqkv"):
            for fractured in (False, split.hidden == 1):
                found = [
                    each.vector(key, fractured=fractured) for each, key in ((weights, Handle(name, 0)), (asked, name))
                ]
                compare(name, *found)
        compare("table", weights.table(Handle("embedding"), DataFormat.BF16), asked.table("embedding", DataFormat.BF16))
        for place in Placement:
            compare(f"{place} {kv}", *(each.cache(0, DataFormat.BFP8, place) for each in (weights, asked)))
    for kind in KINDS:
        with small_weights(job, spec=of_kind(kind)) as (weights, config, _):
            _compare_tensors(weights, config, compare)
    return different


def _compare_tensors(weights: HostWeights, config: DeviceConfig, compare: Callable[[str, Any, Any], None]) -> None:
    """The tensors of a model's first layer, of its experts the first one's."""
    spec, split = weights.spec, weights.split
    asked = ShapesOnly(spec, split, weights.mesh, users=2, context=64, page=32, lm_head_columns=64)
    for name, shape in layer_tensors(spec, 0).items():
        if name.startswith("expert") and not name.startswith("expert0."):
            continue
        each = ((weights, Handle(name, 0)), (asked, name))
        if len(shape) == 2:
            compare(name, *(source.matrix(key, DataFormat.BFP8, config) for source, key in each))
            continue
        for state in (False, True):
            if name == "sinks":
                compare(name, *(source.sinks(key, 0.1, decode=state) for source, key in each))
            elif not state or split.hidden == 1:
                compare(name, *(source.vector(key, fractured=state) for source, key in each))


def experiment_of(overrides: list[str]) -> Experiment:
    checked = check_overrides(overrides)
    return resolve(compose(checked.texts), checked.typed)


@contextmanager
def model_of(overrides: list[str], home: str, job: Job) -> Any:
    """The model of an experiment as card_job opens it, checking instead of running."""
    experiment = experiment_of(overrides)
    config = experiment.config
    source, _ = open_weights(experiment.spec, path=config.model.path, package=config.model.package)
    with Measurement(experiment, Path(home), job)._model(source, None, Checking()) as model:
        yield model


def walks(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """Prefill of the last user, every token's logits, a decode step, its trace. Returns shapes and op counts."""
    with model_of(payload["overrides"], payload["home"], job) as model:
        users, found = model.kv.users, {}
        found["prefill"] = list(model.prefill(list(range(payload["prompt"])), users - 1).shape)
        found["converted"], found["found"] = model.weights.disk.converted, model.weights.disk.found
        if payload.get("prompt_only"):
            return found
        found["all"] = [list(piece.shape) for piece in model.all_logits(list(range(40)))]
        where = [payload["prompt"]] * users
        found["decode"] = list(model.decoder.step([1] * users, where).shape)
        model.decoder.record([1] * users, where)
        found["traced"] = model.decoder.traced
        model.decoder.release()
        found["ops"] = sorted(set(model._common["recorder"].ops))
        return found


def fills_dram(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """Prefill where something else has taken nearly all of the DRAM."""
    spec = ttnn.TensorSpec((1, 1, 4096, 32768), ttnn.bfloat16, ttnn.TILE_LAYOUT)
    with model_of(payload["overrides"], payload["home"], job) as model:
        taken: list[Any] = []
        with suppress(RuntimeError):
            while True:
                taken.append(ttnn.allocate_tensor_on_device(spec, model.mesh))
        model.prefill(list(range(32)))
    return {}


def measures(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """The whole job of a task; logits are the zeros that a described system's memory reads as, times those of checks.

    A described system can record a trace but has nothing to replay it, so decode is not traced.
    """
    card_job.SLOW_DISPATCH = "PATH"
    card_job.RUNS = card_job.STEPS = 1
    return Measurement(experiment_of(payload["overrides"]), Path(payload["home"]), job).result(Checking())


def reads_logits(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """Logits that were cut over the mesh on this machine, put together again by the model's own composer."""
    with model_of(payload["overrides"], payload["home"], job) as model:
        weights, vocabulary = model.weights, model.spec.vocab_size
        whole = torch.randn(1, 1, 32, weights.split.width(vocabulary) * weights.split.heads).bfloat16().float()
        cut = weights.from_torch(whole, DataFormat.BF16, row_major=False, axes=(3, None))
        return {"equal": torch.equal(model.read_logits(cut), whole[0, 0, :, :vocabulary])}


def attends(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """The seed's MultiHeadAttention on an open mesh."""
    config = DevicePresets.get_config(job.device.device_type)
    checking = Checking()
    with open_mesh(config, job.mock) as mesh:
        described = DevicePresets.get_config(payload["described"]) if "described" in payload else None
        attention = MultiHeadAttention(payload["hidden"], payload["heads"], device=mesh, hw_config=described)
        attention.recorder = checking
        out = attention(torch.randn(2, 50, payload["hidden"]))
    return {"shape": list(out.shape), "device": str(attention.hw_config.device_type), "ops": checking.ops}
