// SPDX-License-Identifier: GPL-2.0-only
/*
 * cow-origin: in front of a device that is snapshotted. Reads pass. A write passes
 * when all its blocks are preserved in the current epoch (one look at a bitmap,
 * no lock), else the worker has them preserved first.
 */
#include <linux/delay.h>
#include <linux/module.h>

#include "cowsnap.h"

struct origin_target {
	struct cow_engine *engine;
	struct dm_dev *store_dev;
	struct dm_dev *dev;
	struct cow_attachment *attachment;
	struct cow_origin *origin;
	u32 id;
};

/* ------------------------------------------------------------ attaching --- */

static int attach_new(struct cow_engine *engine, struct origin_target *target,
		      struct mapped_device *md)
{
	struct cow_attachment *attachment = kzalloc(sizeof(*attachment), GFP_KERNEL);
	int r;

	if (!attachment)
		return -ENOMEM;
	r = cow_bdev_open(&attachment->lower, target->dev->bdev->bd_dev);
	if (r) {
		kfree(attachment);
		return r;
	}
	attachment->engine = engine;
	attachment->md = md;
	attachment->dev = disk_devt(dm_disk(md));
	attachment->order = ++engine->attach_order;
	attachment->origin = target->origin;
	attachment->targets = 1;
	attachment->references = 1;
	target->attachment = attachment;
	mutex_lock(&engine->mutex);
	target->origin->shell = attachment;
	mutex_unlock(&engine->mutex);
	return 0;
}

static int attach(struct dm_target *ti, struct origin_target *target)
{
	struct cow_engine *engine = target->engine;
	struct mapped_device *md = dm_table_get_md(ti->table);
	struct cow_attachment *attachment;
	char why[COW_WHY_BYTES] = "";
	int r;

	mutex_lock(&engine->control);
	r = cow_origin_register(&engine->store, target->id, ti->len, &target->origin, why);
	if (r) {
		DMERR("%s", why);
		ti->error = "The origin cannot be registered in the store";
		goto out;
	}
	attachment = target->origin->shell;
	if (!attachment) {
		r = attach_new(engine, target, md);
		if (r)
			ti->error = "The origin's device cannot be opened";
	} else if (attachment->md != md) {
		ti->error = "This origin is attached already";
		r = -EBUSY;
	} else if (attachment->lower.bdev != target->dev->bdev) {
		ti->error = "This origin is on another device";
		r = -EBUSY;
	} else {
		attachment->targets++;
		attachment->references++;
		target->attachment = attachment;
	}
out:
	mutex_unlock(&engine->control);
	return r;
}

static bool quiet(struct cow_engine *engine, struct cow_origin *origin)
{
	bool is_quiet;

	mutex_lock(&engine->mutex);
	is_quiet = cow_origin_quiet(origin);
	mutex_unlock(&engine->mutex);
	return is_quiet;
}

/* control held. */
void cow_attachment_put(struct cow_attachment *attachment)
{
	if (--attachment->references)
		return;
	cow_bdev_close(&attachment->lower);
	kfree(attachment);
}

/* control held. */
static bool is_needed(struct origin_target *target)
{
	struct cow_attachment *attachment = target->attachment;

	if (attachment->targets > 1)
		return false;
	return attachment->creates || !quiet(target->engine, target->origin);
}

/*
 * No bio of this target is left, but extents may still be read from the device:
 * those of bios that were let go because their snapshots went. And a create may be
 * about to freeze, drain and flush the device: it keeps the mapped device, which may
 * have got another table.
 */
static void detach(struct origin_target *target)
{
	struct cow_engine *engine = target->engine;
	struct cow_attachment *attachment = target->attachment;

	mutex_lock(&engine->control);
	while (is_needed(target)) {
		attachment->leaving = true;
		mutex_unlock(&engine->control);
		cow_engine_kick(engine);
		usleep_range(200, 500);
		mutex_lock(&engine->control);
	}
	attachment->leaving = false;
	if (!--attachment->targets) {
		mutex_lock(&engine->mutex);
		target->origin->shell = NULL;
		mutex_unlock(&engine->mutex);
	}
	cow_attachment_put(attachment);
	mutex_unlock(&engine->control);
}

/* --------------------------------------------------------- construction --- */

static bool overlap(const struct block_device *a, const struct block_device *b)
{
	return a->bd_disk == b->bd_disk && (a == b || a == a->bd_disk->part0 ||
					    b == b->bd_disk->part0);
}

static int check_device(struct dm_target *ti, struct origin_target *target)
{
	struct block_device *bdev = target->dev->bdev;

	if (ti->begin) {
		ti->error = "A cow-origin starts at sector 0";
		return -EINVAL;
	}
	if (bdev_nr_sectors(bdev) != ti->len) {
		ti->error = "The length is not the size of the origin's device";
		return -EINVAL;
	}
	if (bdev_is_zoned(bdev)) {
		ti->error = "A zoned device cannot be an origin";
		return -EINVAL;
	}
	if (overlap(bdev, target->engine->device.bdev) ||
	    bdev->bd_disk == dm_disk(target->engine->md)) {
		ti->error = "The store is on this device: it cannot be its origin";
		return -EINVAL;
	}
	return 0;
}

/*
 * A device that is not an origin yet must not be in use, and not be the store's under
 * another name. With one that is, attach() knows what to do.
 */
static int check_unused(struct dm_target *ti, struct origin_target *target, const char *path)
{
	struct cow_engine *engine = target->engine;
	struct cow_origin *origin;
	bool attached;

	mutex_lock(&engine->control);
	origin = cow_origin_find(&engine->store, target->id);
	attached = origin && origin->shell;
	mutex_unlock(&engine->control);
	if (attached)
		return 0;
	if (cow_device_alone(ti, path, &target->dev)) {
		ti->error = "The origin's device is in use by another mapped device";
		return -EBUSY;
	}
	if (cow_shows_active_store(target->dev->bdev)) {
		ti->error = "The store is on this device: it cannot be its origin";
		return -EINVAL;
	}
	return 0;
}

