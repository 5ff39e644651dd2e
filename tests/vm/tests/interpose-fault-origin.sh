#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# fault-origin, with the origin in front of a device in use.
# groups: long interpose failure smp
# disks: 16M 128M
# timeout: 300
export METHOD=interpose
. "$SRC/tests/vm/tests/fault-origin.sh"
