#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of chain: 500 snapshots.
# groups: long exact
# disks: 4M 4G
# memory: 2G
# timeout: 3600
export SNAPSHOTS=500
. "$SRC/tests/vm/tests/chain.sh"
