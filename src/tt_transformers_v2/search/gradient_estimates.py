# SPDX-License-Identifier: Apache-2.0
"""One backward pass of the reference that estimates every change of a search, kept as it goes.

After every layer the estimates so far and the gradient that goes on to the layer before it are written to one file, in
one step: a run that was stopped goes on there, and ends with the same figures.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..backends.emulated.emulated_ops import EmulatedOps
from ..backends.emulated.prepared_weights import PreparedWeights
from ..common.errors import ConfigError
from ..common.files import write_atomically
from ..config.search_schema import Rounding
from ..hardware.schema import DeviceConfig
from ..models.weights import WeightSource
from ..planning.op_plans import OpPlans
from .gradient_effects import Candidate, Effects, head_kl, layer_effects
from .gradients import BackwardPass, PassCost
from .measured_variants import name_of
from .space import HEAD, Assignment, Option, Place, Space, configured

Change = tuple[Place, Option]
Progress = Callable[[str, int, int | None], None]
_STATE = "gradient"


@dataclass(frozen=True)
class Estimate:
    """Nats per position that a change adds to the base, by gradients: what format and fidelity do to the two operands,
    and what a bf16 Dst adds."""

    operands: float
    dst: float

    @property
    def kl(self) -> float:
        """The estimate itself."""
        return self.operands + self.dst


class EstimateFile:
    """Estimates by name, and the gradient with which the pass goes on, in a safetensors file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Estimate] = {}
        self.gradient: Tensor | None = None
        self.next_layer: int | None = None
        if not path.exists():
            return
        try:
            with safe_open(path, framework="pt") as file:
                metadata = file.metadata()
                self.found = {name: Estimate(**values) for name, values in json.loads(metadata["estimates"]).items()}
                self.next_layer = int(metadata["next_layer"])
                self.gradient = file.get_tensor(_STATE) if _STATE in file.keys() else None  # noqa: SIM118
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}.", "Remove it to estimate again.") from None

    def write(self, gradient: Tensor | None, next_layer: int) -> None:
        """Keeps `found` and how to go on, -1 for a pass that is complete. Raises ConfigError where that cannot be."""
        estimates = {name: dataclasses.asdict(each) for name, each in self.found.items()}
        metadata = {"estimates": json.dumps(estimates), "next_layer": str(next_layer)}
        tensors = {} if gradient is None else {_STATE: gradient}
        write_atomically(self.path, save(tensors, metadata), hint="Free some space, then run the same command again.")
        self.gradient, self.next_layer = gradient, next_layer


@dataclass
class Estimates:
    """`found` by change; `left_out` were not reached in time. `cost` is None where all was known from before."""

    found: dict[Change, Estimate]
    left_out: list[Change]
    cost: PassCost | None = None


