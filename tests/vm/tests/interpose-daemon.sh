#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A device in use goes on as it is when the command line makes a snapshot of it: attached, found again by a daemon that
# was killed, put back at boot before it is mounted, and detached while it is mounted, with exact snapshots all along.
# When it is mounted before it is put back, its snapshots are stale, and say so.
# groups: quick interpose daemon
# disks: 64M 64M 32M 64M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# first_is_exact WHEN: the snapshot "first" is what was mounted when it was created, as a device and as files.
first_is_exact() {
	same "$1 the snapshot is exact" "$(</bed/first)" "$(snapshot_sum first)"
	check "$1 it is mounted" snapd-cli mount first /mnt/snapshot
	same "$1 its files are those of its creation" "$(</bed/tree)" "$(tree_sum /mnt/snapshot/tree)"
	[[ ! -e /mnt/snapshot/later ]] || fail "the snapshot has later files"
	check "$1 it is unmounted" snapd-cli umount first
}

# needs_recovery DEVICE: its ext4 has something in its journal, as one has that is mounted and not frozen.
needs_recovery() {
	dumpe2fs -h "$1" 2>/dev/null | grep -q '^Filesystem features:.*needs_recovery'
}

install_cowsnap
load_module
modprobe -a ext4 loop || fail "no ext4, or no loop devices"
mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
mkdir -p /mnt/data /mnt/other /mnt/snapshot

if [[ $(phase) == start ]]; then
	start_system_bus
	daemon_start
	mkfs.ext4 -q "$DISK0"
	check "a file system is mounted" mount "$DISK0" /mnt/data
	make_tree /mnt/data/tree
	tree_sum /mnt/data/tree >/bed/tree
	cli_refused 3 "store create" create "$DISK0" --name first
	check "a store" snapd-cli store create "$DISK1" --name main
	same "nothing is hooked" 0 "$(hooks)"

	# a kernel that does not let writes be redirected: nothing stays, the cause is told, and stacking works as ever
	echo 0 >/proc/sys/kernel/ftrace_enabled
	cli_refused 5 "kernel.ftrace_enabled is 0" create "$DISK0" --name first
	cli_refused 5 "dmesg" origin attach "$DISK0"
	same "nothing was attached" "" "$(snapd-cli origin list --no-headings)"
	cli "in place of the device" origin attach "$DISK3" --name stacked
	cli "detached" origin detach stacked --yes
	echo 1 >/proc/sys/kernel/ftrace_enabled

	# who writes to the device itself has not opened it exclusively, and would go past a stacked origin
	exec 9<>"$DISK3"
	cli_refused 5 "open for writing by program" origin attach "$DISK3" --method stack
	exec 9>&-
	exec 9<"$DISK3"
	cli "in place of the device" origin attach "$DISK3" --name stacked
	exec 9<&-
	cli "detached" origin detach stacked --yes
	sleep 1000 9<>"$DISK3" &
	writer=$!
	cli "$DISK3 goes on as it is" origin attach "$DISK3" --name written
	kill $writer
	cli "detached" origin detach written --yes

	note "a path of a multipath device is nobody's"
	modprobe -a dm-multipath dm-round-robin
	check "a multipath device" dmsetup create paths --uuid mpath-paths \
		--table "0 $(sectors "$DISK3") multipath 0 0 1 1 round-robin 0 1 1 $DISK3 1000"
	cli_refused 1 "a path of the multipath device paths" origin attach "$DISK3"
	check "it is removed" dmsetup remove paths

	cli "interposed: $DISK0 goes on as it is" create "$DISK0" --name first
	same "the functions are hooked" 2 "$(hooks)"
	same "the device is used as before" "$DISK0 interposed" "$(column "$DISK0" device) $(column "$DISK0" method)"
	same "the file system was frozen" file-system "$(column first consistency)"
	snapshot_sum first >/bed/first
	rm -rf /mnt/data/tree
	make_tree /mnt/data/later
	sync
	first_is_exact "after changes"

	# what is refused
	cli_refused 1 "attached already" origin attach "$DISK0"
	cli_refused 5 "delete them first" origin detach "$DISK0" --yes
	cli_refused 1 "already" create "$DISK3" --name first
	same "what was attached for nothing is detached" 1 "$(snapd-cli origin list --no-headings | wc -l)"
	mkswap "$DISK2" >/dev/null
	check "swap" swapon "$DISK2"
	cli_refused 5 "active swap" origin attach "$DISK2"
	swapoff "$DISK2"
	mkfs.ext4 -q "$DISK3"
	check "another file system" mount "$DISK3" /mnt/other
	cli_refused 5 "mounted on /mnt/other" origin attach "$DISK3" --method stack
	truncate -s 16M /mnt/other/store
	check "a loop device on it" losetup /dev/loop5 /mnt/other/store
	check "a store in a file" snapd-cli store create /dev/loop5 --name in-file
	cli_refused 2 "the device /dev/loop5 of the store in-file" origin attach "$DISK3" --store in-file
	cli_refused 2 "the device /dev/loop5 of the store in-file" origin attach "$DISK3" --store main
	check "that store is closed" snapd-cli store close in-file --yes
	losetup -d /dev/loop5
	truncate -s 16M /mnt/data/store
	check "a loop device on the origin" losetup /dev/loop5 /mnt/data/store
	cli_refused 2 "cannot stand on an origin" store create /dev/loop5 --name in-file
	losetup -d /dev/loop5
	umount /mnt/other

	# what is mounted from a device that is mapped to the origin is not frozen, what is from its partition is
	check "a mapped device" dmsetup create upper --table "0 $(sectors "$DISK3") linear $DISK3 0"
	check "is mounted" mount /dev/mapper/upper /mnt/other
	cli "(crash consistent)" create "$DISK3" --name mapped
	umount /mnt/other
	dmsetup remove upper
	check "a partition" sfdisk --quiet "$DISK2" <<<$'label: dos\nstart=2048'
	mkfs.ext4 -q "${DISK2}1"
	check "is mounted" mount "${DISK2}1" /mnt/other
	make_tree /mnt/other/tree
	needs_recovery "${DISK2}1" || fail "the mounted file system does not look mounted"
	cli "(file-system consistent)" create "$DISK2" --name whole
	rm -rf /mnt/other/tree
	umount /mnt/other
	check "the snapshot of the whole disk" losetup --read-only --offset 1M /dev/loop5 "$(snapd-cli activate whole)"
	refused "in it the partition's file system has nothing to recover" needs_recovery /dev/loop5
	check "it is sound" e2fsck -fn /dev/loop5
	check "it is mounted" mount -o ro /dev/loop5 /mnt/other
	same "it has what was only in memory" "$(</bed/tree)" "$(tree_sum /mnt/other/tree)"
	umount /mnt/other
	losetup -d /dev/loop5
	check "it is deactivated" snapd-cli deactivate whole
	check "all but the first are deleted" snapd-cli delete mapped whole --yes
	cli "detached" origin detach "$DISK2" --yes
	cli "detached" origin detach "$DISK3" --yes

	kill -9 $daemon
	wait $daemon 2>/dev/null
	make_tree /mnt/data/killed
	sync
	daemon_start
	same "a daemon that was killed finds it again" "attached interposed $DISK0" \
		"$(column "$DISK0" state) $(column "$DISK0" method) $(column "$DISK0" device)"
	first_is_exact "behind it"
	umount /mnt/data
	reboot_to again
