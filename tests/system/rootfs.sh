#!/bin/sh
# Makes, once, what the tests of the service need to boot a real systemd, and prints where it is:
#   rootfs/  a minimal Debian with systemd and, in /opt/reposyncd, a virtual environment with the dependencies
#   tools/   systemd-nspawn, unpacked only: installed, it would upgrade this machine's own systemd
# Kept in $XDG_CACHE_HOME/reposyncd-tests, by a digest of this script and of the dependencies. As root, on Debian. The
# mirror is the one that apt uses here.
set -eu
project=$(cd "$(dirname "$0")/../.." && pwd)
cache=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/reposyncd-tests
dependencies=$(python3 -c 'if True:
    import sys, tomllib
    print(*tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"], sep="\n")' "$project/pyproject.toml")
key=$({ cat "$0"; echo "$dependencies"; } | sha256sum | cut -c1-16)
place=$cache/$key
if [ -e "$place/complete" ]; then
    echo "$place"
    exit
fi

say() { echo "system tests: $*" >&2; }
umask 022
mkdir -p "$cache"
exec 9> "$cache/lock"
flock 9
[ ! -e "$place/complete" ] || { echo "$place"; exit; }
for old in "$cache"/*/; do # of another pyproject.toml
    [ "${old%/}" = "$place" ] || rm -rf --one-file-system "$old"
done
rm -rf --one-file-system "$place"
mkdir -p "$place/tools" "$place/packages"

say "unpacking systemd-nspawn and debootstrap"
cd "$place/packages"
apt-get update -qq >&2
apt-get download -qq systemd-container libsystemd-shared debootstrap >&2
for package in *.deb; do dpkg -x "$package" "$place/tools"; done

say "making a root file system, which takes a minute or two"
mirror=$(apt-get indextargets --format '$(SITE)' 'Created-By: Packages' | head -n 1)
release=$(apt-get indextargets --format '$(CODENAME)' 'Created-By: Packages' | head -n 1)
DEBOOTSTRAP_DIR=$place/tools/usr/share/debootstrap "$place/tools/usr/sbin/debootstrap" --variant=minbase \
    --include=systemd,systemd-sysv,dbus,dbus-user-session,libpam-systemd,python3,python3-venv,python3-systemd,procps,util-linux,ca-certificates \
    "$release" "$place/rootfs" "$mirror" > "$place/debootstrap.log" 2>&1 || { tail -n 20 "$place/debootstrap.log" >&2; exit 1; }

say "installing the dependencies"
cp /etc/ssl/certs/ca-certificates.crt "$place/rootfs/etc/ssl/certs/ca-certificates.crt"
cp /etc/resolv.conf "$place/rootfs/etc/resolv.conf"
cp /etc/hosts "$place/rootfs/etc/hosts"
[ ! -e /etc/pip.conf ] || cp /etc/pip.conf "$place/rootfs/etc/pip.conf"
# python3-systemd is Debian's build of systemd-python, so that no compiler is needed.
chroot "$place/rootfs" python3 -m venv --system-site-packages /opt/reposyncd
echo "$dependencies" > "$place/rootfs/opt/requirements.txt"
chroot "$place/rootfs" /opt/reposyncd/bin/pip install --quiet --no-cache-dir --requirement /opt/requirements.txt hatchling >&2
rm -rf "$place/packages" "$place"/rootfs/var/cache/apt/archives/*.deb
touch "$place/complete"
echo "$place"
