# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
# What tests of the module do again and again with dmsetup. Sourced behind lib.sh.

# sectors DEVICE
sectors() {
	blockdev --getsz "$1"
}

# store_make NAME DEVICE [FEATURES...]: a cow-store with a low-water mark of 2 segments.
store_make() {
	local name=$1 device=$2
	shift 2
	check "store $name on $device" dmsetup create "$name" \
		--table "0 $(sectors "$device") cow-store $device 2${*:+ $*}"
}

# origin_make NAME STORE ID DEVICE
origin_make() {
	check "origin $1 on $4" dmsetup create "$1" \
		--table "0 $(sectors "$4") cow-origin /dev/mapper/$2 $3 $4"
}

# origin_interpose NAME STORE ID DEVICE: in front of a device that is in use.
origin_interpose() {
	check "origin $1 in front of $4" dmsetup create "$1" \
		--table "0 $(sectors "$4") cow-origin /dev/mapper/$2 $3 $4 1 interpose"
}

# origin_any NAME STORE ID DEVICE: one of the two, by METHOD (interpose, else stacked). "$top" is what is written to then.
# shellcheck disable=SC2034 # top is for the tests
origin_any() {
	if [[ ${METHOD-} == interpose ]]; then
		origin_interpose "$@"
		top=$4
	else
		origin_make "$@"
		top=/dev/mapper/$1
	fi
}

# snap_make NAME STORE ID ORIGIN [read_only]
snap_make() {
	check "snapshot device $1" dmsetup create "$1" \
		--table "0 $(sectors "/dev/mapper/$4") cow-snap /dev/mapper/$2 $3${5:+ 1 $5}"
}

# sum_of_input: a checksum. SHA-256 takes ten times as long in an emulated machine: a test that wants it sets SUM_WITH.
sum_of_input() {
	local sum
	sum=$(${SUM_WITH:-xxhsum -q -H2})
	printf '%s\n' "${sum%% *}"
}

# sum DEVICE: its contents' checksum, past the page cache.
sum() {
	dd if="$1" bs=1M iflag=direct status=none | sum_of_input
}

# fill DEVICE SEED: different contents for each seed.
fill() {
	openssl enc -aes-128-ctr -nosalt -pass "pass:$2" -in /dev/zero 2>/dev/null |
		dd of="$1" bs=1M iflag=fullblock count=$(($(sectors "$1") / 2048)) oflag=direct status=none
}

# status_word NAME N: word N of the target's status, behind "0 <length> <target>".
status_word() {
	dmsetup status "$1" | cut -d' ' -f$((3 + $2))
}

# states: of all snapshots of the store "store".
states() {
	dmsetup message store 0 snapshots | awk '{ printf "%s%s:%s", sep, $1, $5; sep = " " }'
}

# free_all STORE: nothing of it is used.
free_all() {
	local word tries=0
	while word=$(status_word "$1" 4); [[ ${word%/*} != "${word#*/}" ]]; do
		((++tries < 50)) || fail "segments are left in use: $word"
		sleep 0.1
	done
	say "ok: the store is empty"
}

# come_and_go STORE ORIGIN_ID: one more snapshot, and of more than two such the end of one, chosen at random.
comers=()
come_and_go() {
	local id=$((100000 + RANDOM)) which
	[[ " ${comers[*]} " != *" $id "* ]] || return 0
	dmsetup message "$1" 0 create $id "$2" || fail "snapshot $id, which is to come and go"
	comers+=("$id")
	((${#comers[@]} > 2)) || return 0
	which=$((RANDOM % ${#comers[@]}))
	dmsetup message "$1" 0 delete "${comers[which]}" || fail "snapshot ${comers[which]} does not go"
	unset "comers[which]"
	comers=("${comers[@]}")
}

# all_go STORE: those that come_and_go has left.
all_go() {
	((${#comers[@]} == 0)) || dmsetup message "$1" 0 delete "${comers[@]}" || fail "${comers[*]} do not go"
	comers=()
}

# remount: takes down all mapped devices, loads the module anew, and activates "store" on the last disk with the
# origins that were there, from their own tables.
remount() {
	local name tables=()
	for name in $(dmsetup ls --target cow-origin | cut -f1); do
		tables+=("$name" "$(dmsetup table "$name")")
		check "origin $name is taken down" dmsetup remove "$name"
	done
	tables=(store "$(dmsetup table store)" "${tables[@]}")
	check "the store is taken down" dmsetup remove store
	check "the module is unloaded" rmmod dm-cow-snap
	load_module
	set -- "${tables[@]}"
	while (($#)); do
		check "$1 is activated again" dmsetup create "$1" --table "$2"
		shift 2
	done
}

# make_tree DIRECTORY: some files of all sizes, the same in every guest.
make_tree() {
	mkdir -p "$1"
	cp -r /usr/share/misc /usr/share/perl5/Debconf "$1" 2>/dev/null || fail "no files for $1"
}

# tree_sum DIRECTORY: a checksum of names and contents in it.
tree_sum() {
	(cd "$1" && find . -type f -print0 | sort -z | xargs -0 xxhsum -q -H2 | sum_of_input)
}

# fio_verify FILE SIZE RW [OPTIONS...]: writes that size there, random or not, and reads all back, with checksums. (fio takes a
# seed only if it is not to repeat its own choices: randrepeat=0.)
fio_verify() {
	fio --name=verify --filename="$1" --size="$2" --rw="$3" --ioengine=libaio --iodepth=8 --direct=1 \
		--bsrange=4k-32k --verify=crc32c --verify_fatal=1 --randrepeat=0 --randseed="$SEED" --output-format=terse \
		--output=/dev/null --eta=never "${@:4}"
}
