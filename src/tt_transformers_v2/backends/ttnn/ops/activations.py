# SPDX-License-Identifier: Apache-2.0
"""Activations of MLPs, their gates, and the soft cap of logits: each step an op of its own, but silu times up."""

from __future__ import annotations

from typing import Any

from ....hardware.op_table import LM_HEAD, RESIDUAL_ADD, SILU_MUL
from ....models.layer_spec import MlpSpec
from .op_settings import Settings


class Activations(Settings):
    """`gated`, `activated`, `scaled` and `capped` of models.decoder.Ops."""

    def gated(self, gate: Any, up: Any, mlp: MlpSpec) -> Any:
        """activation(gate) * up in the format of the MLP's activations; silu is part of the product, another one comes
        before it, as the emulated backend has them."""
        import ttnn

        if mlp.limit is not None:
            return self._limited(gate, up, mlp.limit, mlp.alpha)
        if mlp.activation != "silu":
            return self._product(f"{mlp.activation}_mul", self.activated(gate, mlp), up)
        return self._product("silu_mul", gate, up, input_tensor_a_activations=[ttnn.UnaryOpType.SILU])

    def activated(self, x: Any, mlp: MlpSpec) -> Any:
        """activation(x), in the format of the MLP's activations."""
        import ttnn

        place = self._elementwise(x)
        calls = {
            "silu": lambda: ttnn.silu(x, memory_config=place),
            "gelu_tanh": lambda: ttnn.gelu(x, variant=ttnn.GeluVariant.Tanh, memory_config=place),
            "gelu": lambda: ttnn.gelu(x, variant=ttnn.GeluVariant.Accurate, memory_config=place),
            "relu": lambda: ttnn.relu(x, memory_config=place),
            "relu2": lambda: ttnn.unary_chain(
                x,
                [ttnn.UnaryWithParam(ttnn.UnaryOpType.RELU), ttnn.UnaryWithParam(ttnn.UnaryOpType.SQUARE)],
                memory_config=place,
            ),
        }
        found = self.do(mlp.activation, lambda _: calls[mlp.activation]())
        return self._as(found, self._activations(SILU_MUL), mlp.activation)

    def scaled(self, x: Any, gate: Any) -> Any:
        """x times the sigmoid of the first column of `gate`, in the format of the residual stream."""
        import ttnn

        column = self.do("shared gate slice", lambda _: ttnn.slice(gate, [0, 0, 0, 0], [1, 1, self._rows(gate), 1]))
        share = self._sigmoid("shared gate", column)
        return self._product("shared gate mul", x, share, op=RESIDUAL_ADD)

    def capped(self, logits: Any, cap: float) -> Any:
        """cap * tanh(logits / cap), in bfloat16 but for the last step.

        ttnn.softcap would be one op; ttnn 0.81.1 has it for Blackhole only.
        """
        import ttnn

        place, wide = self._place(), ttnn.bfloat16
        logits = self._interleaved("soft cap", logits)
        scaled = self.do("soft cap scale", lambda _: ttnn.mul(logits, 1 / cap, dtype=wide, memory_config=place))
        turned = self.do(
            "soft cap tanh", lambda _: ttnn.tanh(scaled, fast_and_approximate_mode=False, memory_config=place)
        )
        form = self._activations(LM_HEAD)
        return self.do("soft cap mul", lambda _: ttnn.mul(turned, cap, dtype=form, memory_config=place))

    def _limited(self, gate: Any, up: Any, limit: float, alpha: float) -> Any:
        """gpt-oss's gate: min(gate, limit) * sigmoid(alpha * gate) * (up + 1), up cut to +- limit. All but the product
        are bfloat16."""
        import ttnn

        place, wide = self._elementwise(gate), ttnn.bfloat16
        gate, up = self._as(gate, wide, "gate"), self._as(up, wide, "up")
        cut = self.do("gate clamp", lambda _: ttnn.clamp(gate, max=limit, memory_config=place))
        up = self.do("up clamp", lambda _: ttnn.clamp(up, min=-limit, max=limit, memory_config=place))
        turned = self.do("gate scale", lambda _: ttnn.mul(cut, alpha, dtype=wide, memory_config=place))
        turned = self._sigmoid("gate", turned)
        cut = self.do("gate mul", lambda _: ttnn.mul(cut, turned, dtype=wide, memory_config=place))
        up = self.do("up add", lambda _: ttnn.add(up, 1.0, dtype=wide, memory_config=place))
        return self._product("limited_mul", cut, up)

    def _sigmoid(self, what: str, x: Any) -> Any:
        import ttnn

        place = self._elementwise(x)
        return self.do(
            f"{what} sigmoid", lambda _: ttnn.sigmoid(x, mode=ttnn.SigmoidMode.Accurate, memory_config=place)
        )

    def _product(self, name: str, x: Any, y: Any, *, op: Any = SILU_MUL, **activations: Any) -> Any:
        import ttnn

        return self.do(
            name,
            lambda _: ttnn.mul(
                x,
                y,
                fast_and_approximate_mode=False,
                dtype=self._activations(op),
                memory_config=self._elementwise(x),
                **activations,
            ),
        )
