# kill-agent PHASE...: makes the agent join once more, as if the machine had just started, and
# kills it in each of the phases. Some take few milliseconds, so the agent creeps: it is
# stopped, but for moments. /var/lib/killed gets the phases that it was killed in.
set -u
readonly unit=ovenbird-agent.service
readonly processes=/sys/fs/cgroup/system.slice/$unit/cgroup.procs
readonly status=/run/ovenbird/status.json
declare -A killed=()
exec {silence}<> <(:) # nothing ever comes of it: to wait without another process

# creep lets the agent run for up to 33 ms, and sets pid to its process and doing to what it
# has told systemd by then. It fails when there is no agent.
creep() {
  local program moment
  # Not earlier: systemd waits for its child until that is the agent.
  read -r pid <"$processes" && read -r program <"/proc/$pid/comm" && [ "$program" = ovenbird-agent ] || return
  printf -v moment 0.%06d $((RANDOM % 32768))
  kill -CONT "$pid" && read -rt "$moment" -u "$silence"
  kill -STOP "$pid" || return
  # systemctl would ask for all properties.
  doing=$(busctl get-property org.freedesktop.systemd1 /org/freedesktop/systemd1/unit/ovenbird_2dagent_2eservice \
    org.freedesktop.systemd1.Service StatusText)
  doing=${doing#s \"} doing=${doing%\"}
}

# runs tells whether the phase runs, which it does not between two attempts. systemd is not
# told of those that follow joining, but they take longer than the file of the status is late.
runs() {
  if [[ $doing == *" is Ready in "* ]]; then
    [[ $(<"$status") =~ \"name\":\ \"$1\",[[:space:]]+\"state\":\ \"running\" ]]
    return
  fi
  case ", ${doing#* is joining: }," in
  *", $1 (try "*) return 1 ;;
  *", $1,"* | *", $1 ("*) return 0 ;;
  *) return 1 ;;
  esac
}

# due tells whether one of the phases runs that the agent was not killed in.
due() {
  local phase
  for phase; do
    [ -z "${killed[$phase]:-}" ] && runs "$phase" && return
  done
  return 1
}

# The kernel of a machine that has just started has an ID that the API server has not seen:
# only when kubelet has reported it is the Node Ready again.
touch /run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id

# One joining is enough, but for a phase that the agent was through with in a moment.
for _ in {1..4}; do
  systemctl stop "$unit" ovenbird-watch.service kubelet.service containerd.service
  rm -rf /run/ovenbird/*.{json,stale} /var/lib/kubelet/pki
  cat /proc/sys/kernel/random/uuid >/run/boot_id
  systemctl start --no-block "$unit"
  while [ "${#killed[@]}" -lt $# ]; do
    creep || { systemctl is-active --quiet "$unit" && break || continue; } # it has ended well
    due "$@" || continue
    kill -9 "$pid"
    while kill -0 "$pid"; do :; done
    for phase; do
      runs "$phase" && killed[$phase]=yes
    done
    echo "kill-agent: $doing" >/dev/console
  done 2>/dev/null
  systemctl start "$unit" # returns when it has joined
  [ "${#killed[@]}" -lt $# ] || break
done
echo "${!killed[@]}" >/var/lib/killed
echo "no phase is left to kill the agent in" >/dev/console
