#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of verify-xfs.
# groups: long verify
# disks: 48M 8G
# timeout: 3600
export COUNTS="1 8 64 64" LOAD_S=120 SUM_EVERY=1
. "$SRC/tests/vm/tests/verify-xfs.sh"
