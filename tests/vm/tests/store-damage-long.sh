#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of store-damage: 200 damages.
# groups: long failure
# disks: 4M 16M
# timeout: 2400
export ROUNDS=200
. "$SRC/tests/vm/tests/store-damage.sh"
