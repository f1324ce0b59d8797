# SPDX-License-Identifier: Apache-2.0
"""What stands between the decoder and ttnn: run an op, only ask about it, or try a smaller plan."""
