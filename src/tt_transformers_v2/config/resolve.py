# SPDX-License-Identifier: Apache-2.0
"""One experiment: the composed configuration checked, the model rules applied, ready to run or to predict."""

from __future__ import annotations

import copy
import dataclasses
import enum
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..common.checked import field_types
from ..common.errors import ConfigError
from ..hardware.op_table import EXPERT_GROUPS, OP_GROUPS
from ..hardware.schema import DeviceConfig, PrecisionConfig
from ..models.differing import Differing
from ..models.model_place import HUB
from ..models.spec import ModelSpec, RopeScaling
from ..perf.calibration import Calibration
from ..perf.confidence import ConfidenceRules
from .adjustments import fit_to_model
from .batched_prefill import prefill_users_findings, tokens_of_a_pass
from .building import build
from .calibrated_weights_use import calibrated_weights_findings
from .checks import check
from .cluster_file_use import cluster_file_findings
from .conf_folders import own_folders
from .device_presets import device_config
from .experiment_schema import SEARCHING, ExperimentConfig, ModelConfig, Task
from .expert_groups import expert_findings
from .findings import Finding, Severity, for_choice
from .layers import LayerEntry, apply_layers, layer_entry, write_select
from .memory_adjustments import computed_chunk, dram_findings, shorter_chunk
from .model_rules import RuleEffect, apply_rules
from .planned import program_findings
from .precedence import release_finer
from .search_schema import Rounding
from .server_places import server_findings
from .task_settings import check_task
from .ttnn_checks import ttnn_findings, use_of


