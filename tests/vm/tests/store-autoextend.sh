#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store on a logical volume gets full under writes: the daemon extends it from its volume group before it is, again and
# again, with LVM's own program. No snapshot is lost, and after a reboot the store stands on all its volumes.
# groups: daemon
# disks: 64M 256M
# timeout: 400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"

# The daemon's commands do not get its environment.
mount -t tmpfs tmpfs /etc/lvm || fail "no place for LVM's configuration"
LVM_SYSTEM_DIR=/etc/lvm lvm_without_udev "$DISK1"
mkdir -p /etc/cowsnap
echo '{ "refresh_interval_seconds": 1 }' >/etc/cowsnap/cowsnapd.conf

install_cowsnap
load_module

if [[ $(phase) == start ]]; then
	start_system_bus
	check "a volume group" vgcreate -q vg "$DISK1"
	check "a volume" lvcreate -q --yes -L 32M -n store vg
	daemon_start
	cli "new volumes of the volume group vg" store create /dev/vg/store
	cli "in place of the device" origin attach "$DISK0" --name data
	data=$(column data device)
	: >/bed/sums
	for ((round = 0; round < 4; ++round)); do
		cli "created s$round" create data --name "s$round"
		echo "s$round $(sum "$data")" >>/bed/sums
		for ((chunk = 0; chunk < 16; ++chunk)); do
			dd if=/dev/urandom of="$data" bs=1M count=1 seek=$((chunk * 3 + round)) oflag=direct conv=notrunc status=none ||
				fail "a write failed"
			sleep 0.3
		done
	done
	same "all snapshots are there" "s0 s1 s2 s3" "$(snapd-cli list -o name --no-headings | xargs)"
	lvs --noheadings -o lv_name vg | grep -qw main_cowsnap1 || fail "no volume was made: $(lvs vg)"
	note "$(snapd-cli store list -o name,size,used,devices)"
	grep -q "was extended with" /bed/cowsnapd.log || fail "the daemon does not say that it extended the store"
	! grep -q "is full" /bed/cowsnapd.log || fail "the store was full before it was extended"
	while read -r name expected; do
		same "$name is what it was" "$expected" "$(snapshot_sum "$name")"
	done </bed/sums
	same "nothing went wrong" - "$(snapd-cli store list -o autoextend_problem --no-headings)"

	kill $daemon
	wait $daemon 2>/dev/null
	reboot_to again
fi

start_system_bus
check "the volumes are there" vgchange -q -ay vg
daemon_start
same "the store is used" active "$(snapd-cli store list -o state --no-headings)"
while read -r name expected; do
	same "$name is what it was, after a reboot" "$expected" "$(snapshot_sum "$name")"
done </bed/sums
