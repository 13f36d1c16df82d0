#!/bin/sh
# Starts a command as a container runtime does: in namespaces of its own (mount, pid, uts, ipc), with a file system that
# is read-only except for the volumes, /run/senderproxy and /tmp, and as a user without a capability. The network is this machine's.
#
#   container.sh FOLDER ROOT USER [FROM TO]... -- COMMAND...    FOLDER is empty; each FROM of this machine is TO in there

set -eu
folder=$1
lower=$2
user=$3
shift 3
mount --make-rprivate /
mount -t tmpfs container "$folder"
root=$folder/root
mkdir "$root"
mount --bind "$lower" "$root"
mount -o remount,bind,ro "$root"
mount -t proc container "$root/proc"
mount -t tmpfs -o mode=1777 container "$root/tmp"
mount -t tmpfs -o "mode=0700,uid=$user,gid=$user" container "$root/run/senderproxy"
mount -t tmpfs -o mode=755 container "$root/dev"
for device in null zero full random urandom; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
while [ "$1" != -- ]; do
    mount --bind "$1" "$root$2"
    shift 2
done
shift
cd "$root"
exec chroot --userspec="$user:$user" --groups= . "$@"
