#!/usr/bin/env bash
# From an empty clone with nothing installed to the first streamed answer: `make up` on a bare Debian 12 (debootstrap, with
# git, make and certificates) in a folder of its own. Everything is included: packages, build, model, start.
#
#   sudo bench/empty_clone.sh [COMMIT]      default: HEAD; needs debootstrap, a network, 6 GB under TMPDIR
set -euo pipefail
cd "$(dirname "$0")/.."
repository=$(pwd)
commit=$(git rev-parse --short "${1:-HEAD}")
root=$(mktemp -d)
# Nothing of the machine's may be left mounted when the folder is removed.
clean() {
  for mount in proc sys dev; do mountpoint -q "$root/$mount" && umount "$root/$mount"; done
  rm -rf --one-file-system "$root"
}
trap clean EXIT

debootstrap --variant=minbase --include=ca-certificates,git,make bookworm "$root" > "$root.log" 2>&1 ||
  { tail "$root.log"; exit 1; }
# The way into the network is the machine's own.
for file in /etc/resolv.conf /etc/hosts /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
  [ ! -f "$file" ] || cp "$file" "$root$file"
done
mount -t proc proc "$root/proc"
for mount in sys dev; do mount --bind "/$mount" "$root/$mount"; done
git clone -q "$repository" "$root/root/pdserve"
git -C "$root/root/pdserve" checkout -q "$commit"

echo "machine: $(lscpu | sed -n 's/^Model name: *//p'), $(nproc) processors, load $(cut -d' ' -f1 /proc/loadavg)"
echo "commit:  $commit"
start=$(date +%s)
# `up` serves until it is told to end: the first line of the answer is what is waited for.
HOME=/root chroot "$root" timeout -s INT 3600 make -C /root/pdserve up PORT=0 > "$root.log" 2>&1 &
up=$!
until grep -q '^Serving ' "$root.log"; do
  kill -0 "$up" 2> /dev/null || { tail "$root.log"; exit 1; }
  sleep 0.2
done
end=$(date +%s)
grep -A1 '^> ' "$root.log"
echo "from nothing to the first answer: $((end - start)) s"
kill -INT "$up"  # which hands it to make and to what make runs
wait "$up" || true
rm -f "$root.log"
