#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expect: a forbidden contract that is kept means that importing the source module does not load the forbidden one.
# Happens: importing a.b runs a/__init__.py first, but that is no edge of the graph: what a package's __init__ imports
#   is not seen by contracts about its submodules, and the contract is kept while the module is loaded.
# Seen: import-linter 2.15, 2026-11
# Output: light without decimal KEPT; decimal loaded by "import pkg.light": True
# Here: the contracts stand beside tests that import in a new process and look at sys.modules.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check import-linter==2.15
cd "$folder"

mkdir -p pkg
echo 'import decimal' > pkg/__init__.py
echo 'import math' > pkg/light.py
cat > .importlinter <<'END_INI'
[importlinter]
root_package = pkg
include_external_packages = True

[importlinter:contract:1]
name = light without decimal
type = forbidden
source_modules = pkg.light
forbidden_modules = decimal
END_INI

venv/bin/python -c 'from importlib.metadata import version; print("import-linter", version("import-linter"))'
echo "pkg/__init__.py imports decimal, which a contract forbids to pkg.light:"
PYTHONPATH=. venv/bin/lint-imports --no-cache | grep 'light without decimal' | tee verdict
grep -q 'KEPT' verdict
venv/bin/python -c '
import sys
import pkg.light
loaded = "decimal" in sys.modules
print(f"decimal loaded by \"import pkg.light\": {loaded}")
assert loaded
'
