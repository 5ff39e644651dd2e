#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of exact-raw.
# groups: long exact
# disks: 12M 4G
# timeout: 3600
export STEPS=2000
. "$SRC/tests/vm/tests/exact-raw.sh"
