# Runs a command in the root file system $1, as process 1 of its own mount, PID, IPC and
# UTS namespaces. Every mount made here ends with the namespaces, and so does every
# process, however this one ends.
#
#   enter ROOT [SOURCE TARGET]... -- COMMAND [ARG]...
set -eu
umask 022
root=$1
shift

mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
# What sets or stops the machine's own kernel can only be read. Not every kernel has both.
for place in sys sysrq-trigger; do
  [ -e "$root/proc/$place" ] || continue
  mount --bind "$root/proc/$place" "$root/proc/$place"
  mount -o remount,bind,ro,nosuid,nodev,noexec "$root/proc/$place"
done
mount --bind /sys "$root/sys"
mount -o remount,bind,ro,nosuid,nodev,noexec "$root/sys"
mount -t tmpfs -o mode=755,nosuid,nodev tmpfs "$root/run"
mkdir -m 1777 "$root/run/lock"

mount -t tmpfs -o mode=755,nosuid,noexec tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  : >"$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620,gid=5 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777,nosuid,nodev tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"

# Names resolve as they do outside. The tree's resolv.conf leads into /run, where
# nothing written here reaches the tree.
if [ -L "$root/etc/resolv.conf" ]; then
  mkdir -p "$root/run/systemd/resolve"
  cp -L /etc/resolv.conf "$root/run/systemd/resolve/stub-resolv.conf" 2>/dev/null || :
fi

while [ "$1" != -- ]; do
  case $2 in /run/*) mkdir -p "$root$2" ;; esac
  mount --bind "$1" "$root$2"
  shift 2
done
shift

# Process 1 gets no default signal handling, so the command is a child of it.
chroot "$root" "$@" &&:
exit $?
