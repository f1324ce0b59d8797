# SPDX-License-Identifier: Apache-2.0
"""How an op is laid over the cores of a chip and a model over a mesh: plain values, without ttnn."""
