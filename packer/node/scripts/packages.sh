# Install Debian packages. The first boot in a cloud uses apt too, and so do Debian's own
# upgrades.
set -eu
umask 022
export DEBIAN_FRONTEND=noninteractive
if command -v cloud-init >/dev/null; then
  timeout 300 cloud-init status --wait >/dev/null || : # its own errors are not ours
fi
apt-get -q -o DPkg::Lock::Timeout=300 update
apt-get -q -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
