# Sourced by the scripts of make up and make down: where things are and how to reach them.
#
#   OVENBIRD_STATE    where the lab, the control plane and the kubeconfig live (.ovenbird)
#   OVENBIRD_LAB      the lab's name, which is its network namespace's too (ovenbird)
#   OVENBIRD_CLUSTER  the cluster's name (demo)
#   OVENBIRD_VERSION  the Kubernetes minor of a new cluster (the newest on offer)
#   OVENBIRD_IMAGE    the disk that instances boot from (.ovenbird/image/disk.raw)
#
# Relative paths are relative to the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

state=${OVENBIRD_STATE:-.ovenbird}
lab=${OVENBIRD_LAB:-ovenbird}
cluster=${OVENBIRD_CLUSTER:-demo}
image=${OVENBIRD_IMAGE:-.ovenbird/image/disk.raw}
role=arn:aws:iam::111122223333:role/ovenbird-node
kubectl=$({ ls -d dist/components/kubernetes/*/kubectl 2>/dev/null || :; } | sort -V | tail -n 1)

step() { scripts/step "$1" "$state/logs/$2.log" "${@:3}"; }
lab() { bin/ovenbird-lab "$1" --name "$lab" --state-dir "$state/lab" "${@:2}"; }
# use_lab points AWS clients at the lab.
use_lab() {
  local environment
  environment=$(lab env)
  eval "$environment"
}
# instances lists what runs or is about to: ID and private address.
instances() { lab status | awk '$1 ~ /^i-/ && ($2 == "pending" || $2 == "running") { print $1, $5 }'; }
kubectl() { "$kubectl" --kubeconfig "$state/kubeconfig" "$@"; }

[ "$(id -u)" -eq 0 ] || {
  echo "${0##*/}: needs root, for the lab's network namespace and virtual machines" >&2
  exit 1
}
