# SPDX-License-Identifier: Apache-2.0
"""The checkout that the tests stand in is the one that they test, in the processes that they start too.

Only tests marked `device` may see a simulator. ttnn reads TT_METAL_SIMULATOR when it is loaded, in this process and in
those that it starts, so it is taken out of the environment here; backends/ttnn/conftest.py gives it back to them.

The package is loaded before any test file loads torch, as commands do it: torch's threads then wait without spinning,
which beside another worker of pytest-xdist would take its core.
"""

import os

import places
import tt_transformers_v2  # noqa: F401 - sets how torch's threads wait

os.environ["PYTHONPATH"] = os.pathsep.join([str(places.ROOT / "src"), *filter(None, [os.environ.get("PYTHONPATH")])])
places.SIMULATOR = os.environ.pop("TT_METAL_SIMULATOR", None)
