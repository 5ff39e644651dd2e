#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A fail-closed root file system whose store is missing, or cannot be read, is not mounted: the initramfs stops and says why and
# how to go on. That word boots it once, and its snapshots are stale then. With the store it boots as ever.
# groups: interpose daemon
# kernels: 6.12
# disks: 48M 64M
# root-disk: uuid
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"
. "$SRC/tests/vm/guest/root.sh"

# store_hidden: no store starts on its disk any more; store_back: it is there again.
store_hidden() {
	dd if="$DISK1" of=/bed/store-start bs=1M count=1 conv=fsync 2>/dev/null || fail "no copy of the start of the store"
	dd if=/dev/zero of="$DISK1" bs=1M count=1 conv=fsync 2>/dev/null || fail "the store is not hidden"
}
store_back() {
	dd if=/bed/store-start of="$DISK1" bs=1M conv=fsync,notrunc 2>/dev/null || fail "the store is not back"
}

# refusal_says TEXT: the boot that was refused.
refusal_says() {
	tr -d '\r' </bed/refusal | grep -qF -- "$1" || fail "the refusal does not say '$1': $(grep -aA6 ALERT /bed/refusal)"
	say "ok: it says: $1"
}

stop_all() {
	kill "$daemon"
	wait "$daemon" 2>/dev/null
}

case $(phase) in
start)
	# Everything before the first boot of the root disk: its initramfs is to have the list with the policy.
	root_begin
	cli "attached $DISK0 as root" origin attach "$DISK0" --name root --method interpose --boot-policy fail-closed
	cli "created first" create root --name first
	same "the policy is shown" fail-closed "$(column root boot_policy)"
	grep -q fail_closed /var/lib/cowsnap/stores.json || fail "stores.json does not have the policy"
	mount "$DISK0" /mnt
	cp /var/lib/cowsnap/stores.json /mnt/var/lib/cowsnap/
	umount /mnt
	stop_all
	reboot_to attached
	;;
attached)
	same "the origin was attached by the initramfs" 1 "$(dmsetup ls --target cow-origin | wc -l)"
	[[ ! -e /run/cowsnap/withheld.json ]] || fail "it is withheld: $(</run/cowsnap/withheld.json)"
	root_daemon_start
	same "its snapshot is good" active "$(column first state)"
	stop_all
	# Nothing is written any more to the root, nor then to the store.
	check "the root is read-only" mount -o remount,ro /
	store_hidden
	reboot_refused override cowsnap.policy=fail-open
	;;
override)
	refusal_says "The root file system on "
	refusal_says "is not mounted"
	refusal_says "the origin root ($DISK0) is fail-closed and not attached"
	refusal_says "the store main is not activated"
	refusal_says "add cowsnap.policy=fail-open to the kernel's command line"
	grep -qa 'EXT4-fs.*mounted filesystem' /bed/refusal && fail "something was mounted in the boot that was refused"
	same "the word is on the command line" 1 "$(grep -cw cowsnap.policy=fail-open /proc/cmdline)"
	same "nothing is attached" 0 "$(dmsetup ls --target cow-origin | grep -c cowsnap)"
	[[ ! -e /run/cowsnap/withheld.json ]] || fail "it is withheld: $(</run/cowsnap/withheld.json)"
	dmesg | grep -qF 'cowsnap.policy=fail-open lets this boot go on' || fail "the log does not tell of it"
	make_tree /srv/past-the-snapshot
	store_back
	reboot_to stale
	;;
stale)
	same "the origin was attached again" 1 "$(dmsetup ls --target cow-origin | wc -l)"
	root_daemon_start
	same "what was written past it is found out" stale "$(column first state)"
	same "it is still fail-closed" fail-closed "$(column root boot_policy)"
	cli "root is fail-open" origin set-boot-policy root fail-open
	if grep -q fail_closed /var/lib/cowsnap/stores.json; then
		fail "stores.json still has the policy"
	fi
	;;
esac
