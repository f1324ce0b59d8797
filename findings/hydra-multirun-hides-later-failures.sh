#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: where several jobs of a --multirun fail, each failure is reported, on the terminal or in the job's folder.
# Happens: all jobs run, then the error of the first failed one is printed. Nothing tells that others failed as well:
#   no line on the terminal, none in their folders' logs, and the exit code is 1 either way.
# Seen: hydra-core 1.3.8 with its basic sweeper and launcher, 2026-11
# Output: exit code 1; "case 1 is too large" printed: True; "case 2 is too large" printed or in any file: False
# Here: sweeps have a sweeper of their own: each failed job is printed at once and has a row and a log.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1
cd "$folder"

cat > app.py <<'END_PYTHON'
import hydra


@hydra.main(config_path=None, version_base="1.3")
def main(cfg):
    if cfg.case > 0:
        raise ValueError(f"case {cfg.case} is too large")


main()
END_PYTHON
venv/bin/python - <<'END_PYTHON'
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

command = [sys.executable, "app.py", "--multirun", "+case=0,1,2", "hydra.sweep.dir=sweep"]
run = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
files = [path for path in Path("sweep").rglob("*") if path.is_file()]
everything = run.stdout + "".join(path.read_text() for path in files)

first, second = "case 1 is too large", "case 2 is too large"
print("hydra-core", version("hydra-core"))
print("Three jobs, of which the last two raise:")
print(run.stdout)
print(f"exit code {run.returncode}")
print(f'"{first}" printed: {first in run.stdout}; "{second}" printed or in any file: {second in everything}')
assert "#2 : +case=2" in run.stdout, "the third job did not run"
assert run.returncode == 1 and first in run.stdout and second not in everything
END_PYTHON
