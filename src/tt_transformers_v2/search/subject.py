# SPDX-License-Identifier: Apache-2.0
"""What a search works on, opened and checked: said before hours are spent, and before anything large is read."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ..accuracy.code_version import code_version
from ..backends.emulated.prepared_weights import PreparedWeights
from ..common.checkout import outputs_dir
from ..common.errors import ConfigError
from ..common.units import GIB
from ..config.experiment_schema import BackendName
from ..config.planned import op_plans
from ..config.resolve import Experiment
from ..config.search_schema import Objective, Rounding, SearchConfig
from ..hardware.schema import DeviceConfig
from ..models.kept_weights import KeptWeights
from ..models.open_model import open_weights
from ..models.weights import WeightSource
from ..planning.op_plans import OpPlans
from ..run.performance import predict
from .calibrated_options import CalibratedOptions
from .costs import Costs, measure_costs, step_us, worth_measuring
from .gradient_estimates import EstimateFile
from .measured_variants import Measured, key_of, name_of
from .replay import Replay
from .roundings import calibrated_layers, with_roundings
from .search_texts import calibration_text, search_and_verify
from .space import Assignment, Option, Place, Space, read_space, with_assignment
from .target import Target


@dataclass(frozen=True)
class Subject:
    """An experiment ready to be searched.

    base: on the most accurate option everywhere. wanted: the changes to measure. seen, unseen: token ids
    [windows, window] to search on and to verify on.
    """

    experiment: Experiment
    settings: SearchConfig
    space: Space
    costs: Costs
    wanted: list[tuple[Place, Option]]
    base: Experiment
    source: KeptWeights
    prepared: PreparedWeights | None
    seen: Tensor
    unseen: Tensor
    text: str
    calibrated: CalibratedOptions | None = None

    @functools.cached_property
    def plans(self) -> OpPlans:
        """The base's plans of matmuls."""
        return op_plans(self.base)

    def replay(self, windows: Tensor, numerics: str) -> Callable[[], Replay]:
        """The base run on `windows`, made when first asked for."""
        made: list[Replay] = []

        def replay() -> Replay:
            if not made:
                target = Target(self.source, windows)
                hardware = self.base.hardware
                source = self.weights(self.space.base(), hardware)
                made.append(Replay(source, target, hardware, numerics, self.prepared, self.plans))
            return made[0]

        return replay

    def weights(self, assignment: Assignment, hardware: DeviceConfig) -> WeightSource:
        """The weights of an assignment that made `hardware`: the model's own but for calibrated ones."""
        return self.source if self.calibrated is None else self.calibrated.weights(assignment, hardware)

    def name_of(self, place: Place, option: Option) -> str:
        """What a measured change is kept under: other calibrated weights make it another one."""
        name = name_of(place, option)
        if self.calibrated is not None and option.rounding is Rounding.calibrated:
            return f"{name} {self.calibrated.key}"
        return name

    def rounding_of(self, assignment: Assignment) -> dict[str, Any]:
        """What tells an assignment from one that differs in rounding; nothing where all weights are the model's own."""
        layers = calibrated_layers(assignment)
        if not layers or self.calibrated is None:
            return {}
        return {"calibrated": layers, "rounding": self.calibrated.key}

    def measured(self, windows: Tensor, numerics: str) -> Measured:
        """What is known of this model, base, text and arithmetic, from this search or an earlier one."""
        return Measured(_kept_under(self._parts(windows, numerics), "jsonl"))

    def estimates(self) -> EstimateFile:
        """The estimates of this search's changes on its text, from this search or an earlier one."""
        samples = self.settings.gradient_samples
        changes = sorted(name_of(place, option) for place, option in self.wanted)
        # What an option does compared with its site's first one is in the base; kernels are what their words say.
        options = {site: [repr(option) for option in found] for site, found in self.space.options.items()}
        parts = self._parts(self.seen, "gradient") | {"samples": samples, "changes": changes, "options": options}
        if self.calibrated is not None:
            parts["rounding"] = self.calibrated.key
        return EstimateFile(_kept_under(parts, "safetensors"))

    def _parts(self, windows: Tensor, numerics: str) -> dict[str, Any]:
        tree = self.base.to_dict()
        return {
            "code": code_version(),
            "weights": self.source.fingerprint,
            "model": self.source.spec.identity,
            "base": {key: tree[key] for key in ("precision", "compute", "layers", "memory", "parallelism")},
            "arch": str(self.base.hardware.spec.chip.arch),
            # What plans follow from, and sums over chips.
            "grid": self.base.hardware.spec.grid,
            "mesh": [tree["device"]["mesh_shape"], tree["device"]["topology"]],
            "programs": tree["runtime"]["programs"],
            "tokens": hashlib.sha256(windows.numpy().tobytes()).hexdigest(),
            "window": windows.shape[1],
            "numerics": numerics,
        } | self.rounding_of(self.space.base())


