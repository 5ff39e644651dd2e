#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of write-log: more snapshots, and every flush.
# groups: long crash
# disks: 6M 256M 1M
# check-write-log: 0 1 2
# timeout: 900
export SNAPSHOTS=100
. "$SRC/tests/vm/tests/write-log.sh"
