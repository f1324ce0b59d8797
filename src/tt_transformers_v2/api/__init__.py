# SPDX-License-Identifier: Apache-2.0
"""The seed design's entry points for Python: ModelFactory and MultiHeadAttention."""
