# SPDX-License-Identifier: Apache-2.0
"""The emulated backend as an experiment asks for it: its numerics, plans and chips."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..config.fitted_plans import recall_fitted
from ..config.planned import op_plans
from ..config.resolve import Experiment

if TYPE_CHECKING:
    from ..backends.emulated.emulated_ops import EmulatedOps
    from ..backends.emulated.prepared_weights import PackedMatrices, PreparedWeights


def emulated_ops(
    experiment: Experiment,
    *,
    tokens: int,
    window: int,
    synthetic: bool,
    prepared: PreparedWeights | None,
    packed: PackedMatrices | None = None,
) -> EmulatedOps:
    """The emulated backend for a run over `tokens` tokens in windows of `window`, on which its numerics depend where
    they are left open. `prepared` and `packed` keep weights for further runs, in memory and on disk."""
    from ..accuracy.numerics_choice import choose_numerics
    from ..backends.emulated.emulated_ops import EmulatedOps
    from ..backends.emulated.first_uses import use_later_kernels
    from ..numerics import compile_ahead

    backend, hardware = experiment.config.backend, experiment.hardware
    numerics = choose_numerics(
        backend.numerics.value,
        experiment.spec,
        hardware,
        tokens=tokens,
        window=window,
        synthetic=synthetic,
        max_seconds=backend.exact_max_seconds,
    )
    if numerics == "exact":
        compile_ahead.start(use_later_kernels)
    return EmulatedOps(
        hardware,
        numerics,
        prepared,
        packed=packed,
        plans=op_plans(experiment, recall_fitted(experiment), tensor_parallel=backend.tensor_parallel),
        tensor_parallel=backend.tensor_parallel,
    )
