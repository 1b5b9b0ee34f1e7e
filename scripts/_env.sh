# Sourced by the scripts beside it: goes to the repository and makes a virtual environment of it when needed.
# It is made anew only when the lock file, the project's metadata, the interpreter or the folder changed.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

_python() {
    local name
    for name in ${PYTHON:-python3 python3.14 python3.13 python3.12 python3.11}; do
        if "$name" -c 'import sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            command -v "$name"
            return
        fi
    done
    echo "dhtex needs Python 3.11 or later with its venv module; set PYTHON to name one" >&2
    return 1
}

_fingerprint() {
    "$1" - "$2" <<'PY'
import hashlib, os, sys
parts = [open(name, "rb").read() for name in (sys.argv[1], "pyproject.toml")]
parts += [sys.version.encode(), os.path.realpath(sys.executable).encode(), os.getcwd().encode()]
print(hashlib.sha256(b"\0".join(parts)).hexdigest())
PY
}

# ensure_env [FOLDER LOCK]
ensure_env() {
    local python wanted folder="${1:-.venv}" lock="${2:-requirements-dev.lock}"
    python="$(_python)"
    wanted="$(_fingerprint "$python" "$lock")"
    if [ "$(cat "$folder/.fingerprint" 2>/dev/null)" = "$wanted" ]; then
        return
    fi
    echo "==> making $folder with $("$python" --version) (once; a minute or so)" >&2
    "$python" -m venv --clear "$folder"
    "$folder/bin/python" -m pip install -qq --disable-pip-version-check --require-hashes -r "$lock"
    # The build back end is in the lock, so nothing is fetched that the lock does not name.
    "$folder/bin/python" -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
    printf '%s\n' "$wanted" >"$folder/.fingerprint"
}
