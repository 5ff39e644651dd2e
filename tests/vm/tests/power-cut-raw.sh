#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The power is cut again and again while an origin and its snapshots are written, and snapshots created and deleted.
# Each time what was flushed is there, all acknowledged snapshots are exact and all acknowledged deletions have
# happened; at the end no space has leaked.
# groups: crash smp
# disks: 6M 512M
# write-cache: volatile
# check-store: 1
# timeout: 240
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"

exercise() {
	"$BUILD/tests/vm/programs/exact-snapshots" --store store --origin origin:1 --seed "$((SEED + round))" \
		--journal /bed/journal --crash --most 8 "$@"
}

round=0
[[ $(phase) == start ]] || round=$(phase)
load_module
store_make store "$DISK1" 2 segment_sectors 128
origin_make origin store 1 "$DISK0"
if ((round < ${ROUNDS:-3})); then
	check "what was acknowledged has survived" exercise
	ask_power_cut $((round + 1)) 1500 6000
	until_power_cut exercise forever
fi
check "what was acknowledged has survived" exercise steps:10 verify delete:all
free_all store