class Estimator:
    """What an estimate needs: the model, tokens int64 [W, T], the base configuration, the changes of `wanted`, and
    where options have weights of their own, what these are for an assignment on the hardware it made."""

    def __init__(
        self,
        source: WeightSource,
        windows: Tensor,
        hardware: DeviceConfig,
        space: Space,
        wanted: Sequence[Change],
        samples: int,
        plans: OpPlans | None = None,
        weights: Callable[[Assignment, DeviceConfig], WeightSource] | None = None,
    ) -> None:
        self._weights = weights
        self.source, self.windows, self.hardware, self.space = source, windows, hardware, space
        self.wanted, self.samples = list(wanted), samples
        self._plans = OpPlans(hardware) if plans is None else plans

    def run(self, file: EstimateFile, *, deadline: float, progress: Progress) -> Estimates:
        """Estimates what `file` lacks, from the last layer to the first, until `deadline` (time.monotonic)."""
        cost = None
        if file.next_layer is None or file.next_layer >= 0:
            sites = {place.site for place, _ in self.wanted}
            run = BackwardPass(self.source, self.windows, self.samples, sites, file.gradient, file.next_layer)
            cost = run.cost
            if file.next_layer is None and HEAD in sites:
                file.found |= self._head(run)
            layers = self.source.spec.num_layers
            while run.next_layer >= 0 and time.monotonic() < deadline:
                progress("gradients", layers - 1 - run.next_layer, layers)
                file.found |= self._layer(run)
                file.write(run.gradient if run.next_layer >= 0 else None, run.next_layer)
            progress("gradients", layers - 1 - run.next_layer, layers)
        known = {change: file.found.get(name_of(*change)) for change in self.wanted}
        return Estimates(
            {change: estimate for change, estimate in known.items() if estimate is not None},
            [change for change, estimate in known.items() if estimate is None],
            cost,
        )

    def _layer(self, run: BackwardPass) -> dict[str, Estimate]:
        layer = run.next_layer
        changes = [change for change in self.wanted if change[0].layer == layer]
        # Weights are rounded once for all windows, where these do not fit into memory together.
        prepared = PreparedWeights() if run.parts > 1 else None
        candidates = self._candidates(changes, layer, prepared)
        totals: dict[tuple[str, str], Effects] = {}
        cpu = time.process_time()
        for seen in run.layer():
            started = time.monotonic()
            for key, effects in layer_effects(seen, candidates).items():
                totals[key] = totals.get(key, Effects()).plus(effects)
            run.cost.effects += time.monotonic() - started
        run.cost.layer_cpu = time.process_time() - cpu
        count = 2 * self.samples * self.windows.numel()
        found = {}
        for place, option in changes:
            if (place.site, option.text) in totals:
                change = totals[place.site, option.text].plus(totals[place.site, _base_of(self.space, place)], -1)
                found[name_of(place, option)] = Estimate(change.operands / count, change.dst / count)
            else:  # a layer without these weights: nothing changes
                found[name_of(place, option)] = Estimate(0.0, 0.0)
        return found

    def _candidates(self, changes: Iterable[Change], layer: int, prepared: PreparedWeights | None) -> list[Candidate]:
        """The options of the layer's changes, and the base's once for each site."""
        by_name: dict[tuple[str, str], Option] = {}
        for place, option in changes:
            by_name.setdefault((place.site, _base_of(self.space, place)), self.space.options[place.site][0])
            by_name[place.site, option.text] = option
        return [
            Candidate(
                site,
                name,
                self._ops(Place(layer, site), option, prepared).at_layer(layer),
                self._weights_of(Place(layer, site), option),
            )
            for (site, name), option in by_name.items()
        ]

    def _weights_of(self, place: Place, option: Option) -> WeightSource | None:
        """The weights of an option that are not the model's own."""
        if self._weights is None or option.rounding is Rounding.nearest:
            return None
        return self._weights({place: option}, self._hardware_of(place, option))

    def _hardware_of(self, place: Place, option: Option | None) -> DeviceConfig:
        """The base with an option in a place."""
        if option is None or option is self.space.options[place.site][0]:
            return self.hardware
        return configured(self.hardware, {place: option}, self.space.num_layers)

    def _ops(self, place: Place, option: Option | None, prepared: PreparedWeights | None) -> EmulatedOps:
        hardware = self._hardware_of(place, option)
        return EmulatedOps(hardware, "fast", prepared, plans=self._plans.on(hardware)).for_heads(self.source.spec)

    def _head(self, run: BackwardPass) -> dict[str, Estimate]:
        changes = [change for change in self.wanted if change[0].site == HEAD]
        ops = [self._ops(Place(-1, HEAD), option, None) for option in (None, *(option for _, option in changes))]
        base, *others = head_kl(self.source, run.before[-1], ops)
        return {
            name_of(place, option): Estimate(kl - base, 0.0)
            for (place, option), kl in zip(changes, others, strict=True)
        }


def _base_of(space: Space, place: Place) -> str:
    return space.options[place.site][0].text
