# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What tests and the demo need of the daemon and the tools. Sourced behind lib.sh.

# install_cowsnap: puts programs and bus policy where the packages put them, and keeps the list of stores over reboots,
# as the root of a real machine does.
install_cowsnap() {
	[[ -x $BUILD/daemon/cowsnapd ]] || skip "the daemon is not built"
	install -m 755 "$BUILD/daemon/cowsnapd" "$BUILD/tools/cowsnap-activate" /usr/sbin/
	install -m 755 "$BUILD/tools/snapd-cli" /usr/bin/
	install -D -m 644 "$SRC/packaging/dbus/org.cowsnap1.conf" /etc/dbus-1/system.d/org.cowsnap1.conf
	mkdir -p /bed/lib-cowsnap /var/lib/cowsnap
	mount --bind /bed/lib-cowsnap /var/lib/cowsnap || fail "no lasting /var/lib/cowsnap"
}

# daemon_answers: waits until the daemon, which was started just before, does.
daemon_answers() {
	local tries
	for ((tries = 0; tries < 100; ++tries)); do
		snapd-cli store list >/dev/null 2>&1 && return
		sleep 0.2
	done
	snapd-cli store list
}
