# SPDX-License-Identifier: Apache-2.0
"""One file per console command (scripts/NAME.py starts the same), and what all of them share."""
