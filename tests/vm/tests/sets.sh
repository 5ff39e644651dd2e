#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A set shows all its origins at one instant: they are written with one common sequence of numbers, and each set
# must show a prefix of it across both.
# groups: quick exact smp both
# disks: 2M 2M 1G
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

exercise() {
	check "$1" "$BUILD/tests/vm/programs/exact-snapshots" --store store --origin first:1 --origin second:2 \
		--seed "$SEED" --journal /run/journal --most 12 --writes 16 "${@:2}"
}

load_module
store_make store "$DISK2" 2 segment_sectors 256
origin_make first store 1 "$DISK0"
origin_make second store 2 "$DISK1"
exercise "sets show an instant of one sequence of writes" --writers 1 "create:${SETS:-40}"
exercise "sets show an instant of several writers" --writers 4 "create:10 steps:${STEPS:-20}" verify
exercise "sets are deleted" delete:all
free_all store
