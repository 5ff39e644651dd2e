// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices for targets that want one for themselves. dm_get_device() lets mapped
 * devices share what is below them, and does not see through devices that are not
 * device-mapper's own.
 */
#include "cowsnap.h"

/*
 * Does no mapped device have this one but the one that has just got it with
 * dm_get_device()? Each claims it once, for all its tables. Block core counts a claim of a
 * whole disk twice.
 */
bool cow_device_alone(struct block_device *bdev)
{
	return READ_ONCE(bdev->bd_holders) <= (bdev_is_partition(bdev) ? 1 : 2);
}

/*
 * Does the device show a store that is active? Then it is that store's device under another
 * name (a loop device, a mapped device), or that device stands on it. May sleep.
 */
bool cow_shows_active_store(struct block_device *bdev)
{
	const struct cowsnap_disk_super *super;
	bool active = false;
	void *block;

	if (bdev_nr_sectors(bdev) < COWSNAP_BLOCK_SECTORS)
		return false;
	block = cow_alloc(COWSNAP_BLOCK_BYTES);
	if (!block)
		return false;
	super = block;
	/* what cannot be read is not a store */
	if (!cow_io_sync(bdev, 0, block, COWSNAP_BLOCK_BYTES, REQ_OP_READ) &&
	    le64_to_cpu(super->magic) == COWSNAP_MAGIC_SUPER) {
		mutex_lock(&cow_engines_mutex);
		active = cow_engine_of_uuid(super->uuid);
		mutex_unlock(&cow_engines_mutex);
	}
	cow_free(block);
	return active;
}
