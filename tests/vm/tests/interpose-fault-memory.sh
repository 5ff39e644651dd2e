#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fault-memory, with the origin in front of a device in use.
# groups: interpose failure
# disks: 160M 1G
# memory: 320M
# timeout: 300
export METHOD=interpose
. "$SRC/tests/vm/tests/fault-memory.sh"
