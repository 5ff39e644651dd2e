#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of sets.
# groups: long exact
# disks: 4M 4M 4G
# timeout: 3600
export SETS=200 STEPS=1000
. "$SRC/tests/vm/tests/sets.sh"
