#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Snapshots of a raw origin are exact although it is written at any sector, discarded and zeroed while they are
# created, read, written to and deleted at random; a snapshot's own writes are seen by nobody else.
# groups: quick exact smp
# disks: 6M 1G
# timeout: 300
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

load_module
store_make store "$DISK1" 2 segment_sectors 256
origin_make origin store 1 "$DISK0"
check "snapshots stay exact" "$BUILD/tests/vm/programs/exact-snapshots" --store store --origin origin:1 \
	--seed "$SEED" --most 8 create:4 "steps:${STEPS:-60}" verify delete:all
free_all store
