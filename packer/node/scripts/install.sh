# Install the node's files.
set -eu
umask 022
stage=$1
tar -C / --no-overwrite-dir --numeric-owner -xpf "$stage/payload.tar"
rm "$stage/payload.tar"
systemctl --quiet enable ovenbird-agent.service ovenbird-imds-guard.service
/usr/bin/kubelet --version
/usr/bin/containerd --version
/usr/bin/runc --version | head -n 1
