#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A mounted logical volume that is interposed is extended: its snapshots stay exact, also over a reboot, none is created that
# would lack the new part, and it can be rolled back. Another origin's disk is pulled out: the daemon says so, goes on, and it
# can be cleaned up.
# groups: interpose daemon
# disks: 32M 64M 16M
# hotplug: yes
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"

lvm_without_udev "$DISK0"
volume=/dev/mapper/group-volume

# is_extended WHEN
is_extended() {
	same "$1 it is attached" "attached interposed $volume" \
		"$(column volume state) $(column volume method) $(column volume device)"
	[[ $(column volume problem) == *"has grown from 24576 to 40960 sectors"* ]] ||
		fail "$1 the problem is '$(column volume problem)'"
	same "$1 its snapshot is said to be exact" active "$(column first state)"
	same "$1 its snapshot is exact" "$(</bed/first)" "$(snapshot_sum first)"
	cli_refused 1 "have nothing of what lies beyond" create volume --name second
}

install_cowsnap
load_module
modprobe ext4 || fail "no ext4"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mkdir -p /run/volume /run/disk

if [[ $(phase) == start ]]; then
	start_system_bus
	daemon_start
	check "a volume group" vgcreate -qq group "$DISK0"
	check "a logical volume" lvcreate -qq -Wn -Zn -L 12M -n volume group
	mkfs.ext4 -q $volume
	check "it is mounted" mount $volume /run/volume
	make_tree /run/volume/tree
	check "a store" snapd-cli store create "$DISK1" --name main --no-autoextend
	check "it is an origin" snapd-cli origin attach $volume --name volume
	cli "(file-system consistent)" create volume --name first
	snapshot_sum first >/bed/first
	check "the volume is extended" lvextend -qq -L 20M group/volume
	check "the file system grows" resize2fs $volume
	truncate -s 14M /run/volume/load
	verified_load /run/volume/load 4 || { tail -20 /run/fio.log; fail "fio found an error"; }
	check "the daemon looks" snapd-cli origin list
	sleep 11
	is_extended "when it was extended,"

	note "another origin's disk is pulled out"
	mkfs.ext4 -q "$DISK2"
	check "it is mounted" mount "$DISK2" /run/disk
	check "it is an origin" snapd-cli origin attach "$DISK2" --name disk
	cli "(file-system consistent)" create disk --name of-disk
	unplug 2 || fail "it is not pulled out"
	for ((tries = 0; tries < 100; ++tries)); do
		[[ $(column disk state) == gone ]] && break
		sleep 0.5
	done
	same "it is told" "gone unavailable" "$(column disk state) $(column of-disk state)"
	[[ $(column disk problem) == *"has been pulled out"*"origin detach disk"* ]] ||
		fail "the problem is '$(column disk problem)'"
	same "once" 1 "$(grep -c "the origin disk: .*has been pulled out" /bed/cowsnapd.log)"
	cli_refused 1 "has been pulled out" create disk --name more
	is_extended "beside it"
	umount /run/disk 2>/dev/null || umount --lazy /run/disk
	check "its snapshot is deleted" snapd-cli delete of-disk --yes
	cli "detached" origin detach disk --yes
	rm -rf /run/volume/tree
	umount /run/volume
	reboot_to again
fi

if [[ $(phase) == again ]]; then
	check "the volume is there" vgchange -qq -ay group
	check "the origins are attached before they are mounted" cowsnap-activate
	same "the functions are hooked" 2 "$(hooks)"
	check "it is mounted" mount $volume /run/volume
	make_tree /run/volume/later
	verified_load /run/volume/load 2 || { tail -20 /run/fio.log; fail "fio found an error"; }
	start_system_bus
	daemon_start
	is_extended "after a reboot"

	# back to what the volume was, in its old size
	umount /run/volume
	check "the volume is rolled back" snapd-cli rollback first --undo-name undo --yes
	same "it is stacked for that" "attached stacked" "$(column volume state) $(column volume method)"
	for ((tries = 0; tries < 200; ++tries)); do
		[[ $(column volume rollback) == none ]] && break
		sleep 0.5
	done
	same "all is copied back" none "$(column volume rollback)"
	same "it is what it was" "$(</bed/first)" "$(sum "$(column volume device)")"
	check "the file system is sound" e2fsck -fn "$(column volume device)"
	reboot_to rolled-back
fi

check "the volume is there" vgchange -qq -ay group
check "the origins are attached" cowsnap-activate
check "it is mounted" mount $volume /run/volume
[[ -d /run/volume/tree && ! -e /run/volume/later ]] || fail "it has not the files of then"
start_system_bus
daemon_start
is_extended "after the rollback"

# a new size for new snapshots, as the problem says
check "the snapshots are deleted" snapd-cli delete first undo --yes
cli "detached" origin detach volume --yes
check "it is attached again" snapd-cli origin attach $volume
cli "(file-system consistent)" create $volume --name third
same "with its size" 20971520 "$(snapd-cli show third -o size --bytes --no-headings)"
umount /run/volume
