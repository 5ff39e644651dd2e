#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of power-cut-fs: 20 power cuts.
# groups: long crash
# disks: 24M 40M 1G
# write-cache: volatile
# check-store: 2
# timeout: 240
export ROUNDS=20
. "$SRC/tests/vm/tests/power-cut-fs.sh"
