# SPDX-License-Identifier: Apache-2.0
"""Jobs that the tests run in a process of their own; `isolated` imports this file there."""

from __future__ import annotations

import dataclasses
import gc
import importlib
import os
import sys
import time
from typing import Any

from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.session import captured, differences, open_mesh
from tt_transformers_v2.common.errors import ConfigError


def echo(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    print("noise on stdout")
    os.write(2, b"noise on stderr\n")
    for step in range(payload["steps"]):
        job.progress(step=step)
    return {"payload": payload, "device": job.device.device_type, "mock": job.mock, "pid": os.getpid()}


def each(payload: dict[str, Any], job: Job) -> list[dict[str, Any]]:
    """What each of `jobs`, pairs of `module:function` and payload, returns on the same system (`found`), or the
    ConfigError it ends with (`refused`): starting ttnn takes longer than most of them."""
    answers = []
    for target, own in payload["jobs"]:
        module, _, function = target.partition(":")
        try:
            answers.append({"found": getattr(importlib.import_module(module), function)(own, job)})
        except ConfigError as error:
            answers.append({"refused": str(error)})
        gc.collect()  # a mesh that is still referred to cannot be opened again
    return answers


def environment(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    return dict(os.environ)


def raises(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    raise RuntimeError(payload["message"])


def raises_a_users_mistake(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    raise ConfigError("seven is too many.", "Try six.")


def aborts(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    print(
        "TT_FATAL @ /project/x.cpp:12: a == b\ninfo:\nthe sky fell\nbacktrace:\n --- main", file=sys.stderr, flush=True
    )
    os.abort()


def leaves(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    os._exit(3)


def hangs(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """Deaf to polite requests, with a process of its own that must not outlive it."""
    import signal
    import subprocess

    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sleeper = subprocess.Popen(["sleep", "600"])
    job.progress(sleeper=sleeper.pid)
    while True:
        time.sleep(1)


def opens(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    with open_mesh(job.device, job.mock) as mesh:
        return {"differences": differences(mesh, job.device), "shape": list(mesh.shape)}


def linear(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """FF1 of an 8B on one chip, with what the payload adds to ttnn.linear; times in seconds, first call and second."""
    import ttnn

    m, k, n = payload["shape"]
    program = payload.get("program")
    answers, times = [], []
    with open_mesh(job.device, job.mock) as mesh:

        def call() -> Any:
            def tensor(rows: int, columns: int, dtype: Any) -> Any:
                spec = ttnn.TensorSpec((1, 1, rows, columns), dtype, ttnn.TILE_LAYOUT)
                return ttnn.allocate_tensor_on_device(spec, mesh)

            given = ttnn.MatmulMultiCoreReuseMultiCast1DProgramConfig(**program) if program else None
            in0, in1 = tensor(m, k, ttnn.bfloat16), tensor(k, n, getattr(ttnn, payload["weights"]))
            return ttnn.linear(in0, in1, program_config=given, memory_config=ttnn.L1_MEMORY_CONFIG)

        for _ in range(2):
            start = time.perf_counter()
            answers.append(captured(call))
            times.append(time.perf_counter() - start)
    last = answers[-1]
    shape = list(last.value.shape) if last.value is not None else None
    return {"usage": dataclasses.asdict(last.usage), "error": last.error, "shape": shape, "times": times}


def all_gather(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    import ttnn

    with open_mesh(job.device, job.mock) as mesh:

        def call() -> Any:
            spec = ttnn.TensorSpec((1, 1, 32, 1024), ttnn.bfloat16, ttnn.TILE_LAYOUT)
            return ttnn.all_gather(ttnn.allocate_tensor_on_device(spec, mesh), dim=3, **payload)

        answer = captured(call)
        shape = list(answer.value.shape) if answer.value is not None else None
        return {"shape": shape, "error": answer.error, "usage": dataclasses.asdict(answer.usage)}


def default_dispatch(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """What ttnn does where it is left to choose the dispatch: from which cores, the grid then left to programs, and
    what it says of heads that are split over all of it."""
    import ttnn

    chosen = ttnn.DispatchCoreConfig()
    spec = dataclasses.replace(job.device, dispatch_core_type=chosen.type.name)
    with open_mesh(spec, job.mock) as mesh:
        grid = mesh.compute_with_storage_grid_size()
        qkv = ttnn.empty([1, 1, 2048, 3072], ttnn.bfloat16, ttnn.TILE_LAYOUT, mesh, ttnn.DRAM_MEMORY_CONFIG)
        asked = captured(lambda: ttnn.experimental.nlp_create_qkv_heads(qkv, num_heads=16, num_kv_heads=4))
    return {"core": chosen.type.name, "grid": [grid.x, grid.y], "said": asked.error}
