#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A store gets full while nobody looks, and the daemon's list of stores is on the very file system whose writes wait for
# room, as on a machine whose root is an origin: the store is extended all the same, in time, and no snapshot is lost.
# groups: daemon full
# disks: 64M 16M 32M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"

# writes_wait: whether somebody's write has waited for room for a while.
writes_wait() {
	local process
	for process in $writer $prober; do
		[[ $(awk '{ print $3 }' "/proc/$process/stat" 2>/dev/null) == D ]] || return 1
	done
}

install_cowsnap
load_module
modprobe ext4
mkfs.ext4 -q "$DISK0"
mkdir -p /run/origin
mount "$DISK0" /run/origin
mkdir /run/origin/state
umount /var/lib/cowsnap
mount --bind /run/origin/state /var/lib/cowsnap || fail "the list of stores is not on the origin"
dd if=/dev/zero of=/run/origin/file bs=1M count=24 conv=fsync status=none
echo before >/run/origin/probe
sync

start_system_bus
daemon_start
# What waits is to wait longer than an emulated machine takes.
cli "created the store" store create "$DISK1" --spare "$DISK2" --full-wait-ms 60000
cli "goes on as it is" origin attach "$DISK0" --name data
cli "(file-system consistent)" create data --name before

kill -STOP "$daemon"
dd if=/dev/urandom of=/run/origin/file bs=64k count=384 oflag=direct conv=notrunc status=none &
writer=$!
for ((tries = 0; tries < 300; ++tries)); do
	[[ $(dmsetup status --target cow-store) == *" full "* ]] && break
	sleep 0.1
done
note "$(dmsetup status --target cow-store)"
# as the daemon would write its list
(echo after >/run/origin/state/probe && exec sync /run/origin/state/probe) &
prober=$!
for ((tries = 0; tries < 100; ++tries)); do
	writes_wait && break
	sleep 0.1
done
writes_wait || fail "who writes to the file system does not wait for room: nothing would be shown"

kill -CONT "$daemon"
wait "$writer" || fail "a write failed"
wait "$prober" || fail "a write failed"
grep -q "was extended with" /bed/cowsnapd.log || fail "the daemon does not say that it extended the store"
same "no snapshot is lost" "before active" "$(snapd-cli list -o name,state --no-headings | xargs)"
same "the store has both devices" 2 "$(jq '.stores[0].devices | length' /run/origin/state/stores.json)"
mkdir -p /run/before
cli "before" mount before /run/before
check "it has what was there" cmp -n $((24 << 20)) /run/before/file /dev/zero
same "it has what was there" before "$(</run/before/probe)"
cli "before" umount before
