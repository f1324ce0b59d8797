# SPDX-License-Identifier: Apache-2.0
"""What models.decoder.Ops has and the ttnn backend does not compute yet; planning.split refuses such models before."""

from __future__ import annotations

from typing import Any, NoReturn

from ....common.errors import ConfigError


class NotYet:
    """Refusals in the place of ops."""

    def norm_all_heads(self, qkv: Any, q_norm: Any, k_norm: Any, spec: Any) -> NoReturn:
        """A norm over all heads needs sums over the chips that share them."""
        raise _refusal("norms over all heads")

    def activated(self, x: Any, mlp: Any) -> NoReturn:
        """An MLP without a gate."""
        raise _refusal("MLPs without a gate")

    def biased(self, x: Any, bias: Any, op: Any) -> NoReturn:
        """A bias of wo or w2, added after the sum over chips."""
        raise _refusal("biases of output projections")

    def route(self, scores: Any, experts: Any) -> NoReturn:
        """The choice of experts."""
        raise _refusal("experts")

    def mixed(self, x: Any, chosen: Any, shares: Any, expert: Any) -> NoReturn:
        """The experts themselves."""
        raise _refusal("experts")

    def scaled(self, x: Any, gate: Any) -> NoReturn:
        """The gate of a shared expert."""
        raise _refusal("experts")

    def capped(self, logits: Any, cap: float) -> NoReturn:
        """Soft caps of logits."""
        raise _refusal("soft caps of logits")


def _refusal(what: str) -> ConfigError:
    return ConfigError(f"backend=ttnn does not compute {what} yet.", "Use backend=emulated.")
