# SPDX-License-Identifier: Apache-2.0
"""A model's tensors on a mesh: arranged, converted, cached, or with nothing in them."""
