# SPDX-License-Identifier: Apache-2.0
"""A job that preflights models and notes with which objects ttnn.linear was asked; and one that asks what ttnn itself
takes where it is given no program."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from tt_transformers_v2.backends.ttnn import conversions
from tt_transformers_v2.backends.ttnn.preflight_walk import _walk, ask, group_mesh
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.session import captured, open_mesh
from tt_transformers_v2.backends.ttnn.recording.asking import Asking
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.composition import compose
from tt_transformers_v2.config.overrides import check_overrides
from tt_transformers_v2.config.resolve import resolve
from tt_transformers_v2.planning import op_plans, plans
from tt_transformers_v2.preflight.preflight_job import question_of

FIELDS = ("in0_block_w", "per_core_M", "per_core_N", "out_subblock_h", "out_subblock_w")


def linears(payload: dict[str, Any], job: Job) -> list[list[dict[str, Any]]]:
    """For each list of overrides of `asked`: the first call of ttnn.linear of every matmul, in order."""
    found = []
    with open_mesh(job.device, job.mock) as whole:
        for overrides in payload["asked"]:
            checked = check_overrides([*overrides, "task=preflight"])
            question = question_of(resolve(compose(checked.texts), checked.typed))
            with _noted() as rows:
                ask(question, group_mesh(whole, question.config, question.spec), lambda *_: None)
            found.append(rows)
    return found


@contextlib.contextmanager
def _noted() -> Iterator[list[dict[str, Any]]]:
    import ttnn

    rows: list[dict[str, Any]] = []
    now: list[dict[str, Any]] = []
    run, linear = Asking.run, ttnn.linear

    def noting_run(self: Asking, name: str, *given: Any, **named: Any) -> Any:
        now.append({"op": name, "phase": self.phase, "part": self.part})
        try:
            return run(self, name, *given, **named)
        finally:
            if "kind" in now[-1]:
                rows.append(now[-1])
            now.pop()

    def noting_linear(x: Any, weight: Any, **how: Any) -> Any:
        program, kernel = how["program_config"], how["compute_kernel_config"]
        if "kind" not in now[-1]:
            now[-1] |= {"kind": type(program).__name__, "inputs": weight.shape[-2], "outputs": weight.shape[-1]}
            now[-1] |= {name: getattr(program, name) for name in FIELDS if hasattr(program, name)}
            now[-1] |= {name: getattr(kernel, name) for name in ("fp32_dest_acc_en", "packer_l1_acc")}
        return linear(x, weight, **how)

    Asking.run, ttnn.linear = noting_run, noting_linear  # type: ignore[method-assign]
    try:
        yield rows
    finally:
        Asking.run, ttnn.linear = run, linear  # type: ignore[method-assign]


def automatic(payload: dict[str, Any], job: Job) -> list[list[int]]:
    """L1 in bytes that a product takes without a program and with ours, for each [rows, inputs, outputs, in L1]."""
    import ttnn

    found = []
    with open_mesh(job.device, job.mock) as mesh:
        grid = (job.device.grid[0], job.device.grid[1])
        for rows, inputs, outputs, in_l1 in payload["shapes"]:
            place = ttnn.L1_MEMORY_CONFIG if in_l1 else ttnn.DRAM_MEMORY_CONFIG
            x = ttnn.empty([1, 1, rows, inputs], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, place)
            weight = ttnn.empty(
                [1, 1, inputs, outputs], ttnn.bfloat8_b, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG
            )
            plan = plans.interleaved_matmul(inputs, outputs, rows=rows, grid=grid, fp32_dest_acc_en=False)
            kernel = ttnn.WormholeComputeKernelConfig(math_fidelity=ttnn.MathFidelity.HiFi2, packer_l1_acc=True)
            used = []
            for program in (None, conversions.program_config(plan)):
                answer = captured(
                    lambda x=x, weight=weight, place=place, kernel=kernel, program=program: ttnn.linear(
                        x,
                        weight,
                        program_config=program,
                        memory_config=place,
                        compute_kernel_config=kernel,
                        dtype=ttnn.bfloat16,
                    )
                )
                assert answer.error is None, answer.error
                used.append(answer.usage.circular_buffers + answer.usage.dataflow_buffers)
            found.append(used)
    return found


def typed(payload: dict[str, Any], job: Job) -> list[str | None]:
    """What ttnn itself says of a typed program, for each (overrides, op, phase) of `asked`: its refusal, or None.

    The walk asks with what was typed although this package's own checks would refuse it first.
    """
    found = []
    with open_mesh(job.device, job.mock) as mesh, _unchecked():
        for overrides, op, phase in payload["asked"]:
            checked = check_overrides([*overrides, "task=preflight"])
            question = question_of(resolve(compose(checked.texts), checked.typed))
            asked = Asking(mesh, autofit=False)
            asked.phase = phase
            with contextlib.suppress(ConfigError):  # no tensors can be spread over such cores
                _walk(question, asked, lambda *_: None)
            (row, *_) = [row for row in asked.rows if row["op"] == op] or [{"said": "not asked"}]
            found.append(row["said"])
    return found


@contextlib.contextmanager
def _unchecked() -> Iterator[None]:
    names = ("check_blocks", "check_layout", "check_attention")
    kept = {name: getattr(op_plans, name) for name in names}
    for name in names:
        setattr(op_plans, name, lambda *_, **__: None)
    try:
        yield
    finally:
        for name, check in kept.items():
            setattr(op_plans, name, check)