def _kept_under(parts: Mapping[str, Any], ending: str) -> Path:
    return _cache() / f"{key_of(parts)}.{ending}"


def _cache() -> Path:
    return outputs_dir() / "cache" / "search"


def open_subject(experiment: Experiment, *, everything: bool = False) -> Subject:
    """Opens and checks what a search needs; with `everything`, also changes that save no time are to be measured.

    Raises ConfigError for a model without real weights or tokenizer, a text too short, options that do not fit or save
    nothing, and a target that no assignment of the space is predicted to reach.
    """
    settings, spec = experiment.config.search, experiment.spec
    space = with_roundings(read_space(settings.space, spec.num_layers), settings.rounding, experiment.hardware)
    _check_backend(experiment)
    base = with_assignment(experiment, space.base())
    _check_memory(base)
    costs = measure_costs(experiment, space, settings.objective)
    every = [(place, option) for place in space.places() for option in space.options[place.site][1:]]
    wanted = every if everything else worth_measuring(space, costs)
    if not everything:
        _check_target(experiment, space, costs)
    model = experiment.config.model
    source, tokenizer = open_weights(spec, path=model.files(), package=model.package, seed=experiment.config.seed)
    if source.synthetic or tokenizer is None:
        raise ConfigError(
            f"a search measures accuracy, and model {spec.name} has no real weights and tokenizer here.",
            "Use model=hf model.path=DIR (safetensors or GGUF, with its tokenizer) or model=smollm2_135m.",
        )
    seen, unseen, text = search_and_verify(experiment, tokenizer)
    kept = KeptWeights(source)
    prepared = PreparedWeights() if kept.kept else None
    calibrated = None
    if Rounding.calibrated in settings.rounding:
        own = calibration_text(experiment, tokenizer, seen, unseen)
        calibrated = CalibratedOptions(kept, own, experiment.config.quantize, _cache() / "rounding")
        calibrated.want([*space.base().items(), *wanted], base.hardware)
    return Subject(experiment, settings, space, costs, wanted, base, kept, prepared, seen, unseen, text, calibrated)


def _check_backend(experiment: Experiment) -> None:
    if experiment.config.backend.name is not BackendName.emulated:
        raise ConfigError(
            f"a search measures with backend=emulated, not {experiment.config.backend.name}.", "Leave backend unset."
        )


def _check_memory(base: Experiment) -> None:
    memory = predict(base).memory
    if not memory.fits:
        raise ConfigError(
            f"the most accurate options of search.space do not fit on {base.hardware.device_type}: each chip is "
            f"{-memory.free / GIB:.2f} GiB short.",
            "Start the sites of search.space with a smaller format: search.space.ff2=[BFP8/HIFI2,BFP4/LOFI].",
        )


def _check_target(experiment: Experiment, space: Space, costs: Costs) -> None:
    """Refuses a target that the fastest assignment is predicted to miss."""
    settings = experiment.config.search
    fastest = space.base()
    for place in fastest:
        saves = {option: costs.saves.get((place, option), 0.0) for option in space.options[place.site]}
        fastest[place] = max(saves, key=lambda option: saves[option])
    time = step_us(with_assignment(experiment, fastest), settings.objective)
    if settings.objective is Objective.decode and (settings.min_tokens_per_s_per_user or 0) > 1e6 / time:
        raise ConfigError(
            f"no configuration of search.space is predicted to reach {settings.min_tokens_per_s_per_user:g} "
            f"tokens/s/user: the fastest reaches {1e6 / time:.2f}.",
            "Lower search.min_tokens_per_s_per_user, or add faster options to search.space.",
        )
    if settings.max_ttft_ms is not None and settings.max_ttft_ms < time / 1e3:
        raise ConfigError(
            f"no configuration of search.space is predicted to start within {settings.max_ttft_ms:g} ms: the fastest "
            f"takes {time / 1e3:.2f}.",
            "Raise search.max_ttft_ms, or add faster options to search.space.",
        )


def figures(experiment: Experiment) -> dict[str, Any]:
    """Predicted tokens/s/user, TTFT in ms and bytes per chip."""
    prediction = predict(experiment)
    return {
        "decode_tokens_per_s_per_user": prediction.speed.decode_tokens_per_s_per_user,
        "ttft_ms": prediction.speed.ttft_ms,
        "bytes_per_chip": prediction.memory.used,
    }
