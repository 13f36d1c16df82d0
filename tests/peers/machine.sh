#!/bin/sh
# Becomes systemd, process 1 of a machine whose files are those below ROOT, changed in memory only. Called in namespaces of
# its own (mount, pid, uts, ipc, cgroup); the network is this machine's. Nothing that is written there is written here.
#
#   machine.sh FOLDER ROOT [FROM TO]...    FOLDER is empty; each FROM of this machine is seen as TO in the other one

set -eu
folder=$1
lower=$2
shift 2
mount --make-rprivate /
mount -t tmpfs machine "$folder"
root=$folder/root
mkdir "$folder/upper" "$folder/work" "$root"
mount -t overlay machine -o "lowerdir=$lower,upperdir=$folder/upper,workdir=$folder/work" "$root"
while [ $# -gt 0 ]; do
    mkdir -p "$root$2"
    mount --bind "$1" "$root$2"
    mount -o remount,bind,ro "$root$2"
    shift 2
done

mount -t proc machine "$root/proc"
mount -t sysfs -o ro machine "$root/sys"
mount -t cgroup2 machine "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=1777 machine "$root/tmp"
mount -t tmpfs -o mode=755 machine "$root/run"
mount -t tmpfs -o mode=755 machine "$root/dev"
for device in null zero full random urandom tty; do
    : > "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 machine "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
mount -t tmpfs -o mode=1777 machine "$root/dev/shm"

# It starts what it is told to and the journal; what this machine starts is this machine's.
units=$root/etc/systemd/system
rm -rf "$units" "$root/etc/fstab" "$root/lib/systemd/system/sysinit.target.wants" \
    "$root/lib/systemd/system/local-fs.target.wants" "$root/lib/systemd/system/multi-user.target.wants"
mkdir -p "$units/sysinit.target.wants"
ln -s /lib/systemd/system/systemd-journald.service "$units/sysinit.target.wants/"
for unit in systemd-udevd.service systemd-udevd-control.socket systemd-udevd-kernel.socket; do
    ln -s /dev/null "$units/$unit"
done
printf '[Unit]\nDefaultDependencies=no\n' > "$units/nothing.target"
tr -d - < /proc/sys/kernel/random/uuid > "$root/etc/machine-id"

# Not chroot: in there nobody may make a user namespace, and the unit wants one.
cd "$root"
mkdir -p .before
pivot_root . .before
umount -l /.before
mount --make-rshared / # as systemd does on a machine that is not made of namespaces
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=nothing.target --log-target=journal
