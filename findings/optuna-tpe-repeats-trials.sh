#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a sampler asked for 40 trials in a space of 8 points says when it has seen them all, or spreads evenly.
# Happens: the TPE sampler, which is the default, does not mind points it has seen: after its random start it asks for
#   the best one again and again. Where a trial takes minutes, most of the time goes into repeats.
# Seen: optuna 5.0.0, numpy 1.26.4, 2026-11
# Output: 40 trials of 8 points, seed 0: the best point 20 times; trials after which all were seen: 17
# Here: a repeated point is answered with its known figures, without a run; after many, the next unseen one is taken.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check optuna==5.0.0 numpy==1.26.4
cd "$folder"

venv/bin/python - <<'END_PYTHON'
from collections import Counter

import optuna

optuna.logging.set_verbosity(optuna.logging.ERROR)
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
seen = []
for _ in range(40):
    trial = study.ask()
    weights = trial.suggest_categorical("weights", ["BF16", "BFP8", "BFP4", "BFP2"])
    fidelity = trial.suggest_categorical("fidelity", ["LoFi", "HiFi2"])
    seen.append((weights, fidelity))
    study.tell(trial, ["BF16", "BFP8", "BFP4", "BFP2"].index(weights) + 10.0 * (fidelity == "HiFi2"))

(best, times), *_ = Counter(seen).most_common(1)
covered = max(seen.index(point) for point in set(seen)) + 1
print("optuna", optuna.__version__)
print("A deterministic objective on 4 x 2 categorical choices:")
print(f"40 trials of {len(set(seen))} points, seed 0: the best point {times} times;", end=" ")
print(f"trials after which all were seen: {covered}")
assert best == ("BF16", "LoFi") and times >= 15, (best, times)
END_PYTHON
