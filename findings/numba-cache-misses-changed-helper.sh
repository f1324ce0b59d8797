#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a function compiled with cache=True is compiled anew when code that is compiled into it has changed.
# Happens: only the file of the function itself is looked at. After a change to a helper in another file, which also has
#   cache=True, the caller goes on with the old helper and returns old results; the helper, called itself, is new.
# Seen: numba 0.68.1, 2026-11
# Output: helper 20.0, caller 21.0, caller uncompiled 21.0
#         after the change: helper 30.0, caller 21.0, caller uncompiled 31.0
# Here: a compiled kernel calls compiled helpers of its own file only (numerics/compiled.py says so).
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check numba==0.68.1 numpy==1.26.4
cd "$folder"

cat > helper.py <<'END_PYTHON'
from numba import njit


@njit(cache=True)
def scaled(x):
    return x * 2.0
END_PYTHON
cat > caller.py <<'END_PYTHON'
from helper import scaled
from numba import njit


@njit(cache=True)
def shifted(x):
    return scaled(x) + 1.0
END_PYTHON
cat > show.py <<'END_PYTHON'
import sys

from caller import shifted
from helper import scaled

found = (scaled(10.0), shifted(10.0), shifted.py_func(10.0))
print("helper %s, caller %s, caller uncompiled %s" % found)
assert found == tuple(map(float, sys.argv[1:])), found
END_PYTHON

venv/bin/python -c 'import numba; print("numba", numba.__version__)'
echo "A cached function that calls a cached helper of another file:"
venv/bin/python show.py 20 21 21
sed 's/x \* 2.0/x * 3.0/' helper.py > changed.py
mv changed.py helper.py
echo "After a change to the helper, in a new process:"
venv/bin/python show.py 30 21 31
