# SPDX-License-Identifier: Apache-2.0
"""From a line to a checked configuration: compose, override, apply rules, check, adjust, resolve."""
