# SPDX-License-Identifier: Apache-2.0
"""A job that changes one field of a configuration after another and tells which of ttnn's calls change with it.

The preflight asks ttnn about a small model in both phases. A spy notes every call of ttnn with all it was given.
"""

from __future__ import annotations

import contextlib
import enum
import typing
from collections.abc import Callable, Iterator
from typing import Any

from tt_transformers_v2.backends.ttnn import conversions
from tt_transformers_v2.backends.ttnn.preflight_walk import Question, ask
from tt_transformers_v2.backends.ttnn.process.child import Job
from tt_transformers_v2.backends.ttnn.process.failures import own_words
from tt_transformers_v2.backends.ttnn.process.session import open_mesh
from tt_transformers_v2.backends.ttnn.recording.asking import Asking
from tt_transformers_v2.common.checked import UNIONS, field_types
from tt_transformers_v2.common.errors import ConfigError
from tt_transformers_v2.config.device_presets import DevicePresets
from tt_transformers_v2.hardware.enums import DataFormat
from tt_transformers_v2.hardware.op_table import DECODE, EXPERT_GROUPS, OP_GROUP_PARENTS, PREFILL, ROOT_OP_GROUPS
from tt_transformers_v2.hardware.schema import (
    ComputeConfig,
    ComputeOverride,
    DeviceConfig,
    MemoryConfig,
    PrecisionConfig,
)
from tt_transformers_v2.models.spec import ModelSpec

SPEC = ModelSpec.uniform(1024, 256, 1, 8, 256, num_kv_heads=4)
TOKENS, USERS, CONTEXT = 128, 8, 128
PHASES = (PREFILL, DECODE)
Calls = dict[str, list[str]]  # op's name -> what ttnn was asked for it, in order
Ops = dict[str, Calls]  # by phase


def fields_walked() -> list[str]:
    """Every field of the precision, memory and compute settings, compute's by op group: `compute.mlp.math_fidelity`.

    Not those of experts and routers: the model that is walked has none.
    """
    flat = {"precision": PrecisionConfig, "memory": MemoryConfig}
    named = [f"{section}.{name}" for section, kind in flat.items() for name in field_types(kind)]
    named += [f"compute.{group}.{name}" for group in ROOT_OP_GROUPS for name in field_types(ComputeConfig)]
    named += [f"compute.{group}.{name}" for group in OP_GROUP_PARENTS for name in field_types(ComputeOverride)]
    return [name for name in named if name.split(".")[1] not in EXPERT_GROUPS]


