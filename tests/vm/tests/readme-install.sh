#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What README.md tells to type to build and install cowsnap on a real machine: afterwards programs, bus policy and module
# are where they are looked for. The release build is made before, on the host; compiling it in here would take an hour.
# groups: long
# memory: 2G
# disks: 64M 64M
# timeout: 2400
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/readme.sh"

[[ -x $SRC/build/release/daemon/cowsnapd ]] ||
	skip "build/release is not built (cmake --preset release -DBUILD_TESTING=OFF && cmake --build --preset release)"
cd "$SRC" || fail "there is no $SRC"
run_readme install
check "the module is the one that DKMS built" test "$(modinfo -n dm-cow-snap)" -ef "$(find "/lib/modules/$(uname -r)/updates" -name 'dm-cow-snap.ko*')"
start_system_bus
run_readme daemon
check "the daemon is on the bus" daemon_answers
check "a store is created" snapd-cli store create "$DISK0"
check "an origin is attached" snapd-cli origin attach "$DISK1" --name data
check "a snapshot is created" snapd-cli create data --name first
