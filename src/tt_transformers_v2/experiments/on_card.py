# SPDX-License-Identifier: Apache-2.0
"""An experiment on a card or on Tenstorrent's simulator: started in a process of its own, reported beside predictions.

Nothing here imports ttnn.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from ..backends.ttnn.availability import require_card, require_ttnn
from ..backends.ttnn.failures import TtnnFailure
from ..backends.ttnn.isolated import run_isolated
from ..backends.ttnn.stand_in import cache_home
from ..hardware.composition import device_types
from ..hardware.device_presets import DevicePresets
from ..hardware.errors import ConfigError
from .configuration import Experiment
from .performance import performance_section
from .settings import Sampling, Task

Progress = Callable[[str, int, int | None], None]

JOB = "tt_transformers_v2.experiments.card_job:measure"
IDENTIFY = "tt_transformers_v2.experiments.card_job:identify"
# Seconds. Converting the weights of the largest models takes most of it, and only the first time.
LONGEST_RUN = 6 * 3600.0
LONGEST_LOOK = 120.0


def sections(experiment: Experiment, progress: Progress) -> dict[str, Any]:
    """The `accuracy` and `performance` sections that the task asks for, measured; what was predicted stays beside it.

    Raises ConfigError: no card or no ttnn, another device than configured, memory that is too small, what ttnn said
    when it failed.
    """
    found = require_card("backend=ttnn", str(experiment.hardware.device_type))
    _refuse_unmeasured(experiment)
    for line in found.findings:
        _warn(line)
    composed, typed = experiment.composed_and_typed()
    answer = run_isolated(
        JOB,
        {"composed": composed, "typed": typed, "home": str(cache_home())},
        device=experiment.hardware.spec,
        mock=False,
        timeout_s=LONGEST_RUN,
        on_progress=lambda facts: _show(facts, progress),
    )
    return beside_prediction(experiment, answer)


def beside_prediction(experiment: Experiment, answer: dict[str, Any]) -> dict[str, Any]:
    """The sections of a result from what the job measured."""
    found: dict[str, Any] = {"accuracy": answer["accuracy"]}
    if experiment.config.task is Task.accuracy:
        return found
    predicted, measured = performance_section(experiment), answer["measured"]
    ratios = {
        name: measured[name] / predicted[name]
        for name in ("ttft_ms", "decode_tokens_per_s_per_user")
        if predicted.get(name)
    }
    return found | {"performance": predicted | {"measured": measured | {"measured_over_predicted": ratios}}}


def _refuse_unmeasured(experiment: Experiment) -> None:
    """What can be predicted or emulated but is not run. Raises ConfigError."""
    runtime = experiment.config.runtime
    if experiment.config.workload.prefill_tokens is not None:
        raise ConfigError("backend=ttnn measures accuracy in prefill form.", "Leave workload.prefill_tokens unset.")
    if experiment.config.accuracy.isolated:
        raise ConfigError("backend=ttnn measures whole models, not modules.", "Leave accuracy.isolated=false.")
    if runtime.sampling is Sampling.device:
        raise ConfigError("backend=ttnn chooses tokens on the host.", "Leave runtime.sampling unset.")
    if runtime.traced_prefill:
        raise ConfigError("backend=ttnn traces decode, not prefill.", "Leave runtime.traced_prefill unset.")


def _show(facts: dict[str, Any], progress: Progress) -> None:
    if "warning" in facts:
        _warn(facts["warning"])
    else:
        progress(facts["stage"], facts["done"], facts["total"])


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)


# device=auto


@lru_cache(maxsize=1)
def machine_device() -> str:
    """The option of conf/device that this machine is, said on standard error. Asks ttnn in a process of its own, once.

    Raises ConfigError when the machine has neither a card nor a simulator, and when no device file describes it.
    """
    instead = "Name a device, such as device=n150."
    if not require_ttnn("device=auto", instead=instead).runs_programs:
        raise ConfigError("device=auto needs a card or a simulator, and this machine has none.", instead)
    some = DevicePresets.get_config("N150").spec  # the job opens nothing, so any will do
    try:
        seen = run_isolated(IDENTIFY, {}, device=some, mock=False, timeout_s=LONGEST_LOOK)
    except TtnnFailure as failure:
        said = f": {failure.said}" if failure.said else ""
        log = f" Everything it printed: {failure.log}" if failure.log else ""
        raise ConfigError(
            f"device=auto: ttnn could not look at this machine's cards{said}", f"Name a device.{log}"
        ) from None
    kind = device_of(seen)
    option = device_types()[kind]
    print(f"device=auto: this machine is {kind} (device={option})", file=sys.stderr)
    return option


def device_of(seen: dict[str, Any]) -> str:
    """The device type of a machine whose `cluster` (ttnn's name), `arch` and number of `chips` are given.

    Raises ConfigError when several device files or none describe it.
    """
    alike = []
    for kind in device_types():
        system = DevicePresets.get_config(kind).spec
        if (system.chip.arch.value, system.chips) == (seen["arch"], seen["chips"]):
            alike.append(kind)
    name = CLUSTERS.get(seen["cluster"], seen["cluster"].replace("_X", "X"))
    found = [kind for kind in alike if kind.upper() == name] or alike
    if len(found) == 1:
        return found[0]
    what = f"{seen['chips']} {seen['arch']} chips (ttnn calls them {seen['cluster']})"
    if not found:
        raise ConfigError(f"device=auto: no device file describes {what}.", "Name the nearest device.")
    raise ConfigError(
        f"device=auto: {what} may be {' or '.join(found)}.", f"Name it, such as device={device_types()[found[0]]}."
    )


# ttnn's name of a kind of system -> the device type in capitals, where they are not alike.
CLUSTERS = {"GALAXY": "WH_GALAXY", "BLACKHOLE_GALAXY": "BH_GALAXY"}
