# SPDX-License-Identifier: Apache-2.0
"""How close a backend comes to the float32 reference: a walk over real text, layer by layer, and its figures."""