static int no_feature(void *context, const char *name, const char *value)
{
	return -EINVAL;
}

static int construct(struct dm_target *ti, struct origin_target *target, unsigned int argc,
		     char **argv)
{
	int r;

	if (cow_parse_u32(argv[1], 1, COWSNAP_ID_MAX, &target->id)) {
		ti->error = "The origin id is not a number from 1 to 4294967294";
		return -EINVAL;
	}
	r = cow_parse_features(ti, argc - 3, argv + 3, no_feature, NULL);
	if (r)
		return r;
	target->engine = cow_engine_from_arg(ti, argv[0], &target->store_dev);
	if (IS_ERR(target->engine))
		return PTR_ERR(target->engine);
	r = dm_get_device(ti, argv[2], dm_table_get_mode(ti->table), &target->dev);
	if (r) {
		ti->error = "The origin's device cannot be opened: missing, or in use";
		goto bad_engine;
	}
	r = check_device(ti, target);
	if (!r)
		r = check_unused(ti, target, argv[2]);
	if (!r)
		r = attach(ti, target);
	if (!r)
		return 0;
	if (target->dev)
		dm_put_device(ti, target->dev);
bad_engine:
	mutex_lock(&cow_engines_mutex);
	cow_engine_put(target->engine);
	mutex_unlock(&cow_engines_mutex);
	dm_put_device(ti, target->store_dev);
	return r;
}

static int origin_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct origin_target *target;
	int r;

	if (argc < 3) {
		ti->error = "Needed: <store> <origin id> <origin dev> [<#features> ...]";
		return -EINVAL;
	}
	target = kzalloc(sizeof(*target), GFP_KERNEL);
	if (!target) {
		ti->error = "No memory";
		return -ENOMEM;
	}
	r = construct(ti, target, argc, argv);
	if (r) {
		kfree(target);
		return r;
	}
	ti->num_flush_bios = 1;
	ti->num_discard_bios = 1;
	ti->num_write_zeroes_bios = 1;
	ti->num_secure_erase_bios = 1;
	ti->per_io_data_size = sizeof(struct cow_bio);
	ti->private = target;
	return 0;
}

static void origin_dtr(struct dm_target *ti)
{
	struct origin_target *target = ti->private;

	detach(target);
	dm_put_device(ti, target->dev);
	mutex_lock(&cow_engines_mutex);
	cow_engine_put(target->engine);
	mutex_unlock(&cow_engines_mutex);
	dm_put_device(ti, target->store_dev);
	kfree(target);
}

/* ------------------------------------------------------------------- I/O --- */

/* Any context, no lock. May the bio pass? */
static bool may_pass(const struct cow_origin *origin, u64 block, u64 length)
{
	/* the epoch's bitmap is there before the epoch is */
	if (smp_load_acquire(&origin->epoch) == COW_NO_EPOCH)
		return true;
	return cow_bitmap_preserved(READ_ONCE(origin->bitmap), block, length);
}

static int origin_map(struct dm_target *ti, struct bio *bio)
{
	struct origin_target *target = ti->private;
	struct cow_bio *wait = dm_per_bio_data(bio, sizeof(*wait));
	u64 block, length;

	bio_set_dev(bio, target->dev->bdev);
	if (!op_is_write(bio_op(bio)) || !bio_sectors(bio))
		return DM_MAPIO_REMAPPED;
	block = bio->bi_iter.bi_sector / COWSNAP_BLOCK_SECTORS;
	length = DIV_ROUND_UP_SECTOR_T(bio_end_sector(bio), COWSNAP_BLOCK_SECTORS) - block;
	if (may_pass(target->origin, block, length))
		return DM_MAPIO_REMAPPED;
	if (bio_op(bio) == REQ_OP_DISCARD) {
		/* a hint only: not worth a copy */
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	memset(wait, 0, sizeof(*wait));
	wait->bio = bio;
	wait->kind = COW_BIO_ORIGIN;
	wait->origin = target->origin;
	wait->lower = target->dev->bdev;
	wait->waiter.block = block;
	wait->waiter.length = length;
	cow_engine_queue(target->engine, wait);
	return DM_MAPIO_SUBMITTED;
}

static void origin_status(struct dm_target *ti, status_type_t type, unsigned int flags,
			  char *result, unsigned int maxlen)
{
	struct origin_target *target = ti->private;
	struct cow_origin *origin = target->origin;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		mutex_lock(&target->engine->mutex);
		DMEMIT("%u %u %llu %u %llu", origin->id, origin->nr_snapshots,
		       origin->nr_snapshots && origin->bitmap ? origin->bitmap->set : 0ull,
		       origin->log.extents, origin->read_blocks);
		mutex_unlock(&target->engine->mutex);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %u %s", target->store_dev->name, target->id, target->dev->name);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

static int origin_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn,
				  void *data)
{
	struct origin_target *target = ti->private;

	return fn(ti, target->dev, 0, ti->len, data);
}

struct target_type cow_origin_type = {
	.name = COWSNAP_TARGET_ORIGIN,
	.version = {COWSNAP_DM_VERSION_MAJOR, COWSNAP_DM_VERSION_MINOR, COWSNAP_DM_VERSION_PATCH},
	.features = DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = origin_ctr,
	.dtr = origin_dtr,
	.map = origin_map,
	.status = origin_status,
	.iterate_devices = origin_iterate_devices,
};
