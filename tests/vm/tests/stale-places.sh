#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Of a whole disk a boot without cowsnap changes nothing at its beginning: it mounts a partition, a volume, what is in a
# LUKS container. That is found out all the same, after a power cut and after a clean end; while somebody is in front of
# the disk nothing that is mounted, unmounted or written there is taken for it, whenever the power fails.
# groups: quick interpose daemon
# disks: 64M 64M 64M
# write-cache: volatile
# timeout: 500
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/daemon.sh"
. "$SRC/tests/vm/guest/interpose.sh"

key=$(printf '%0128d' 7)
plain=("${DISK0}1" "${DISK0}2" /dev/mapper/volume)
all=("${plain[@]}" /dev/mapper/secret)

# map_all: the volume and the container of the second disk, as LVM and cryptsetup would.
map_all() {
	dmsetup create volume --table "0 32768 linear $DISK1 16384" &&
		dmsetup create secret --table "0 32768 crypt aes-xts-plain64 $key 0 $DISK1 65536" || fail "nothing is mapped"
}

unmap_all() {
	dmsetup remove volume && dmsetup remove secret || fail "the mapped devices are in use"
}

# touch_mounted DEVICE...: mounts each, writes and unmounts.
touch_mounted() {
	local device
	for device; do
		mount "$device" /mnt/data || fail "$device is not mounted"
		date >"/mnt/data/file-$RANDOM" || fail "$device is not written"
		umount /mnt/data || fail "$device is not unmounted"
	done
}

# states: of all snapshots by name.
states() {
	snapd-cli list -o name,state --no-headings | sort | awk '{ printf "%s%s:%s", sep, $1, $2; sep = " " }'
}

# in_front: of both disks, before anything is mounted from them.
in_front() {
	check "the origins are attached" cowsnap-activate
	start_system_bus
	daemon_start
	map_all
}

# remove_origins: nobody is in front any more, and that is recorded.
remove_origins() {
	local origin
	for origin in $(dmsetup ls --target cow-origin | cut -f 1); do
		check "$origin is removed" dmsetup remove "$origin"
	done
}

install_cowsnap
load_module
modprobe -a ext4 xfs dm-crypt || fail "modules are missing"
mkdir -p /mnt/data

case $(phase) in
start)
	check "partitions" sfdisk --quiet "$DISK0" <<<$'label: gpt\nstart=2048,size=32768\nstart=65536,size=57344'
	map_all
	check "an xfs" mkfs.xfs -q --unsupported "${DISK0}2"
	for device in "${DISK0}1" /dev/mapper/volume /dev/mapper/secret; do
		check "an ext4" mkfs.ext4 -q "$device"
	done
	start_system_bus
	daemon_start
	check "a store" snapd-cli store create "$DISK2" --name main
	check "it is mounted" mount "${DISK0}1" /mnt/data
	cli "interposed: $DISK0 goes on as it is" create "$DISK0" --name parts
	umount /mnt/data
	cli "interposed: $DISK1 goes on as it is" create "$DISK1" --name volumes
	touch_mounted "${all[@]}"
	same "what is in front is no stranger" "parts:active volumes:active" "$(states)"
	ask_power_cut cut 500 3000
	until_power_cut touch_mounted "${all[@]}"
	;;
cut)
	in_front
	same "after a power cut" "parts:active volumes:active" "$(states)"
	touch_mounted "${all[@]}"
	check "mounted" mount "${DISK0}2" /mnt/data
	date >/mnt/data/last
	sync
	ask_power_cut native 100
	sleep 60
	;;
native)
	map_all
	touch_mounted "${DISK0}2" /dev/mapper/secret
	reboot_to found
	;;
found)
	in_front
	same "a boot between mounted a partition, and what is encrypted" "parts:stale volumes:stale" "$(states)"
	check "they are deleted" snapd-cli delete parts volumes --yes
	cli "(crash consistent)" create "$DISK0" --name parts
	cli "(crash consistent)" create "$DISK1" --name volumes
	touch_mounted "${all[@]}"
	unmap_all
	remove_origins
	reboot_to left
	;;
left)
	in_front
	same "after a clean end" "parts:active volumes:active" "$(states)"
	touch_mounted "${plain[@]}"
	unmap_all
	remove_origins
	reboot_to native-after-end
	;;
native-after-end)
	map_all
	touch_mounted "${DISK0}1" /dev/mapper/volume
	reboot_to found-after-end
	;;
found-after-end)
	in_front
	same "a boot between mounted a partition, and a volume" "parts:stale volumes:stale" "$(states)"
	unmap_all
	check "they are deleted" snapd-cli delete parts volumes --yes
	cli "detached" origin detach "$DISK0" --yes
	cli "detached" origin detach "$DISK1" --yes
	check "the store is closed" snapd-cli store close main --yes
	;;
esac
