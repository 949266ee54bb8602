#!/usr/bin/env bash
# The main job: builds netmon, puts it into a virtual environment of its own, and runs demo.py there.
#
# run.sh [ARGUMENTS OF demo.py]     --help lists them
#
# Environment: PYTHON (default python3). torch is used where that Python has it, or else the test environment; it is never
# installed. build/demo-env is made anew when netmon or the Python changed.
set -euo pipefail

say() { printf '%-9s %s\n' "$1" "$2"; }
fail() { printf 'run.sh: %s\n' "$*" >&2; exit 1; }

# By its own name, before the folder changes: PYTHON may be relative to it, or a shim.
python=$("${PYTHON:-python3}" -c 'import sys; print(sys.executable)') || fail "there is no ${PYTHON:-python3}; set PYTHON to a Python 3.10 or newer"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "$python is older than Python 3.10; set PYTHON to a newer one"
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

say build "build.sh compiles libnetmon.so; the first time that is a minute or two"
./build.sh

has_torch() { "$1" -c 'import importlib.util, sys; sys.exit(importlib.util.find_spec("torch") is None)'; }
if ! has_torch "$python" && tests=$(PYTHON=$python python/tests/environment.sh --find 2>/dev/null) && has_torch "$tests/bin/python"; then
  python=$tests/bin/python
fi

# The folders where the Python finds its packages. The environment has none of them but torch's, so that netmon is its own.
folders() { "$1" -c 'import sys; print(*[p for p in sys.path if p.endswith(("site-packages", "dist-packages"))], sep="\n")'; }
fingerprint() {
  "$python" -c 'import sys; print(sys.version, sys.executable)'
  folders "$python"
  has_torch "$python" && echo torch
  find pyproject.toml include python/hatch_build.py python/netmon -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z | xargs -0 sha256sum
}

env=build/demo-env
key=$(fingerprint | sha256sum)
# The key is written last, so an environment whose making was cut short has none.
if [ "$(cat "$env/key" 2>/dev/null)" != "$key" ]; then
  say python "making $env"
  rm -rf "$env"
  # Without the package python3-venv Debian's Python makes environments without pip only.
  "$python" -m venv "$env" >/dev/null || "$python" -m venv --without-pip --clear "$env" || fail "$python cannot make virtual environments"
  packages=$(folders "$env/bin/python")
  if has_torch "$python"; then
    folders "$python" >"$packages/torch.pth"
  fi
  export PIP_RETRIES=1 PIP_DEFAULT_TIMEOUT=20
  if "$env/bin/python" -m pip install --quiet --disable-pip-version-check --no-input . >"$env/pip.log" 2>&1; then
    echo "netmon installed by pip" >"$env/how"
  else
    # hatchling, which builds the package, has to come from an index; what it would install is all here.
    printf '%s\n' "$PWD/python" >"$packages/netmon.pth"
    echo "netmon from python/, because pip cannot install it here (build/demo-env/pip.log)" >"$env/how"
  fi
  printf '%s\n' "$key" >"$env/key"
fi
say python "$env: $("$env/bin/python" -c 'import platform as p; print(p.python_implementation(), p.python_version())'), $(cat "$env/how")"

exec "$env/bin/python" examples/demo/demo.py "$@"
