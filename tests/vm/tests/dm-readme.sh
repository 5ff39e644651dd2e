#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# What dm-target/README.md tells to type can be typed as it stands: the example, and a rollback.
# groups: quick dmsetup
# disks: 64M 64M
# timeout: 120
. "$SRC/tests/vm/guest/lib.sh"
. "$SRC/tests/vm/guest/cow.sh"
. "$SRC/tests/vm/guest/readme.sh"

load_module
readme_commands example dm-target/README.md >/tmp/example
same "the example has commands" yes "$([[ $(wc -l </tmp/example) -gt 10 ]] && echo yes)"
check "the example's commands all succeed" bash -ex /tmp/example >/tmp/output
same "the snapshot shows what was before" before "$(grep -x before /tmp/output)"
same "no device is left" "No devices found" "$(dmsetup ls)"

# The names and numbers that the document has.
check "the store again" dmsetup create store --table "0 $(blockdev --getsz "$DISK1") cow-store $DISK1 4"
check "the origin again" dmsetup create origin --table "0 $(blockdev --getsz "$DISK0") cow-origin /dev/mapper/store 1 $DISK0"
readme_commands watch dm-target/README.md >/tmp/watch
check "places in it are watched" bash -ex /tmp/watch
check "snapshot 7" dmsetup message store 0 create 7 1
check "it is mounted" mount /dev/mapper/origin /mnt
echo later >/mnt/file
check "nobody has it open" umount /mnt
readme_commands rollback dm-target/README.md >/tmp/rollback
same "the rollback has commands" 2 "$(grep -c ^dmsetup /tmp/rollback)"
check "the rollback's commands all succeed" bash -ex /tmp/rollback
check "what it is now can be mounted" mount -o ro /dev/mapper/origin /mnt
same "it is what it was when snapshot 7 was made" after "$(cat /mnt/file)"
check "nobody has it open" umount /mnt
for ((tries = 0; tries < 600; tries++)); do
	[[ $(status_word origin 6) == none ]] && break
	sleep 0.1
done
same "all is copied back" none "$(status_word origin 6)"
check "what was there before is snapshot 8" dmsetup message store 0 delete 7 8
check "nothing is in the way" dmsetup remove origin
check "nor of the store" dmsetup remove store
