# SPDX-License-Identifier: Apache-2.0
"""What is computed: specifications, weights, tokenizers and the decoder."""
