# SPDX-License-Identifier: Apache-2.0
"""How far predictions are from what was measured, and constants refitted from measurements."""
