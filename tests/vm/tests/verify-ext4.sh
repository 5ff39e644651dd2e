#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# With 1, 8 and 64 snapshots of a mounted ext4 under fio's verified load: each snapshot is a sound file system with
# the files of its creation, and never changes.
# groups: verify
# disks: 24M 2G
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

make_fs() {
	modprobe ext4
	check "an ext4 on the origin" mkfs.ext4 -q "$1"
}
mount_snapshot() {
	mount -o ro,noload "$1" "$2"
}
mount_writable() {
	mount -o rw "$1" "$2"
}
check_fs() {
	check "the file system is sound" e2fsck -fn "$1"
}
. "$SRC/tests/vm/guest/verify-fs.sh"
