#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# With 1, 8 and 64 snapshots of a mounted xfs under fio's verified load: each snapshot is a sound file system with
# the files of its creation, and never changes.
# groups: verify
# disks: 32M 2G
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

make_fs() {
	modprobe xfs
	check "an xfs on the origin" mkfs.xfs -q --unsupported "$1"
}
mount_snapshot() {
	mount -o ro,norecovery,nouuid "$1" "$2"
}
mount_writable() {
	mount -o nouuid "$1" "$2"
}
check_fs() {
	check "the file system is sound" xfs_repair -n "$1"
}
. "$SRC/tests/vm/guest/verify-fs.sh"
