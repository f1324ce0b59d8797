# SPDX-License-Identifier: Apache-2.0
"""Models as EleutherAI's lm-evaluation-harness asks them: from its own command line, and as task=evaluate."""