def walk(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """By field of `payload["fields"]` and phase: the ops whose calls change with it, and what refused it, if anything.

    The field "" is no change at all.
    """
    found = {}
    with open_mesh(job.device, job.mock) as mesh, _spied() as ops:
        before: Ops = {}
        for name in ["", *payload["fields"]]:
            config = base_config(job)
            if name:
                change(config, name)
            ops.clear()
            refused = _asked(config, mesh)
            after = {phase: dict(ops.get(phase, {})) for phase in PHASES}
            before = before or after
            found[name] = {
                phase: {"ops": _changed(before[phase], after[phase], refused[phase]), "refused": refused[phase]}
                for phase in PHASES
            }
    return found


def lookups(payload: dict[str, Any], job: Job) -> dict[str, Any]:
    """What ttnn does to look rows up in a table by its format: the names of its device operations, or its refusal."""
    import ttnn

    done = {}
    with open_mesh(job.device, job.mock) as mesh:
        tokens = ttnn.empty([1, 32], ttnn.uint32, ttnn.ROW_MAJOR_LAYOUT, mesh)
        for data_format in DataFormat:
            layout = ttnn.ROW_MAJOR_LAYOUT if data_format is DataFormat.BF16 else ttnn.TILE_LAYOUT
            table = ttnn.empty([1, 1, 64, 64], conversions.dtype(data_format), layout, mesh)
            ttnn.graph.begin_graph_capture(ttnn.graph.RunMode.NO_DISPATCH)
            try:
                ttnn.embedding(tokens, table)
                refusal = ""
            except RuntimeError as error:
                refusal = own_words(str(error))
            trace = ttnn.graph.end_graph_capture()
            started = [node["params"]["name"] for node in trace if node["node_type"] == "function_start"]
            done[data_format.value] = refusal or [name for name in started if name.endswith("DeviceOperation")]
    return done


def base_config(job: Job) -> DeviceConfig:
    """A configuration in which every finer field is left to inherit, so that the coarse ones count."""
    config = DevicePresets.get_config(job.device.device_type)
    config.system = job.device
    config.compute = {group: ComputeConfig() for group in ROOT_OP_GROUPS}
    config.precision = PrecisionConfig(mlp_activations=None, attention_activations=None)
    config.memory = MemoryConfig()
    return config


def change(config: DeviceConfig, name: str) -> None:
    """Gives one field another value than the one that holds."""
    section, *group, field = name.split(".")
    if section == "compute":
        now = config.compute_for(group[0])
        own = config.compute.setdefault(group[0], ComputeOverride())
        setattr(own, field, _another(field_types(type(now))[field], getattr(now, field)))
        return
    settings = getattr(config, section)
    now = settings.of(field) if section == "precision" else getattr(settings, field)
    setattr(settings, field, _another(field_types(type(settings))[field], now))


def _another(wanted: Any, now: Any) -> Any:
    """A value of an annotation's type, not `now`."""
    if typing.get_origin(wanted) in UNIONS:
        (wanted,) = (kind for kind in typing.get_args(wanted) if kind is not type(None))
    if wanted is bool:
        return not now
    if wanted is int:
        return now + 1
    assert issubclass(wanted, enum.Enum), f"no other value known for {wanted}"
    return next(member for member in reversed(wanted) if member is not now)


def _asked(config: DeviceConfig, mesh: Any) -> dict[str, str]:
    """What refused to go on in each phase, "" where nothing did."""
    question = Question(config, SPEC, tokens=TOKENS, users=USERS, context=CONTEXT, page=None, autofit=False)
    try:
        rows = ask(question, mesh, lambda *_: None)
    except ConfigError as refusal:
        return dict.fromkeys(PHASES, str(refusal))
    said = {row["phase"]: f"{row['op']}: {row['said']}" for row in rows if row["verdict"] != "ok"}
    return {phase: said.get(phase, "") for phase in PHASES}


def _changed(before: Calls, after: Calls, refused: str) -> list[str]:
    """The ops that were asked about in other words; what a refusal left unasked does not count."""
    names = after.keys() if refused else before.keys() | after.keys()
    return sorted(name for name in names if _differ(before.get(name, []), after.get(name, []), refused))


def _differ(before: list[str], after: list[str], refused: str) -> bool:
    asked = len(after) if refused else len(before)
    return before[:asked] != after


@contextlib.contextmanager
def _spied() -> Iterator[Ops]:
    """The calls of ttnn's operations by phase and op as they are made, one text each; they are made all the same."""
    import ttnn

    ops: Ops = {}
    now: list[list[str]] = []  # where notes go: the list of the op that is asked about

    def run(self: Asking, name: str, *given: Any, **named: Any) -> Any:
        now.append(ops.setdefault(self.phase, {}).setdefault(name, []))
        try:
            return ask_one(self, name, *given, **named)
        finally:
            now.pop()

    def noting(operation: Any) -> Callable[..., Any]:
        def noted(*given: Any, **named: Any) -> Any:
            if now:
                told = [described(value) for value in given]
                told += [f"{name}={described(value)}" for name, value in sorted(named.items())]
                now[-1].append(f"{operation.python_fully_qualified_name}({', '.join(told)})")
            return operation(*given, **named)

        return noted

    ask_one = Asking.run
    with contextlib.ExitStack() as undo:
        undo.callback(setattr, Asking, "run", ask_one)
        Asking.run = run  # type: ignore[method-assign]
        for module in (ttnn, ttnn.experimental, ttnn.transformer):
            for name, operation in list(vars(module).items()):
                if type(operation).__name__ == "FastOperation":
                    undo.callback(setattr, module, name, operation)
                    setattr(module, name, noting(operation))
        yield ops


def described(value: Any) -> str:
    """What ttnn can know of an argument, as text without addresses."""
    import ttnn

    if isinstance(value, ttnn.Tensor):
        return f"{value.dtype} {value.layout} {list(value.shape)} {value.memory_config()}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(described(item) for item in value)}]"
    text = str(value)
    if " object at 0x" not in text:
        return text
    names = [name for name in dir(value) if not name.startswith("_")]
    return f"{type(value).__name__}({', '.join(f'{name}={getattr(value, name)}' for name in names)})"
