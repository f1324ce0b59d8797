# SPDX-License-Identifier: Apache-2.0
"""models.decoder.Ops on ttnn, and the conversions into ttnn's objects."""
