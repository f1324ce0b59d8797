# SPDX-License-Identifier: Apache-2.0
"""Reports over finished experiments: one HTML file per sweep, comparisons, and tables in the terminal."""

from .page import write_report

__all__ = ["write_report"]