@dataclass
class Experiment:
    """A resolved experiment. `hardware` and `spec` are final; `effects` and `findings` say what happened on the way.

    `config` and `typed`, the dotted paths that the user set, are what it was resolved from.
    """

    config: ExperimentConfig
    hardware: DeviceConfig
    spec: ModelSpec
    calibration: Calibration
    effects: list[RuleEffect] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    layers: list[LayerEntry] = field(default_factory=list)
    typed: frozenset[str] = frozenset()

    @property
    def context(self) -> int:
        """Tokens in the KV cache while decoding."""
        return self.config.workload.context or self.config.workload.prompt_length

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop a run."""
        return [finding for finding in self.findings if finding.severity is Severity.error]

    @property
    def warnings(self) -> list[Finding]:
        """The findings that a user is told of, and that stop nothing."""
        return [finding for finding in self.findings if finding.severity is Severity.warning]

    def to_dict(self) -> dict[str, Any]:
        """Every resolved value as plain JSON types, inherited ones filled in; prose (sources) left out."""
        hardware = self.hardware
        model = plain(dataclasses.asdict(self.spec))
        model |= {"name": self.spec.name, "family": self.spec.family, "parameters": self.spec.num_parameters}
        model |= {"path": self.config.model.path, "package": self.config.model.package}
        del model["_metadata"]
        # What a model of the plain kind does not have is not listed.
        for name in ("kinds", "pattern", "logit_cap"):
            if not model[name]:
                del model[name]
        if isinstance(model["rope_scaling"], dict) and model["rope_scaling"]["truncate"]:
            del model["rope_scaling"]["truncate"]
        device = plain(hardware.spec)
        if device["cluster_file"] is None:
            del device["cluster_file"]
        device |= {
            name: getattr(hardware, name)
            for name in (
                "max_prefill_chunk_size",
                "max_batch_size",
                "l1_memory_size",
                "dram_bandwidth",
                "trace_region_size",
            )
        }
        return {
            "device": _without_sources(device),
            "mode": str(self.config.mode),
            "model_rules": str(self.config.model_rules),
            "precision": self._of_model(_precision_dict(hardware)),
            "compute": self._of_model(_compute_dict(hardware)),
            "layers": self.layer_differences(),
            "memory": plain(hardware.memory),
            "parallelism": plain(hardware.parallelism),
            "model": model,
            "backend": plain(self.config.backend),
            "workload": plain(self.config.workload),
            "runtime": plain(self.config.runtime),
            "accuracy": plain(self.config.accuracy),
            "calibration": _without_sources(plain(self.config.calibration)),
            "task": str(self.config.task),
            "seed": self.config.seed,
        } | self._of_task()

    def _of_task(self) -> dict[str, Any]:
        """The sections that only some tasks have; where results are put changes nothing in them."""
        task, quantize = self.config.task, self.config.quantize
        if task in SEARCHING:
            own = {"search": plain(self.config.search)}
            calibrated = Rounding.calibrated in self.config.search.rounding
            return own | ({"quantize": plain(quantize)} if calibrated else {})
        if task is Task.evaluate:
            return {"evaluate": plain(self.config.evaluate)}
        if task is Task.quantize:
            return {"quantize": plain(quantize)}
        return {"quantize": {"weights": quantize.weights}} if quantize.weights else {}

    def _of_model(self, groups: dict[str, Any]) -> dict[str, Any]:
        """Without the groups that this model has no op of."""
        if self.spec.has_experts:
            return groups
        return {group: value for group, value in groups.items() if group not in EXPERT_GROUPS}

    def layer_differences(self) -> list[dict[str, Any]]:
        """The layers that differ from the rest, equal ones together: which, and their own resolved values."""
        if not self.hardware.layers:
            return []
        precision, compute = _precision_dict(self.hardware), _compute_dict(self.hardware)
        found = []
        for own, layers in self.hardware.own_layers():
            formats = {k: v for k, v in _precision_dict(own).items() if v != precision[k]}
            kernels = {k: v for k, v in _compute_dict(own).items() if v != compute[k]}
            formats, kernels = self._of_model(formats), self._of_model(kernels)
            if formats or kernels:
                found.append({"select": write_select(layers), "precision": formats, "compute": kernels})
        return found

    def config_hash(self) -> str:
        """Twelve hex digits that are equal exactly when `to_dict` is."""
        return hash_of(self.to_dict())


def hash_of(config: Mapping[str, Any]) -> str:
    """Twelve hex digits that are equal exactly when two results of `Experiment.to_dict` are."""
    canonical = json.dumps(config, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def resolve(composed: ExperimentConfig | Mapping[Any, Any], typed: Iterable[str] = ()) -> Experiment:
    """The experiment that a composed configuration asks for.

    `composed` is the typed configuration, nested dicts to build it from, or what Hydra composed of it (a DictConfig);
    it is not changed. `typed` are the dotted paths the user set. Raises ConfigError listing every unknown key and bad
    value. Findings are in the result, errors among them: see `resolve_or_refuse`.
    """
    asked = frozenset(typed)
    config = _typed(composed)
    check_task(config)
    release_finer(config, asked)
    spec = model_spec(config.model)
    ruled = apply_rules(device_config(config), spec, mode=config.mode, rule_set=config.model_rules.value, typed=asked)
    hardware = ruled.config
    experiment = Experiment(config, hardware, spec, calibration_of(config), ruled.effects, typed=asked)
    batch = config.workload.batch
    experiment.effects += fit_to_model(hardware, spec, typed=asked)
    experiment.effects += computed_chunk(hardware, spec, asked)
    origin = "" if "layers" in asked else "configuration file"
    own = [layer_entry(entry, f"layers[{i}]", origin) for i, entry in enumerate(config.layers)]
    experiment.layers = [*ruled.layers, *own]
    hardware.layers = apply_layers(hardware, experiment.layers, spec.num_layers, asked)
    asked_for = {"batch": batch, "context": experiment.context}
    prompt = config.workload.prompt_length
    batched = tokens_of_a_pass(config.workload, hardware, experiment.calibration)
    experiment.findings = check(hardware, spec, prompt_length=prompt, typed=asked, **asked_for)
    of_memory: dict[str, Any] = {"typed": asked, "batched": batched, **asked_for}
    if not experiment.errors and (shorter := shorter_chunk(hardware, spec, **of_memory)):
        experiment.effects += shorter
        experiment.findings = check(hardware, spec, prompt_length=prompt, typed=asked, **asked_for)
    experiment.findings += cluster_file_findings(hardware.spec, config.task)
    experiment.findings += calibrated_weights_findings(config)
    experiment.findings += expert_findings(spec, asked, own)
    experiment.findings += server_findings(config.workload, hardware, experiment.calibration, asked)
    experiment.findings += prefill_users_findings(config.workload, hardware, experiment.calibration, asked)
    if not own_folders():  # whose files are the user's choices too
        experiment.findings = [for_choice(finding, asked) for finding in experiment.findings]
    if not experiment.errors:
        use = use_of(config)
        experiment.findings += ttnn_findings(hardware, spec, config.runtime, context=experiment.context, use=use)
        experiment.findings.sort(key=lambda finding: list(Severity).index(finding.severity))
    if not experiment.errors:
        overflow = dram_findings(hardware, spec, mode=config.mode, **of_memory)
        experiment.findings = [*program_findings(experiment), *overflow, *experiment.findings]
    return experiment


def _typed(composed: ExperimentConfig | Mapping[Any, Any]) -> ExperimentConfig:
    """`composed` as objects of its own."""
    if isinstance(composed, ExperimentConfig):
        return copy.deepcopy(composed)
    if isinstance(composed, dict):
        return build(ExperimentConfig, composed)
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        found: Any = OmegaConf.to_object(OmegaConf.create(composed))  # type: ignore[call-overload]
    except OmegaConfBaseException as error:
        raise ConfigError(str(error).splitlines()[0]) from None
    return found if isinstance(found, ExperimentConfig) else build(ExperimentConfig, found)


def calibration_of(config: ExperimentConfig) -> Calibration:
    """The constants of the calibration that `config` chooses, with the switches of its `runtime`."""
    if "confidence" in config.calibration:
        ConfidenceRules.from_dict(config.calibration["confidence"])  # predictions read them when they need them
    return Calibration.from_dict(config.calibration).replace(**config.runtime.constants())


def resolve_or_refuse(composed: ExperimentConfig | Mapping[str, Any], typed: Iterable[str] = ()) -> Experiment:
    """As `resolve`, but findings that are errors are raised as one ConfigError."""
    experiment = resolve(composed, typed)
    if experiment.errors:
        raise ConfigError("\n".join(str(finding) for finding in experiment.errors))
    return experiment


def model_spec(model: ModelConfig) -> ModelSpec:
    """The specification of conf/model, or of the local folder or GGUF file at `model.path` when no shape is given.

    Raises ConfigError where both are given and are not the same model; what is on the hub is seen when it is read.
    """
    spec = _specified(model)
    if model.path not in (None, HUB) and model.num_layers is not None:
        from ..models.open_model import check_files

        check_files(spec, str(model.path))
    return spec


def _specified(model: ModelConfig) -> ModelSpec:
    shape = {
        name: getattr(model, name)
        for name in ("vocab_size", "hidden_dim", "num_layers", "num_heads", "intermediate_dim")
    }
    missing = [name for name, value in shape.items() if value is None]
    if len(missing) == len(shape) and model.path is not None:
        from ..models.open_model import read_spec

        return read_spec(str(model.files()))
    if len(missing) == len(shape):
        raise ConfigError("model=hf takes its shape from a folder.", "Add model.path=DIR.")
    if missing:
        raise ConfigError(f"model {model.name!r} has no {', '.join(missing)}.", "Set them, or model.path=DIR.")
    scaling = model.rope_scaling
    if model.model_type is not None:
        _refuse_llama_keys(model)
        from ..models.family_spec import family_spec  # which few models need

        return family_spec(vars(model))
    if model.config:
        raise ConfigError(
            f"model.config.{next(iter(model.config))} needs a model_type that reads it.", "Add model.model_type=NAME."
        )
    return ModelSpec.uniform(
        **shape,
        num_kv_heads=model.num_kv_heads,
        head_dim=model.head_dim,
        name=model.name,
        family=model.family,
        rope_scaling=RopeScaling(**vars(scaling)) if scaling and scaling.kind else None,
        **{name: getattr(model, name) for name in _SPEC_OPTIONS},
    )


def _refuse_llama_keys(model: ModelConfig) -> None:
    """Raises ConfigError for keys that say of Llama-like layers what a family says of its own."""
    for name in ("qkv_bias", "qk_norm"):
        if getattr(model, name):
            raise ConfigError(f"model.{name} follows from model.model_type={model.model_type}.", "Leave it out.")
    if model.rope_scaling and model.rope_scaling.kind:
        raise ConfigError(
            f"model.rope_scaling does not go with model.model_type={model.model_type}.",
            "Use model.config.rope_scaling, as in config.json.",
        )


_SPEC_OPTIONS = (
    "tie_embeddings",
    "qkv_bias",
    "qk_norm",
    "norm_eps",
    "rope_theta",
    "max_context",
    "sliding_window",
)


def _precision_dict(hardware: DeviceConfig) -> dict[str, str]:
    return {group: str(hardware.precision.of(group)) for group in field_types(PrecisionConfig)}


def _compute_dict(hardware: DeviceConfig) -> dict[str, dict[str, Any]]:
    return {group: plain(hardware.compute_for(group)) for group in OP_GROUPS}


def plain(value: Any) -> Any:
    """Dataclasses, enums and tuples as JSON types."""
    if type(value) in _JSON_SCALARS:
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {name: plain(getattr(value, name)) for name in field_types(type(value))}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, (enum.Enum, Differing)) else value


_JSON_SCALARS = (str, int, float, bool, type(None))

_PROSE = ("sources", "source", "description", "aliases")


def _without_sources(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _without_sources(inner) for key, inner in tree.items() if key not in _PROSE}
    return tree
