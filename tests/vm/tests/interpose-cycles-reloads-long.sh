#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The long form of interpose-cycles, with nothing else hooked, and with the module loaded anew.
# groups: long interpose-cycles-long
# disks: 32M 256M 8M
# cpus: turns
# timeout: 4800
export CYCLES=500 RELOADS=50 NICENESS=19 PARTS="unhooked reloads"
. "$SRC/tests/vm/tests/interpose-cycles.sh"
