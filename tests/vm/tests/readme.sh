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
ln -s "$DISK0" /dev/sdb
ln -s "$DISK1" /dev/sdc
ln -s "$DISK2" /dev/sdd
ln -s "$DISK3" /dev/sde
load_module

start_daemon() {
	start_system_bus
	run_readme daemon
	check "the daemon is on the bus" daemon_answers
}

if [[ $(phase) == start ]]; then
	start_daemon
	run_readme use
	run_readme bus
	umount /srv
	reboot_to again
fi
run_readme boot
start_daemon
run_readme end
same "the plain device has what was written last" two "$(</srv/file)"
