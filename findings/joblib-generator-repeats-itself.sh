#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: delayed(rng.random)() called four times by Parallel draws four numbers.
# Happens: with processes, joblib's default, the generator is pickled with each call in the state it has here, which no
#   call advances: all draw the same number. So do np.random.rand and random.random, methods of hidden generators.
# Seen: joblib 1.6.0 (loky), numpy 1.26.4, 2026-11
# Output: processes [0.637, 0.637, 0.637, 0.637], threads [0.637, 0.27, 0.041, 0.017]; np.random.rand: 1 different of 4
# Here: jobs are given seeds, which are part of their configuration; no generator is handed over.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check joblib==1.6.0 numpy==1.26.4
cd "$folder"

cat > draw.py <<'END_PYTHON'
import joblib
import numpy as np
from joblib import Parallel, delayed


def drawn(function, **how):
    return Parallel(n_jobs=2, **how)(delayed(function)() for _ in range(4))


def main():
    processes = drawn(np.random.default_rng(0).random)
    threads = drawn(np.random.default_rng(0).random, backend="threading")
    np.random.seed(0)
    legacy = drawn(np.random.rand)
    print("joblib", joblib.__version__, "numpy", np.__version__)
    print("Four draws from one generator, by Parallel:")
    print(f"processes {[round(x, 3) for x in processes]}, threads {[round(x, 3) for x in threads]};", end=" ")
    print(f"np.random.rand: {len(set(legacy))} different of 4")
    assert len(set(processes)) == len(set(legacy)) == 1 and len(set(threads)) == 4


if __name__ == "__main__":
    main()
END_PYTHON
venv/bin/python draw.py
