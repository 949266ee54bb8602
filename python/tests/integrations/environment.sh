#!/usr/bin/env bash
# Prints the folder of a virtual environment with what the tests of real trainings need (requirements.txt, and the unmodified
# OpenRLHF), which it makes on first use: some minutes, 7 GB. Its folder verl is verl (requirements-verl.txt), to put in front.
#
# environment.sh          make it where it is not there yet, then print its folder; all else it says goes to stderr
# environment.sh --find   print its folder if it is there, else fail; never makes anything
#
# Environment: PYTHON (default python3), and NETMON_INTEGRATIONS_ENV, the folder (default: one for each Python version and content
# of the requirements under ~/.cache/netmon, out of reach of `make clean`).
set -euo pipefail

PYTHON=${PYTHON:-python3}
OPENRLHF=openrlhf==0.11.2
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
requirements=$here/requirements.txt
need_mib=12000

say() { printf 'integrations/environment.sh: %s\n' "$*" >&2; }

command -v "$PYTHON" >/dev/null || { say "there is no $PYTHON; set PYTHON to a Python 3.10 or newer"; exit 1; }
key=$("$PYTHON" -c 'import sys; print(sys.implementation.cache_tag)')-$({ cat "$requirements" "$here/requirements-verl.txt"; echo "$OPENRLHF"; } | sha256sum | cut -c 1-12)
place=${NETMON_INTEGRATIONS_ENV:-${XDG_CACHE_HOME:-$HOME/.cache}/netmon/integrations-$key}

# The key is written last, so an environment whose making was cut short has none.
finished() { [ "$(cat "$place/netmon-test-environment" 2>/dev/null)" = "$key" ] && "$place/bin/python" -c ''; }

if finished; then
  printf '%s\n' "$place"
  exit 0
fi
[ "${1:-}" != --find ] || exit 1

mkdir -p "$(dirname "$place")"
exec 9>"$place.lock"
if ! flock --nonblock 9; then
  say "another run is making $place; waiting for it"
  flock 9
fi
if ! finished; then
  if [ -e "$place" ] && [ ! -e "$place/netmon-test-environment" ] && [ -n "$(ls -A "$place")" ]; then
    say "$place is in the way: it was not made by this script; remove it, or set NETMON_INTEGRATIONS_ENV to another folder"
    exit 1
  fi
  rm -rf "$place"
  free_mib=$(($(df -Pk "$(dirname "$place")" | awk 'NR == 2 { print $4 }') / 1024))
  if [ "$free_mib" -lt "$need_mib" ]; then
    say "it needs $need_mib MiB, and $(dirname "$place") has $free_mib MiB free; make room, or set NETMON_INTEGRATIONS_ENV"
    exit 1
  fi
  say "making $place, once: torch, DeepSpeed, Ray and OpenRLHF; some minutes"
  mkdir -p "$place"
  : >"$place/netmon-test-environment"
  "$PYTHON" -m venv "$place" >&2 \
    || { say "$PYTHON cannot make virtual environments; on Debian and Ubuntu: apt install python3-venv"; exit 1; }
  pip() { "$place/bin/python" -m pip install --quiet --disable-pip-version-check "$@" >&2; }
  # DeepSpeed looks for torch when it is built, and for a GPU unless it is told.
  pip wheel setuptools ninja "$(grep '^torch>' "$requirements")" "$(grep '^numpy' "$requirements")"
  DS_BUILD_OPS=0 DS_ACCELERATOR=cpu pip --no-build-isolation --requirement "$requirements"
  pip --no-deps "$OPENRLHF"
  pip --no-deps --target "$place/verl" --requirement "$here/requirements-verl.txt"
  printf '%s\n' "$key" >"$place/netmon-test-environment"
  say "done"
fi
printf '%s\n' "$place"
