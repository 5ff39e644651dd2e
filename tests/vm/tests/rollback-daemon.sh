#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Rolling back from the command line: at once where nobody uses the origin, else at the next boot, before it is mounted,
# for a stacked and an interposed one. What was there before is a snapshot; an origin shows what it was rolled back to
# while blocks are copied back, after a daemon that was killed, and after a reboot in the middle.
# groups: quick daemon
# disks: 64M 192M 64M
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"

# ended ORIGIN: waits until all is copied back.
ended() {
	local tries=0
	until [[ $(column "$1" rollback) == none ]]; do
		((++tries < 300)) || fail "the rollback of $1 does not end: $(snapd-cli show "$1")"
		sleep 0.2
	done
}

# has MOUNTED WHAT: the tree that was there at the time of the snapshot, or later.
has() {
	same "$1 has its files of $2" "$(<"/bed/${1##*/}-$2")" "$(tree_sum "$1/tree")"
}

# new_tree MOUNTED WHAT
new_tree() {
	rm -rf "$1/tree"
	make_tree "$1/tree"
	sync
	tree_sum "$1/tree" >"/bed/${1##*/}-$2"
}

install_cowsnap
load_module
modprobe ext4
mkdir -p /mnt/stacked /mnt/disk

if [[ $(phase) == start ]]; then
	start_system_bus
	daemon_start
	check "a store" snapd-cli store create "$DISK1" --name main
	mkfs.ext4 -q "$DISK0"
	mkfs.ext4 -q "$DISK2"
	cli "in place of the device" origin attach "$DISK0" --name stacked
	stacked=$(column stacked device)
	check "the stacked one is mounted" mount "$stacked" /mnt/stacked
	check "the disk is mounted" mount "$DISK2" /mnt/disk
	new_tree /mnt/stacked early
	new_tree /mnt/disk early
	cli "created early" create stacked --name early
	cli "goes on as it is" create "$DISK2" --name disk-early
	new_tree /mnt/stacked now
	new_tree /mnt/disk now

	note "at once"
	cli_refused 5 "mounted on /mnt/stacked" rollback early --yes
	same "nothing has changed" none "$(column stacked rollback)"
	check "it is unmounted" umount /mnt/stacked
	cli "$stacked shows early; what was there before is undo-early" rollback early --yes
	check "it is mounted" mount "$stacked" /mnt/stacked
	has /mnt/stacked early
	echo "written meanwhile" >/mnt/stacked/meanwhile
	ended stacked
	umount /mnt/stacked
	cli "shows undo-early" rollback undo-early --yes --undo-name again
	kill -9 $daemon
	wait $daemon 2>/dev/null
	daemon_start
	check "it is mounted" mount "$stacked" /mnt/stacked
	has /mnt/stacked now
	[[ ! -e /mnt/stacked/meanwhile ]] || fail "there is what was written later"
	ended stacked
	same "all are sound" "active active active" "$(column early state) $(column undo-early state) $(column again state)"
	cli "" delete again undo-early --yes

	note "at the next boot"
	cli_refused 5 "--schedule" rollback disk-early --yes
	cli "when it is attached the next time" rollback disk-early --yes --schedule
	cli "when it is attached the next time" rollback early --yes --schedule --undo-name before
	cli "not scheduled any more" cancel stacked
	cli "when it is attached the next time" rollback early --yes --schedule --undo-name before
	same "both are scheduled" "scheduled scheduled" "$(column stacked rollback) $(column "$DISK2" rollback)"
	has /mnt/disk now
	umount /mnt/stacked /mnt/disk
	reboot_to scheduled
fi

if [[ $(phase) == scheduled ]]; then
	check "the origins are attached before they are mounted" cowsnap-activate
	start_system_bus
	daemon_start
	same "the disk is stacked for it" stacked "$(column disk-early origin | xargs -I{} snapd-cli show {} -o method --no-headings)"
	origin=$(column disk-early origin)
	check "the one is mounted" mount "$(column stacked device)" /mnt/stacked
	check "the other one is mounted" mount "$(column "$origin" device)" /mnt/disk
	has /mnt/stacked early
	has /mnt/disk early
	echo "written meanwhile" >/mnt/disk/meanwhile
	same "what was there before is there" "active active" "$(column before state) $(column undo-disk-early state)"
	umount /mnt/stacked /mnt/disk
	reboot_to middle
fi

if [[ $(phase) == middle ]]; then
	check "the origins are attached" cowsnap-activate
	start_system_bus
	daemon_start
	origin=$(column disk-early origin)
	ended stacked
	ended "$origin"
	check "it is mounted" mount "$(column "$origin" device)" /mnt/disk
	has /mnt/disk early
	grep -q meanwhile /mnt/disk/meanwhile || fail "what was written meanwhile is gone"
	umount /mnt/disk
	reboot_to over
fi

check "the origins are attached" cowsnap-activate
start_system_bus
daemon_start
same "the disk is interposed again" interposed "$(column "$DISK2" method)"
check "the disk itself is mounted" mount "$DISK2" /mnt/disk
has /mnt/disk early
check "what it was before is mounted" snapd-cli mount undo-disk-early /mnt/stacked
has_before=$(tree_sum /mnt/stacked/tree)
same "with its files" "$(<"/bed/disk-now")" "$has_before"
check "it is unmounted" snapd-cli umount undo-disk-early
umount /mnt/disk
check "the file systems are sound" eval 'e2fsck -fn "$DISK2" && e2fsck -fn "$(column stacked device)"'
