# SPDX-License-Identifier: Apache-2.0
"""The process that ttnn runs in: what this machine has, the system described to it, and what it says when it fails."""
