#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A chain of 100 snapshots, deleted in random order: the others never change, not when the module is unloaded and
# the store activated again in between either, and at the end the store is as empty as at the start.
# groups: exact smp
# disks: 1M 1G
# timeout: 200
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

exercise() {
	check "$1" "$BUILD/tests/vm/programs/exact-snapshots" --store store --origin origin:1 --seed "$SEED" \
		--journal /run/journal --writes 24 "${@:2}"
}

load_module
store_make store "$DISK1" 2 segment_sectors 128
origin_make origin store 1 "$DISK0"
exercise "a chain of snapshots is made" "create:${SNAPSHOTS:-100}"
remount
exercise "half of it is deleted, the rest never changes" "delete:$((${SNAPSHOTS:-100} / 2))"
remount
exercise "all is deleted" delete:all
free_all store
