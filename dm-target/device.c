// SPDX-License-Identifier: GPL-2.0-only
/*
 * Devices for targets that want one for themselves. dm_get_device() lets mapped
 * devices share what is below them, and does not see through devices that are not
 * device-mapper's own.
 */
#include "cowsnap.h"

/* Who claims, for a moment only: never device-mapper, so that its claims are seen. */
static char claimant;

/*
 * 0 if no mapped device but that of @ti has *dev, which @ti has got from dm_get_device():
 * that is found out by giving it back for a moment. Otherwise -EBUSY, or why it was not to
 * be had again; *dev is NULL then. May sleep.
 */
int cow_device_alone(struct dm_target *ti, const char *path, struct dm_dev **dev)
{
	dev_t number = (*dev)->bdev->bd_dev;
	int r;

	dm_put_device(ti, *dev);
	*dev = NULL;
	r = cow_bdev_try_claim(number, &claimant);
	if (!r)
		r = dm_get_device(ti, path, dm_table_get_mode(ti->table), dev);
	return r;
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
