#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# write-log, with the origin in front of a device in use.
# groups: interpose crash smp
# disks: 6M 64M 1M
# check-write-log: 0 1 2 --most 150
# timeout: 200
export METHOD=interpose
. "$SRC/tests/vm/tests/write-log.sh"
