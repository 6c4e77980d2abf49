#!/usr/bin/env bash
# Puts Debian's programs that tests use into an environment's bin: install_tools.sh VENV. It needs no root and
# starts no service. Where they cannot be had, the tests that need them skip and say so.
set -euo pipefail
bin="$(cd "$1/bin" && pwd)"

PATH="$bin:$PATH"
has() { command -v "$1" >/dev/null; }
if has prometheus && has promtool; then exit 0; fi
if ! has apt-get || ! has dpkg; then
    echo "no Prometheus here, and no apt-get that could fetch Debian's: its tests will skip" >&2
    exit 0
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cd "$folder"
fetch() { apt-get -qq download prometheus 2>/dev/null; }
if fetch || { [ "$(id -u)" = 0 ] && apt-get -qq update && fetch; }; then
    dpkg -x prometheus_*.deb .
    install -m 755 usr/bin/prometheus usr/bin/promtool "$bin"
else
    echo "Debian's prometheus cannot be fetched: its tests will skip" >&2
fi
