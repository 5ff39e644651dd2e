#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of power-cut-raw: 40 power cuts.
# groups: long crash
# disks: 6M 512M
# write-cache: volatile
# check-store: 1
# timeout: 240
export ROUNDS=40
. "$SRC/tests/vm/tests/power-cut-raw.sh"
