#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What README.md tells to type works as it stands there: first use, D-Bus, after a reboot, and going back to plain devices.
# groups: readme daemon
# disks: 64M 64M 64M 64M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/readme.sh"

install_cowsnap
# The names that README.md gives to the devices.
ln -s "${DISK0}1" /dev/sdb1
ln -s "$DISK1" /dev/sdc
ln -s "$DISK2" /dev/sdd
ln -s "$DISK3" /dev/sde
load_module
modprobe ext4

start_daemon() {
	start_system_bus
	run_readme daemon
	check "the daemon is on the bus" daemon_answers
}

if [[ $(phase) == start ]]; then
	sfdisk --quiet "$DISK0" <<<$'label: dos\nstart=2048' || fail "no partition"
	mkfs.ext4 -q "${DISK0}1"
	check "a device in use" mount /dev/sdb1 /srv
	start_daemon
	run_readme use
	run_readme bus
	umount /srv /mnt/data
	reboot_to again
fi
# The root of a real machine keeps it.
mkdir -p /mnt/data
run_readme boot
start_daemon
run_readme end
same "the device has what was written last" two "$(</srv/file)"
umount /srv
check "its file system is sound" e2fsck -fn "${DISK0}1"
