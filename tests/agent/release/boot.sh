#!/bin/sh
# The first process of a small system of its own, in new namespaces: what it writes to this machine's folders is gone
# with it, and systemd starts nothing but itself. $1: an empty folder to keep the writes in.
set -eu
scratch=$1
mount -t tmpfs tmpfs "$scratch"
for folder in usr etc var; do
    mkdir -p "$scratch/$folder/upper" "$scratch/$folder/work"
    layers=lowerdir=/$folder,upperdir=$scratch/$folder/upper,workdir=$scratch/$folder/work
    mount -t overlay overlay -o "$layers" "/$folder"
done
mount -t tmpfs tmpfs /run
mount -t proc proc /proc
for folder in /proc/sys /sys; do
    mount --bind "$folder" "$folder"
    mount -o remount,bind,ro "$folder"
done
mount -t tmpfs tmpfs /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
[ ! -d /sys/kernel/tracing ] || mount -t tracefs tracefs /sys/kernel/tracing

units=/etc/systemd/system
rm -rf /usr/lib/systemd/system/*.wants /usr/lib/systemd/system-generators "$units"/*.wants "$units"/*.requires /etc/fstab
mkdir -p "$units"
printf '[Unit]\nDescription=Nothing\nDefaultDependencies=no\n' >"$units/nothing.target"
# There is no journal here.
mkdir -p /run/systemd/system/kaimon-agent.service.d
printf '[Service]\nStandardError=append:/run/agent.log\n' >/run/systemd/system/kaimon-agent.service.d/log.conf
exec env -i container=test PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --unit=nothing.target --log-target=console --show-status=no
