#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Run in the initramfs: starts the registered stores and attaches their origins. What it says goes to the kernel's log, but
# for what it said the last time.
#
#   cowsnap-activate-once SECONDS [ROOT]      how long to wait for devices that are missing, but for those of origins that the
#                                             root file system on ROOT cannot stand on

said=/tmp/cowsnap-said
output=$(/usr/sbin/cowsnap-activate --wait "${1:-0}" ${2:+--root "$2"} 2>&1)
status=$?
echo "$status" >/tmp/cowsnap-status
if [ ! -e "$said" ] || [ "$output" != "$(cat "$said")" ]; then
	echo "$output" >"$said"
	level=5
	[ "$status" -eq 0 ] || level=3
	[ -z "$output" ] || echo "$output" | while IFS= read -r line; do
		echo "<$level>$line" >/dev/kmsg
	done
fi
exit "$status"
