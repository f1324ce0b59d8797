# SPDX-License-Identifier: Apache-2.0
"""What the card computes, on this machine."""
