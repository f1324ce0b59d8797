# SPDX-License-Identifier: Apache-2.0
"""Runs one experiment and writes its result: here, or on a card."""
