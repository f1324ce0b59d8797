# SPDX-License-Identifier: Apache-2.0
"""The ground: errors, checked dataclasses, units, files, the terminal, drawings. Knows nothing of models or devices."""
