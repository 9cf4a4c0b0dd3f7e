#!/bin/sh
# Find a CPython >= 3.11 (PYTHON= overrides) and let it make .venv ready; options go to environment.py.
set -eu
cd "$(dirname "$0")/.."

fits() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; }

for python in ${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}; do
    if fits "$python"; then
        exec "$python" scripts/environment.py "$@"
    fi
done
echo "setup: no CPython >= 3.11 among '${PYTHON:-python3 python3.13 python3.12 python3.11 python3.14 python}'; say which one with PYTHON=/path/to/python3" >&2
exit 2
