#!/bin/sh
# Prints the interpreter to build .venv with: 3.12 first, then 3.10 (the two ttnn has wheels for), then 3.11.
# A pyenv shim can exist and still refuse to run, so each candidate is tried before it is trusted.
set -u

works() { # works PATH VERSION
    "$1" -c "import sys, venv, ensurepip; sys.exit('%d.%d' % sys.version_info[:2] != '$2')" >/dev/null 2>&1
}

if [ -n "${PYTHON:-}" ]; then
    printf '%s\n' "$PYTHON"
    exit 0
fi
for version in 3.12 3.10 3.11; do
    for candidate in "python$version" "${PYENV_ROOT:-$HOME/.pyenv}/versions/$version".*/bin/python \
        "/usr/local/bin/python$version" "/opt/homebrew/bin/python$version" python3 python; do
        path="$(command -v "$candidate" 2>/dev/null)" || continue
        if works "$path" "$version"; then
            printf '%s\n' "$path"
            exit 0
        fi
    done
done
echo "error: no working Python 3.10, 3.11 or 3.12 found (with venv); install one or set PYTHON=/path/to/python" >&2
exit 1
