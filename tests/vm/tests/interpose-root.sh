#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The root file system: interposed while it is mounted, attached again by the initramfs before it is mounted, detached while
# it is mounted, with an exact snapshot all along.
# groups: interpose daemon
# disks: 48M 64M
# root-disk: yes
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"
. "$SRC/tests/vm/guest/root.sh"

# log_line TEXT: the number of the first line of the kernel's log that has it, 0 if none has.
log_line() {
	local line
	line=$(dmesg | grep -nF -m 1 -- "$1")
	echo "$((${line%%:*} + 0))"
}

# started_first: the initramfs has started the store before it mounted the root file system.
started_first() {
	local store root
	store=$(log_line "cowsnap-activate: the store main is")
	root=$(log_line "EXT4-fs (${DISK0#/dev/}): mounted filesystem")
	((root > 0)) || fail "the root file system is not mounted from $DISK0: $(grep ' / ' /proc/mounts)"
	((store > 0 && store < root)) || {
		dmesg | tail -n 40
		fail "the store was not started before the root file system was mounted (lines $store and $root)"
	}
	say "ok: the store was started before the root file system was mounted"
}

daemon_start() {
	PATH=$BUILD/daemon:$BUILD/tools:$PATH
	start_system_bus
	cowsnapd >>/bed/cowsnapd.log 2>&1 &
	daemon_answers || fail "the daemon does not answer"
}

# snapshot_sum NAME: the checksum of all that it has.
snapshot_sum() {
	local device
	device=$(snapd-cli activate "$1") || fail "$1 is not active"
	sum "$device"
	snapd-cli deactivate "$1" >/dev/null
}

case $(phase) in
start)
	install_cowsnap
	load_module
	modprobe ext4 || fail "no ext4"
	daemon_start
	check "a store" snapd-cli store create "$DISK1" --name main
	root_make "$DISK0"
	mount "$DISK0" /mnt
	cp /var/lib/cowsnap/stores.json /mnt/var/lib/cowsnap/
	make_tree /mnt/srv/tree
	tree_sum /mnt/srv/tree >/bed/tree
	umount /mnt
	reboot_to attach
	;;
attach)
	started_first
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
	same "nothing is hooked" 0 "$(hooks)"
	daemon_start
	while echo "$RANDOM" >/srv/busy && sync /srv/busy; do :; done &
	writer=$!
	check "the mounted root is attached while it is written to" snapd-cli origin attach "$DISK0" --name root
	kill $writer
	wait $writer 2>/dev/null
	same "the functions are hooked" 2 "$(hooks)"
	# what a snapshot must be is what the device has while nobody can write to it
	check "the root is frozen" fsfreeze --freeze /
	sum "$DISK0" >/bed/first
	snapd-cli create root --name first >/bed/created 2>&1
	status=$?
	fsfreeze --unfreeze /
	same "a snapshot is made" 0 "$status"
	rm -rf /srv/tree
	make_tree /srv/later
	sync
	[[ $(</bed/first) != "$(sum "$DISK0")" ]] || fail "nothing was written"
	same "the snapshot is exact" "$(</bed/first)" "$(snapshot_sum first)"
	# as it is, mounted: the next boot replays its journal
	reboot_to again
	;;
again)
	rm -rf /srv/later
	make_tree /srv/boot
	sync
	started_first
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
	same "the origin was attached by the initramfs" 1 "$(dmsetup ls --target cow-origin | wc -l)"
	same "the functions are hooked" 2 "$(hooks)"
	daemon_start
	same "the daemon finds it as it was" "attached interposed $DISK0" \
		"$(snapd-cli show root -o state --no-headings) $(snapd-cli show root -o method --no-headings) $(
			snapd-cli show root -o device --no-headings)"
	same "what was written since the mount is preserved" "$(</bed/first)" "$(snapshot_sum first)"
	mkdir -p /run/snapshot
	check "the snapshot is mounted" snapd-cli mount first /run/snapshot
	same "its files are those of its creation" "$(</bed/tree)" "$(tree_sum /run/snapshot/srv/tree)"
	[[ ! -e /run/snapshot/srv/later ]] || fail "the snapshot has later files"
	check "it is unmounted" snapd-cli umount first
	check "it is deleted" snapd-cli delete first --yes
	check "the mounted root is detached" snapd-cli origin detach root --yes
	same "nothing is hooked any more" 0 "$(hooks)"
	make_tree /srv/detached
	sync
	reboot_to plain
	;;
plain)
	started_first
	same "nothing is attached any more" 0 "$(dmsetup ls --target cow-origin | grep -c .)"
	;;
esac
