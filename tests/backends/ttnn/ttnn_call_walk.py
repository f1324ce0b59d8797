# SPDX-License-Identifier: Apache-2.0
"""A job that tells what ttnn was left to choose: settings that its operations take and that no call of ours gave."""

from __future__ import annotations

import contextlib
import copy
import re
from collections.abc import Callable, Iterator
from typing import Any

from kinds_of_layers import KINDS, of_kind

from tt_transformers_v2.backends.ttnn.mesh_model import TtnnModel
from tt_transformers_v2.backends.ttnn.preflight_walk import Question, ask
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.session import open_mesh
from tt_transformers_v2.backends.ttnn.weights.host_weights import CacheShape, HostWeights
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.hardware.schema import DeviceConfig
from tt_transformers_v2.models.spec import ModelSpec
from tt_transformers_v2.models.weights import SyntheticWeights
from tt_transformers_v2.planning.split import Split

SETTINGS = ("dtype", "compute_kernel_config", "program_config")
SPEC = ModelSpec.uniform(
    1024, 512, 2, 8, 512, num_kv_heads=8, head_dim=64, name="small", qkv_bias=True, qk_norm=True, sliding_window=32
)
Implicit = dict[str, dict[str, int]]  # operation -> setting -> calls that left it out


def implicit(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """`calls` by operation; `implicit` by operation and setting; `invalid` kernel configs. All of a model: prefill,
    its second chunk, decode from a paged and from a plain cache and with interleaved weights, layers of every kind, and
    what a run does besides."""
    config = DevicePresets.get_config(job.device.device_type)
    config.system = job.device
    if job.device.mesh_shape == [2, 4]:
        config.parallelism.tensor_parallel_size = 8
    interleaved = copy.deepcopy(config)
    interleaved.memory.use_width_sharding = False
    with open_mesh(job.device, job.mock) as mesh, _spied() as found:
        asked = [(SPEC, config, 32, 2), (SPEC, config, None, 1), (SPEC, interleaved, None, 1)]
        asked += [(of_kind(kind), config, 32, 2) for kind in KINDS]
        for spec, own, page, chunks in asked:
            question = Question(own, spec, tokens=128, users=2, context=256, page=page, chunks=chunks)
            rows = ask(question, mesh, lambda *_: None)
            said = [row for row in rows if row["said"]]
            found["refused"] += [f"{spec.name} {row['phase']} {row['op']}: {row['said']}" for row in said]
        if payload.get("run"):
            for spec in (SPEC, *map(of_kind, list(KINDS)[:7])):  # not those of many experts
                _run(config, spec, mesh)
        return found


def _run(config: DeviceConfig, spec: ModelSpec, mesh: Any) -> None:
    from ttnn_model_jobs import Checking

    split = Split.of(config, spec)
    weights = HostWeights(
        SyntheticWeights(spec), split, mesh, kv=CacheShape(2, 128, 32), lm_head_columns=512, disk=None
    )
    model = TtnnModel(weights, config, Checking(), lm_head_columns=512)
    model.prefill(list(range(40)), 1)
    model.decoder.step([1, 2], [40, 7])


@contextlib.contextmanager
def _spied() -> Iterator[dict[str, Any]]:
    """Notes every call of ttnn's operations from now on."""
    import ttnn

    found: dict[str, Any] = {"calls": {}, "implicit": {}, "invalid": [], "refused": []}
    known: dict[str, list[list[str]]] = {}

    def noting(operation: Any) -> Callable[..., Any]:
        name = operation.python_fully_qualified_name

        def noted(*given: Any, **named: Any) -> Any:
            if name not in known:
                known[name] = _signatures(operation)
            found["calls"][name] = found["calls"].get(name, 0) + 1
            for setting in SETTINGS:
                if not _gives(setting, known[name], given, named):
                    found["implicit"].setdefault(name, {}).setdefault(setting, 0)
                    found["implicit"][name][setting] += 1
            kernel = named.get("compute_kernel_config")
            if kernel is not None and kernel.math_fidelity == ttnn.MathFidelity.Invalid:
                found["invalid"].append(name)
            return operation(*given, **named)

        return noted

    with contextlib.ExitStack() as undo:
        for module in (ttnn, ttnn.experimental, ttnn.transformer):
            for name, operation in list(vars(module).items()):
                if type(operation).__name__ == "FastOperation":
                    undo.callback(setattr, module, name, operation)
                    setattr(module, name, noting(operation))
        yield found


def _signatures(operation: Any) -> list[list[str]]:
    """The parameters of each overload in order, which ttnn lists when it is called without any."""
    try:
        operation()
    except TypeError as error:
        said = str(error).partition("Available signatures:")[2]
        return [re.findall(r"(\w+): ", line) for line in said.splitlines() if "(" in line]
    raise AssertionError(f"{operation} takes no arguments")


def _gives(setting: str, overloads: list[list[str]], given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether a call gives a setting, or no overload has one."""
    takes = [names for names in overloads if setting in names]
    return not takes or named.get(setting) is not None or any(setting in names[: len(given)] for names in takes)
