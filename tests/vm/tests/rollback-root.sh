#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Rolling the mounted root file system back: scheduled, begun by the initramfs before it is mounted, from the mapped device
# that is stacked for that and has its UUID; when all is copied back the next boot mounts the disk itself again.
# groups: daemon
# disks: 48M 96M
# root-disk: uuid
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/root.sh"

# has WHAT: the root file system's files of that time.
has() {
	same "the root has its files of $1" "$(<"/bed/tree-$1")" "$(tree_sum /srv/tree)"
}

case $(phase) in
start)
	root_begin
	mount "$DISK0" /mnt
	cp /var/lib/cowsnap/stores.json /mnt/var/lib/cowsnap/
	make_tree /mnt/srv/tree
	tree_sum /mnt/srv/tree >/bed/tree-early
	umount /mnt
	reboot_to attach
	;;
attach)
	started_before_root "$DISK0"
	root_daemon_start
	check "the mounted root is attached" snapd-cli origin attach "$DISK0" --name root
	check "a snapshot" snapd-cli create root --name early
	rm -rf /srv/tree
	make_tree /srv/tree
	sync
	tree_sum /srv/tree >/bed/tree-now
	cli_refused 5 "mounted on /" rollback early --yes
	cli "when it is attached the next time" rollback early --yes --schedule
	same "it is scheduled" scheduled "$(column root rollback)"
	has now
	reboot_to middle
	;;
middle)
	started_before_root "$(readlink -f /dev/mapper/cowsnap-root)"
	has early
	echo "written meanwhile" >/srv/meanwhile
	sync
	root_daemon_start
	same "it is stacked for that" stacked "$(column root method)"
	mkdir -p /run/snapshot
	check "what was there before is mounted" snapd-cli mount undo-early /run/snapshot
	same "with its files" "$(<"/bed/tree-now")" "$(tree_sum /run/snapshot/srv/tree)"
	check "it is unmounted" snapd-cli umount undo-early
	tries=0
	until [[ $(column root rollback) == none ]]; do
		((++tries < 300)) || fail "the rollback does not end: $(snapd-cli show root)"
		sleep 0.2
	done
	has early
	reboot_to over
	;;
over)
	started_before_root "$DISK0"
	has early
	grep -q meanwhile /srv/meanwhile || fail "what was written meanwhile is gone"
	root_daemon_start
	same "it is interposed again" "attached interposed" "$(column root state) $(column root method)"
	same "the snapshots are sound" "active active" "$(column early state) $(column undo-early state)"
	;;
esac
