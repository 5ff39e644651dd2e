#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# With a volatile write cache a power cut keeps what was flushed and loses of the rest what it likes.
# groups: bed quick
# disks: 64M
# write-cache: volatile
. "$SRC/tests/vm/guest/lib.sh"

blocks=2048

# write_blocks CHARACTER: writes that many blocks of 4 KiB of it, one request each, past the page cache.
write_blocks() {
	head -c $((blocks * 4096)) /dev/zero | tr '\0' "$1" |
		dd of="$DISK0" bs=4k iflag=fullblock oflag=direct conv=notrunc status=none
}

# sectors_of CHARACTER: how many sectors consist of it.
sectors_of() {
	dd if="$DISK0" bs=4k count=$blocks iflag=direct status=none | fold -b -w 512 | grep -cx "$1*"
}

case $PHASE in
start)
	check "write what is flushed" write_blocks a
	check "flush" blockdev --flushbufs "$DISK0"
	check "flush the disk's cache" dd if=/dev/null of="$DISK0" conv=notrunc,fsync status=none
	check "write what is not flushed" write_blocks b
	ask_power_cut after-cut 0
	sleep infinity
	;;
after-cut)
	old=$(sectors_of a)
	new=$(sectors_of b)
	note "$old sectors are old, $new are new"
	same "every sector is the old or the new one" $((blocks * 8)) $((old + new))
	check "something was lost" test "$old" -gt 0
	;;
esac
