# SPDX-License-Identifier: Apache-2.0
"""What will it cost, and what would change it: the questions behind scripts/predict.py."""
