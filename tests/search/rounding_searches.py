# SPDX-License-Identifier: Apache-2.0
"""What tests of rounding as a choice of the search share: its settings on a tiny model."""

BOTH = "search.rounding=[nearest,calibrated]"
TEXT = ("quantize.tokens=256", "quantize.verify_tokens=64", "quantize.window=32")
