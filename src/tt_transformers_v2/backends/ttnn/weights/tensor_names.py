# SPDX-License-Identifier: Apache-2.0
"""What follows from a tensor's canonical name: which matrix a bias belongs to, and how a matrix is cut for a mesh."""

from __future__ import annotations

from ....hardware.op_table import ROUTER
from ....models.decoder import matrix_op


def is_bias(name: str) -> bool:
    """Whether a vector is added to a product: "bqkv", "bo", "expert3.b1", "router_bias"; all others are norms'."""
    own = name.rpartition(".")[2]
    return own == "router_bias" or own.startswith("b")


def biased_matrix(name: str) -> str:
    """The matrix that a bias belongs to: "w1" of "b1", "expert3.w2" of "expert3.b2", "router" of "router_bias"."""
    group, dot, own = name.rpartition(".")
    return ROUTER.matrix if own == "router_bias" else f"{group}{dot}w{own[1:]}"


def matrix_axes(name: str) -> tuple[int | None, int]:
    """The dimensions of a matrix [1, 1, in, out] that are split over the heads' axis and over the hidden one; None for
    a router, whose scores every chip needs whole."""
    op = matrix_op(name)
    if op is ROUTER:
        return None, 2
    return (2, 3) if op.inputs_over == "heads" else (3, 2)


def bias_axes(name: str, *, fractured: bool, hidden_split: bool) -> tuple[int | None, int | None]:
    """The same of a bias [1, 1, 1, out].

    It is split as its matrix's columns are; where those are summed over the heads' axis, each chip has the columns that
    a `fractured` sum leaves it.
    """
    over_heads, over_hidden = matrix_axes(biased_matrix(name))
    if over_heads == 2:
        over_heads = 3 if fractured else None
    return over_heads, (3 if over_hidden == 3 and hidden_split else None)
