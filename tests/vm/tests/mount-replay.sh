#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A snapshot of a file system that was not frozen: its journal has what was written last. It is replayed into a writable
# snapshot's overlay, also for a mount that only reads; on a read-only one it is not, and that is said.
# groups: quick daemon
# disks: 64M 192M 64M
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"

# mounted SNAPSHOT: mounts it; what snapd-cli says beside the result.
mounted() {
	{ snapd-cli mount "$1" /mnt/snapshot >/dev/null; } 2>&1 || fail "$1 cannot be mounted"
}

install_cowsnap
load_module
modprobe ext4
mkdir -p /mnt/live /mnt/snapshot
start_system_bus
daemon_start
check "a store" snapd-cli store create "$DISK1" --name main
cli "in place of the device" origin attach "$DISK0" --name copy
copy=$(column copy device)

# The disk as a power cut would leave it: the journal has the file, its place in the file system is not written yet. It is
# read below the device that is mounted, which has what is to be written in its cache.
mkfs.ext4 -q "$DISK2"
check "a device over it" dmsetup create live --table "0 $(blockdev --getsz "$DISK2") linear $DISK2 0"
check "it is mounted" mount /dev/mapper/live /mnt/live
echo "written last" >/mnt/live/file
sync -d /mnt/live/file || fail "cannot sync"
check "a copy of it" dd if="$DISK2" of="$copy" bs=1M iflag=direct oflag=direct status=none
umount /mnt/live
dumpe2fs -h "$copy" 2>/dev/null | grep -q needs_recovery || fail "the copy has a journal that is clean"

cli "created" create copy --name for-reading
cli "created" create copy --name for-writing --writable

said=$(mounted for-reading)
[[ $said == *"journal of ext4 on the snapshot for-reading is not replayed"*"--writable"* ]] || fail "it says: $said"
[[ ! -e /mnt/snapshot/file ]] || fail "there is what only the journal has"
check "it is unmounted" snapd-cli umount for-reading

said=$(mounted for-writing)
[[ -z $said ]] || fail "it says: $said"
same "the journal is replayed" "written last" "$(cat /mnt/snapshot/file)"
! touch /mnt/snapshot/more 2>/dev/null || fail "it can be written to"
same "into the overlay" yes "$( (($(snapd-cli show for-writing -o overlay --bytes --no-headings) > 0)) && echo yes)"
check "it is unmounted" snapd-cli umount for-writing
said=$(mounted for-writing)
[[ -z $said ]] || fail "it says, of a journal that is clean: $said"
check "it is unmounted" snapd-cli umount for-writing
same "the read-only one is as it was" active "$(column for-reading state)"

note "not mounted"
check "it is active" snapd-cli activate for-reading
cli "was not mounted" umount for-reading
same "it is not any more" - "$(column for-reading device)"
