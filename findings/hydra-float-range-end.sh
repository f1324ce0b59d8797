#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a sweep over range(START,STOP,STEP) leaves STOP out, as documented, for floats too.
# Happens: with 1.3.8 the end is in or out by how the three floats round, and values between drift; 1.4.0rc3 leaves it
#   out. So one line runs another number of jobs after an upgrade. An empty range runs none, says so and exits with 0.
# Seen: hydra-core 1.3.8 and 1.4.0rc3, 2026-11
# Output: range(0.0,0.3,0.1): 1.3.8 [0.0, 0.1, 0.2]; 1.4.0rc3 the same
#         range(0.7,1.0,0.1): 1.3.8 [0.7, 0.7999999999999999, 0.8999999999999999, 1.0]; 1.4.0rc3 [0.7, 0.8, 0.9]
# Here: ranges are expanded by the installed Hydra, ends and all; an empty one is refused: "it has no value".
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
cat > ranges.py <<'END_PYTHON'
import sys
from importlib.metadata import version

from hydra.core.override_parser.overrides_parser import OverridesParser


def values(text):
    return list(OverridesParser.create().parse_override(f"lr={text}").sweep_iterator())


found = {text: values(text) for text in ("range(0.0,0.3,0.1)", "range(0.7,1.0,0.1)", "range(5,1)")}
print("hydra-core", version("hydra-core"))
for text, swept in found.items():
    print(f"  {text}: {swept}")
drifting = [0.7, 0.7999999999999999, 0.8999999999999999, 1.0]
expected = drifting if sys.argv[1] == "includes" else [0.7, 0.8, 0.9]
assert list(found.values()) == [[0.0, 0.1, 0.2], expected, []], found
END_PYTHON

echo "Where a sweep over a range of floats ends:"
"${PYTHON:-python3}" -m venv old
old/bin/pip install --quiet --disable-pip-version-check hydra-core==1.3.8 omegaconf==2.3.1
old/bin/python ranges.py includes
"${PYTHON:-python3}" -m venv new
new/bin/pip install --quiet --disable-pip-version-check hydra-core==1.4.0rc3 omegaconf==2.4.1rc1
new/bin/python ranges.py excludes

cat > app.py <<'END_PYTHON'
import hydra


@hydra.main(config_path=None, version_base="1.3")
def main(cfg):
    print("a job")


main()
END_PYTHON
old/bin/python app.py --multirun '+layers=range(5,1)' > log
echo "A --multirun over range(5,1), which exits with 0:"
cat log
grep -q 'Launching 0 jobs' log
