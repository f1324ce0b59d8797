# SPDX-License-Identifier: Apache-2.0
"""Jobs of test_on_device.py: SmolLM2's real weights through ttnn, beside what this project says comes out.

On a described system the same code runs, every op is checked by ttnn, and what is read back means nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from ttnn_model_jobs import Checking, experiment_of

from places import DATA
from tt_transformers_v2.accuracy.agreement import pcc
from tt_transformers_v2.backends.emulated.emulated_ops import EmulatedOps, format_name
from tt_transformers_v2.backends.reference import ReferenceOps
from tt_transformers_v2.backends.ttnn import conversions
from tt_transformers_v2.backends.ttnn.mesh_model import TtnnModel
from tt_transformers_v2.backends.ttnn.ops.decoder_run import Run
from tt_transformers_v2.backends.ttnn.ops.ttnn_ops import TtnnOps
from tt_transformers_v2.backends.ttnn.preflight_walk import group_mesh
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.session import open_mesh
from tt_transformers_v2.backends.ttnn.recording.autofit import Fitting
from tt_transformers_v2.backends.ttnn.weights import arrange
from tt_transformers_v2.backends.ttnn.weights.host_weights import CacheShape, Handle, Handles, HostWeights
from tt_transformers_v2.hardware.enums import DataFormat
from tt_transformers_v2.hardware.op_table import DECODE, MATRICES, PREFILL, RESIDUAL_ADD, ModelOp
from tt_transformers_v2.models.decoder import LayerWeights, decoder_layer
from tt_transformers_v2.models.open_model import open_weights
from tt_transformers_v2.models.rope import rope_tables
from tt_transformers_v2.models.weights import WeightSource
from tt_transformers_v2.numerics import matmul, quantize
from tt_transformers_v2.planning.split import Split
from tt_transformers_v2.run.card_job import run_settings

VOCABULARY = 4096  # the first so many tokens: a simulator multiplies slowly
ROWS = {PREFILL: 64, DECODE: 32}


class Beginning:
    """A weight source of the first layers and the first tokens of another."""

    def __init__(self, whole: WeightSource, layers: int) -> None:
        self.whole, self.basis, self.synthetic = whole, whole.basis, whole.synthetic
        self.spec = dataclasses.replace(whole.spec, num_layers=layers, vocab_size=VOCABULARY)
        self.fingerprint = f"{whole.fingerprint}-{layers}-{VOCABULARY}"

    def tensor(self, name: str, layer: int | None = None) -> Tensor:
        found = self.whole.tensor(name, layer)
        if name == "embedding":
            return found[:VOCABULARY].contiguous()
        return found[:, :VOCABULARY].contiguous() if name == "lm_head" else found


class Noting:
    """recorder.Recorder that remembers with which plan each op was done in the end."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.done = inner, []

    def run(self, name: str, call: Any, plan: Any = None, *, fixed: bool = False) -> Any:
        last = [plan]

        def noted(tried: Any) -> Any:
            last[0] = tried
            return call(tried)

        value = self.inner.run(name, noted, plan, fixed=fixed)
        self.done.append((name, last[0]))
        return value

    def plan_of(self, name: str) -> Any:
        return next(plan for op, plan in reversed(self.done) if op == name)


