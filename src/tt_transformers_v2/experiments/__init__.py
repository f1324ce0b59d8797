# SPDX-License-Identifier: Apache-2.0
"""One experiment from its line to its result: composed, checked, run or predicted, swept, searched and reported."""
