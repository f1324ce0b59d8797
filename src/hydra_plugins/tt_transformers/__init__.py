# SPDX-License-Identifier: Apache-2.0
"""Hydra's way to the sweeps of tt_transformers_v2: `hydra/sweeper: tt_transformers`."""