def opened(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """What the system opens with."""
    with open_mesh(job.device, job.mock) as mesh:
        grid, banks = mesh.compute_with_storage_grid_size(), mesh.dram_grid_size()
        return {"grid": [grid.x, grid.y], "banks": banks.x * banks.y}


@contextmanager
def beginning_of(payload: dict[str, Any], job: Job, *, layers: int, kv: CacheShape) -> Iterator[TtnnModel]:
    """The first layers of the experiment's model on the system, or on one of its data-parallel groups."""
    experiment = experiment_of(payload["overrides"])
    if experiment.errors:
        raise AssertionError(experiment.errors)
    whole, _ = open_weights(experiment.spec, package=experiment.config.model.package)
    source, hardware = Beginning(whole, layers), experiment.hardware
    with open_mesh(hardware, job.mock) as system:
        mesh, recorder = group_mesh(system, hardware, source.spec), Noting(Checking() if job.mock else Fitting(True))
        split, settings = Split.of(hardware, source.spec), run_settings(experiment)
        columns = settings["lm_head_columns"]
        weights = HostWeights(source, split, mesh, kv=kv, lm_head_columns=columns, disk=None)
        yield TtnnModel(weights, hardware, recorder, **settings)


# ---- linears ----


def linears(payload: dict[str, Any], job: Job) -> list[dict[str, Any]]:
    """A row for every matrix of a layer and the LM head, in both phases: how many values differ from the emulation's.

    `k` is in0_block_w of the program, `emulated` the correlation of the emulation with the float product.
    """
    rows = []
    with beginning_of(payload, job, layers=1, kv=CacheShape(32, 64, None)) as model:
        for phase in (PREFILL, DECODE):
            for name, op in MATRICES.items():
                rows.append({"phase": phase, "matrix": name, **_linear(model, phase, name, op)})
    return rows


def _linear(model: TtnnModel, phase: str, name: str, op: ModelOp) -> dict[str, Any]:
    import ttnn

    config, spec, recorder = model.config, model.spec, model._common["recorder"]
    handle = Handle(name, 0 if op.in_layer else None)
    weight = arrange.matrix(spec, model.weights.split, name, model.weights.source.tensor(*handle))[0, 0]
    generator = torch.Generator().manual_seed(len(name) + ROWS[phase])
    rows = 32 if op.one_tile else ROWS[phase]
    x = quantize(torch.randn(rows, weight.shape[0], generator=generator), "bf16")

    ops = TtnnOps(Run(**model._common, phase=phase, rows=rows), config)
    placed = model.weights.put(x[None, None], ttnn.bfloat16, tile=True)
    product = ops.linear(placed, ops.matrix(handle, op), None, op)
    found = model.weights.whole(product, None, None)[0, 0]

    plan, stored = recorder.plan_of(op.op_group), format_name(config.precision.of(op.tensor_group))
    expected = emulated(model, x, quantize(weight, stored), op, phase, plan.in0_block_w)
    return {
        "k": plan.in0_block_w,
        "shape": list(found.shape),
        "values": expected.numel(),
        "differing": int((found[:, : weight.shape[1]] != expected).sum()),
        "emulated": pcc(expected, x @ weight),
    }


def emulated(model: TtnnModel, x: Tensor, weight: Tensor, op: ModelOp, phase: str, block: int) -> Tensor:
    """What the matrix unit makes of x @ weight with blocks of K of `block` tiles."""
    kernel = model.config.kernel(op, phase)
    return matmul(
        x,
        weight,
        math_fidelity=kernel.math_fidelity.value,
        fp32_dest_acc_en=kernel.fp32_dest_acc_en,
        packer_l1_acc=kernel.packer_l1_acc,
        arch={"wormhole_b0": "wormhole", "blackhole": "blackhole"}[model.config.spec.chip.arch.value],
        in0_block_w=block,
        out=format_name(model.config.activations(op)),
    )


# ---- a layer ----


def layer(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """SmolLM2's first layer over its own embeddings: correlations with the emulation and the float32 reference."""
    with beginning_of(payload, job, layers=1, kv=CacheShape(1, 64, None)) as model:
        source, spec, rows = model.weights.source, model.spec, ROWS[PREFILL]
        tokens = torch.randint(VOCABULARY, (rows,), generator=torch.Generator().manual_seed(1))
        x = quantize(source.tensor("embedding")[tokens], "bf16")[None]
        run, tables = model.prompt(rows, 0, 0)
        ops, kept = TtnnOps(run, model.config), LayerWeights(Handles(spec), 0)  # type: ignore[arg-type]
        placed = model.weights.split_hidden(x[None], model.config.activations(RESIDUAL_ADD))
        found = model.weights.whole(decoder_layer(ops, spec, kept, placed, tables), None, None)[0]
        host_tables = rope_tables(spec, torch.arange(rows))
        reference, emulation = (
            decoder_layer(own, spec, LayerWeights(source, 0), x, host_tables)
            for own in (ReferenceOps(), EmulatedOps(model.config, "exact"))
        )
    return {
        "shape": list(found.shape),
        "ops": sorted({name for name, _ in model._common["recorder"].done}),
        "device_and_emulation": pcc(found, emulation),
        "device_and_reference": pcc(found, reference),
        "emulation_and_reference": pcc(emulation, reference),
    }


# ---- decode ----


def decodes(payload: dict[str, Any], job: Job) -> list[dict[str, Any]]:
    """A decode step of users at different positions beside prefill of the same tokens, a row for each user."""
    lengths = payload["prompts"]
    kv = CacheShape(len(lengths), 128, payload["page"])
    generator = torch.Generator().manual_seed(2)
    prompts = [torch.randint(VOCABULARY, (length + 1,), generator=generator).tolist() for length in lengths]
    with beginning_of(payload, job, layers=2, kv=kv) as model:
        for user, prompt in enumerate(prompts):
            model.prefill(prompt[:-1], user)
        stepped = model.decoder.step([prompt[-1] for prompt in prompts], lengths)
        whole = [model.prefill(prompt, user) for user, prompt in enumerate(prompts)]
    return [
        {
            "shapes": [list(step.shape), list(all_at_once.shape)],
            "spread": float(step.std()),
            "pcc": pcc(step, all_at_once),
        }
        for step, all_at_once in zip(stepped, whole, strict=True)
    ]


# ---- conversions ----


def typecasts(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """bf16 converted on the device, beside what real kernels made of it: differing values by format."""
    import ttnn

    found = {}
    experiment = experiment_of(payload["overrides"])
    with open_mesh(experiment.hardware, job.mock) as mesh:
        for form in (DataFormat.BFP8, DataFormat.BFP4):
            vectors = np.load(Path(DATA) / "golden" / "device_typecast" / f"typecast_{form.value.lower()}.npz")
            x, expected = torch.from_numpy(vectors["x"]), torch.from_numpy(vectors["real"])
            replicated = ttnn.ReplicateTensorToMesh(mesh)
            put = ttnn.from_torch(x, dtype=ttnn.bfloat16, layout=ttnn.TILE_LAYOUT, device=mesh, mesh_mapper=replicated)
            cast = ttnn.typecast(put, conversions.dtype(form))
            back = ttnn.to_torch(ttnn.get_device_tensors(cast)[0]).float()
            found[form.value] = {
                "dtype": cast.dtype.name,
                "shape": list(back.shape),
                "values": expected.numel(),
                "differing": int((back != expected).sum()),
                "host_packing_differs": int((quantize(x, form.value.lower()) != expected).sum()),
            }
    return found
