#!/usr/bin/env bash
# Installs what building and testing pdserve needs, from the packages of Debian 12 or Ubuntu 24.04. Installs
# nothing when everything is there; says what it installs; asks nothing.
#   tools/install_packages.sh [--test]      --test: also what only tests and benchmarks run
set -euo pipefail

packages=(
  g++ cmake ninja-build pkg-config ccache git curl ca-certificates
  libssl-dev openssl         # TLS; certificates for the tests
  libsimdjson-dev nlohmann-json3-dev libtomlplusplus-dev libcli11-dev
  libspdlog-dev libfmt-dev prometheus-cpp-dev
  libucx-dev                 # KV transport
  libpcre2-dev libutf8proc-dev libxxhash-dev libsqlite3-dev
  zlib1g-dev npm             # packed test data; vendors' tokenizers for the tests
  libgtest-dev libgmock-dev libbenchmark-dev
  clang-19 clang-tidy-19 clang-format-19 libclang-rt-19-dev lld-19
  python3 python3-venv python3-pip
)
proxies=(nginx-light haproxy)  # what the gateway stands behind, and is measured against
browser=chromium               # opens the pages of bench
case "${1:-}" in
  --test) packages+=("${proxies[@]}" "$browser") ;;
  '') ;;
  *) echo "usage: tools/install_packages.sh [--test]" >&2; exit 2 ;;
esac

missing=()
for package in "${packages[@]}"; do
  # npm may have come with another Node.js than the distribution's, which its package would conflict with.
  if [ "$package" = npm ] && command -v npm >/dev/null; then continue; fi
  # A browser may have come from elsewhere.
  if [ "$package" = "$browser" ] && command -v "$browser" >/dev/null; then continue; fi
  # Any nginx and HAProxy will do, and one that is there is left as it is.
  if [ -x "/usr/sbin/${package%-light}" ]; then continue; fi
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "This machine has no apt-get. Install the equivalents of: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "Run as root, or install: apt-get install ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "Installing packages: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
"${sudo[@]}" apt-get update -qq
# Ubuntu has Chromium as a snap alone; without it the tests of the pages are skipped.
if ! apt-cache show "$browser" >/dev/null 2>&1; then
  for at in "${!missing[@]}"; do
    [ "${missing[at]}" = "$browser" ] && { unset "missing[at]"; echo "No package $browser here: report pages are not tested."; }
  done
  [ ${#missing[@]} -gt 0 ] || exit 0
fi
# Tests run the proxies themselves, on ports of their own: those of the packages neither start now, which
# would take port 80, nor with the machine.
services=() policy=/usr/sbin/policy-rc.d
for package in "${missing[@]}"; do
  case "$package" in nginx-light | haproxy) services+=("${package%-light}") ;; esac
done
if [ ${#services[@]} -gt 0 ] && [ ! -e "$policy" ]; then
  trap '"${sudo[@]}" rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' | "${sudo[@]}" tee "$policy" >/dev/null
  "${sudo[@]}" chmod 755 "$policy"
fi
"${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
if [ ${#services[@]} -gt 0 ] && command -v systemctl >/dev/null; then
  "${sudo[@]}" systemctl disable --quiet "${services[@]}"
fi