fi

if [[ $(phase) == again ]]; then
	check "the origins are attached before they are mounted" cowsnap-activate
	same "the functions are hooked" 2 "$(hooks)"
	check "the device itself is mounted" mount "$DISK0" /mnt/data
	[[ -e /mnt/data/killed ]] || fail "the files are not there"
	rm -rf /mnt/data/later
	make_tree /mnt/data/rebooted
	sync
	start_system_bus
	daemon_start
	same "it is interposed again" "attached interposed $DISK0" \
		"$(column "$DISK0" state) $(column "$DISK0" method) $(column "$DISK0" device)"
	first_is_exact "after a reboot"
	cli "(file-system consistent)" create "$DISK0" --name second
	same "both are exact" "active active" "$(column first state) $(column second state)"
	umount /mnt/data
	reboot_to unseen
fi

# the device is mounted before its origin is attached
check "the device is mounted" mount "$DISK0" /mnt/data
make_tree /mnt/data/unseen
sync
check "the origins are attached" cowsnap-activate
start_system_bus
daemon_start
same "what was written unseen is found out" "stale stale" "$(column first state) $(column second state)"
cli "the snapshot first is stale" activate first
check "what it has can be read" dd if="$(column first device)" of=/dev/null bs=1M status=none
check "it is deactivated" snapd-cli deactivate first
cli_refused 1 "--force" rollback first --yes
cli_refused 1 "--force" rollback first --schedule --yes
same "it is not rolled back" none "$(column "$DISK0" rollback)"
cli "(file-system consistent)" create "$DISK0" --name third
same "a later one is exact" active "$(column third state)"
check "the snapshots are deleted" snapd-cli delete first second third --yes
cli "detached" origin detach "$DISK0" --yes
same "nothing is hooked any more" 0 "$(hooks)"
make_tree /mnt/data/detached
umount /mnt/data
check "the file system is sound" e2fsck -fn "$DISK0"
cli "$DISK2 goes on as it is" origin attach "$DISK2" --method interpose
cli "detached" origin detach "$DISK2" --yes
check "the store is closed" snapd-cli store close main --yes
