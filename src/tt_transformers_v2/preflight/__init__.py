# SPDX-License-Identifier: Apache-2.0
"""task=preflight: whether the real ttnn accepts every op of an experiment, asked without a card."""
