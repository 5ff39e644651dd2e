# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# Starting a program takes long in this kernel: what is done for each allocation starts as few as it can.
#
# Allocations that fail because the kernel is told so, only those that the module asks for, itself or through what it
# calls. Sourced behind lib.sh. Needs fault injection with its filter for stack traces, and the module loaded.

injected_faults=0
# More than a test injects: what is left says how many were.
most_faults=1000000

# failures_in START END: allocations with a return address from START to END in their stack trace are what may fail.
failures_in() {
	local kind cache
	for kind in failslab fail_page_alloc; do
		cd "/sys/kernel/debug/$kind" || fail "the kernel has no $kind"
		echo 0 >probability
		echo 32 >stacktrace-depth
		echo "$1" >require-start
		echo "$2" >require-end
		echo N >ignore-gfp-wait
		echo N >task-filter
		echo 0 >verbose
		echo "$most_faults" >./times
		cd /
	done
	# what the kernel's own checks keep about memory is not to fail
	for cache in /sys/kernel/slab/{kmalloc-*,bio-*,biovec-*,cowsnap_*}/failslab; do
		echo 1 >"$cache"
	done
	echo Y >/sys/kernel/debug/failslab/cache-filter
	echo 0 >/sys/kernel/debug/fail_page_alloc/min-order
	echo N >/sys/kernel/debug/fail_page_alloc/ignore-gfp-highmem
}

# text_of [FUNCTION]: where the text of the module, or of one of its functions, is: "$text_start" to "$text_end".
text_of() {
	local offset=0 bytes=''
	if (($#)); then
		read -r offset bytes < <(readelf --syms --wide "$MODULE" | awk -v name="$1" '$8 == name { print $2, $3 }')
	else
		bytes=0x$(readelf --section-headers --wide "$MODULE" |
			sed -nE 's/.* \.text +PROGBITS +\w+ +\w+ +(\w+) .*/\1/p')
	fi
	[[ -n $bytes && $bytes != 0x ]] || fail "it is not known where the module has ${1:-its text}"
	text_start=$((0x$offset + $(</sys/module/dm_cow_snap/sections/.text)))
	text_end=$((text_start + bytes))
}

# failures_in_module [FUNCTION]: what the module, loaded now, or only one of its functions asks for.
failures_in_module() {
	text_of "$@"
	failures_in "$text_start" "$text_end"
}

# no_failures_in [FUNCTION]: what this function of the module asks for does not fail; without one it may again.
no_failures_in() {
	local kind
	text_start=0
	text_end=0
	(($# == 0)) || text_of "$1"
	for kind in failslab fail_page_alloc; do
		echo "$text_start" >"/sys/kernel/debug/$kind/reject-start"
		echo "$text_end" >"/sys/kernel/debug/$kind/reject-end"
	done
}

# failures PERCENT: so many of them fail from now on, in any task.
failures() {
	echo "$1" >/sys/kernel/debug/failslab/probability
	echo "$1" >/sys/kernel/debug/fail_page_alloc/probability
}

# count_failures: how many have failed since this was called last: "$failed_now"; adds them to "$injected_faults".
count_failures() {
	local kind left
	failed_now=0
	for kind in failslab fail_page_alloc; do
		read -r left <"/sys/kernel/debug/$kind/times"
		((failed_now += most_faults - left))
		echo "$most_faults" >"/sys/kernel/debug/$kind/times"
	done
	((injected_faults += failed_now))
}

# with_failure N COMMAND...: the N-th of the command's own allocations fails.
with_failure() {
	(
		echo "$1" >/proc/self/fail-nth
		shift
		exec "$@"
	)
}

# each_failure WHAT UNDO COMMAND...: the command, with its allocations failing in turn, until none is left: each of the first
# 60, then some at random (of SEED), as those that follow are mostly for one write to a disk after the other. After each run
# UNDO is called with the command's exit status: it checks what is there, and takes it away if it is.
each_failure() {
	local what=$1 undo=$2 n status tried=0 failed=0
	shift 2
	RANDOM=$SEED
	count_failures
	for ((n = 1; ; n += n < 60 ? 1 : 1 + RANDOM % 7)); do
		with_failure "$n" "$@" 2>/dev/null
		status=$?
		count_failures
		if ((failed_now == 0)); then
			((status == 0)) || fail "$what: fails although every allocation succeeds"
			"$undo" 0
			break
		fi
		((++tried))
		((status == 0)) || ((++failed))
		"$undo" "$status"
	done
	((tried)) || fail "$what: no allocation could be made to fail"
	say "ok: $what: $tried of its allocations have failed, one at a time; $failed times that was an error"
}
