# Import container images into the store that the node's containerd will find: unpacked,
# pinned against kubelet's garbage collection (nothing could pull them again), and without
# the layers that they were unpacked from.
set -eu
umask 022
stage=$1
run=$(mktemp -d /run/ovenbird-import.XXXXXX)
socket=$run/containerd.sock
cat >"$run/config.toml" <<CONFIG
version = 3
root = "/var/lib/containerd"
state = "$run/state"
disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime", "io.containerd.nri.v1.nri"]
[grpc]
  address = "$socket"
[ttrpc]
  address = "$socket.ttrpc"
CONFIG

containerd --log-level warn --config "$run/config.toml" >"$run/log" 2>&1 &
containerd=$!
finish() {
  status=$?
  kill "$containerd" 2>/dev/null || :
  wait "$containerd" 2>/dev/null || :
  # Each node's containerd makes an id of its own.
  rm -rf /var/lib/containerd/io.containerd.grpc.v1.introspection
  [ "$status" -eq 0 ] || tail -n 20 "$run/log" >&2
  rm -rf "$run"
}
trap finish EXIT
ctr() { /usr/bin/ctr --address "$socket" --namespace k8s.io --connect-timeout 5s "$@"; }

tries=0
until ctr version >/dev/null 2>&1; do
  kill -0 "$containerd" 2>/dev/null || { echo "containerd ended before it answered" >&2; exit 1; }
  tries=$((tries + 1))
  [ "$tries" -lt 300 ] || { echo "containerd did not answer within 30 s" >&2; exit 1; }
  sleep 0.1
done

ctr images import --local --snapshotter overlayfs --discard-unpacked-layers \
  --label io.cri-containerd.pinned=pinned "$stage/images.tar" >/dev/null
rm "$stage/images.tar"
# Removing an image synchronously runs the garbage collector, which the layers wait for.
first=$(ctr images ls -q | head -n 1)
ctr images tag "$first" localhost/ovenbird/collect:garbage >/dev/null
ctr images rm --sync localhost/ovenbird/collect:garbage >/dev/null
ctr images ls -q
