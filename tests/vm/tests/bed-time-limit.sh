#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# A test that hangs is ended when its time is up.
# kernels: 6.12
# groups: bed quick
# expect: time-limit
# timeout: 5
. "$SRC/tests/vm/guest/lib.sh"

note "hanging"
sleep infinity
