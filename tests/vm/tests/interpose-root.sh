#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The root file system: interposed while it is mounted, attached again by the initramfs before it is mounted, detached while
# it is mounted, with an exact snapshot all along.
# groups: interpose daemon
# disks: 48M 64M
# root-disk: path
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"
. "$SRC/tests/vm/guest/root.sh"

case $(phase) in
start)
	root_begin
	mount "$DISK0" /mnt
	cp /var/lib/cowsnap/stores.json /mnt/var/lib/cowsnap/
	make_tree /mnt/srv/tree
	tree_sum /mnt/srv/tree >/bed/tree
	umount /mnt
	reboot_to attach
	;;
attach)
	started_before_root "$DISK0"
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
	same "nothing is hooked" 0 "$(hooks)"
	root_daemon_start
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
	started_before_root "$DISK0"
	mount -t tracefs tracefs /sys/kernel/tracing 2>/dev/null
	same "the origin was attached by the initramfs" 1 "$(dmsetup ls --target cow-origin | wc -l)"
	same "the functions are hooked" 2 "$(hooks)"
	root_daemon_start
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
	started_before_root "$DISK0"
	same "nothing is attached any more" 0 "$(dmsetup ls --target cow-origin | grep -c .)"
	;;
esac
