# SPDX-License-Identifier: Apache-2.0
"""The checkout that the tests stand in is the one that they test, in the processes that they start too."""

import os

from places import ROOT

os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
