# SPDX-License-Identifier: Apache-2.0
"""Units that figures are printed in."""

GIB = 1 << 30
