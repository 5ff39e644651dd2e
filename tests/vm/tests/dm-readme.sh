#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# The example in dm-target/README.md can be typed as it stands.
# groups: quick dmsetup
# disks: 64M 64M
# timeout: 120
. "$SRC/tests/vm/guest/lib.sh"

load_module
sed -n '/^```sh$/,/^```$/p' "$SRC/dm-target/README.md" | grep -v '^```' >/tmp/example
same "the example has commands" yes "$([[ $(wc -l </tmp/example) -gt 10 ]] && echo yes)"
check "the example's commands all succeed" bash -ex /tmp/example >/tmp/output
same "the snapshot shows what was before" before "$(grep -x before /tmp/output)"
same "no device is left" "No devices found" "$(dmsetup ls)"
