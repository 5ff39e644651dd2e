#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of interpose-cycles.
# groups: long interpose
# disks: 32M 256M 8M
# cpus: turns
# timeout: 14400
export CYCLES=500 RELOADS=50 NICENESS=19
. "$SRC/tests/vm/tests/interpose-cycles.sh"
