# SPDX-License-Identifier: Apache-2.0
"""Sweeps: many experiments planned, checked and frozen before the first starts, then run and resumed."""
