#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What was synced is there after a power cut under writes and after a reboot.
# groups: bed quick
# disks: 64M
. "$SRC/tests/vm/guest/lib.sh"

sum_of_first_half() {
	dd if="$DISK0" bs=1M count=32 iflag=direct status=none | sha256sum
}

overwrite_second_half() {
	dd if=/dev/urandom of="$DISK0" bs=64k seek=512 count=64 oflag=direct conv=notrunc status=none
}

case $PHASE in
start)
	check "fill the disk" dd if=/dev/urandom of="$DISK0" bs=1M count=32 oflag=direct conv=fsync status=none
	sum_of_first_half >/bed/expected
	sync /bed/expected
	ask_power_cut after-cut 200 1500
	until_power_cut overwrite_second_half
	;;
after-cut)
	same "contents after the power cut" "$(</bed/expected)" "$(sum_of_first_half)"
	reboot_to after-reboot
	;;
after-reboot)
	same "contents after the reboot" "$(</bed/expected)" "$(sum_of_first_half)"
	;;
esac
