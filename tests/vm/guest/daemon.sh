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

# daemon_start: its process is in $daemon.
daemon_start() {
	cowsnapd >>/bed/cowsnapd.log 2>&1 &
	export daemon=$!
	daemon_answers || fail "the daemon does not answer"
}

# cli WORDS COMMAND...: the command line succeeds and says WORDS.
cli() {
	local words=$1
	shift
	snapd-cli "$@" >/tmp/cli.out 2>&1 </dev/null || fail "'snapd-cli $*': $(</tmp/cli.out)"
	grep -qF -- "$words" /tmp/cli.out || fail "'snapd-cli $*' does not say '$words': $(</tmp/cli.out)"
	say "ok: snapd-cli ${*:1:5}: $(head -n 1 /tmp/cli.out)"
}

# cli_refused STATUS WORDS COMMAND...: it ends with STATUS and says WORDS.
cli_refused() {
	local expected=$1 words=$2 status
	shift 2
	snapd-cli "$@" >/tmp/cli.out 2>&1 </dev/null
	status=$?
	[[ $status == "$expected" ]] && grep -qF -- "$words" /tmp/cli.out ||
		fail "'snapd-cli $*' ends with $status, not $expected and '$words': $(</tmp/cli.out)"
	say "ok: snapd-cli ${*:1:5}: $status: $(head -n 1 /tmp/cli.out)"
}

# column OBJECT NAME: a property of a snapshot or an origin.
column() {
	snapd-cli show "$1" -o "$2" --no-headings
}

# snapshot_sum NAME: the checksum of all that the snapshot has.
snapshot_sum() {
	local device
	device=$(snapd-cli activate "$1") && [[ -b $device ]] || fail "$1 is not active"
	sum "$device"
	snapd-cli deactivate "$1" >/dev/null
}
