// SPDX-License-Identifier: GPL-2.0-only
/*
 * cow-store: makes a store on a device, or activates one; its own contents are the
 * two slots for the metadata of user space. The engine is found by the mapped
 * device, so that it outlives a reload of the table; suspending this device stops
 * nothing but the slots.
 */
#include <linux/module.h>

#include "cowsnap.h"

struct store_target {
	struct dm_target *ti;
	struct cow_engine *engine;
	struct dm_dev *dev;
	u64 length_sectors;
	u32 low_water;
	u32 full_wait_ms;
	bool full_wait_set;
	u32 loss_wait_ms;
	bool loss_wait_set;
	u32 segment_sectors;
	bool segment_set;
};

static int store_feature(void *context, const char *name, const char *value)
{
	struct store_target *store = context;

	if (!value)
		return -EINVAL;
	if (!strcmp(name, COWSNAP_FEATURE_FULL_WAIT_MS)) {
		store->full_wait_set = true;
		return cow_parse_u32(value, 0, COWSNAP_FULL_WAIT_MAX_MS, &store->full_wait_ms) ?:
			       1;
	}
	if (!strcmp(name, COWSNAP_FEATURE_LOSS_WAIT_MS)) {
		store->loss_wait_set = true;
		return cow_parse_u32(value, 0, COWSNAP_LOSS_WAIT_MAX_MS, &store->loss_wait_ms) ?:
			       1;
	}
	if (!strcmp(name, COWSNAP_FEATURE_SEGMENT_SECTORS)) {
		store->segment_set = true;
		if (cow_parse_u32(value, 128, 2048, &store->segment_sectors) ||
		    !is_power_of_2(store->segment_sectors))
			return -EINVAL;
		return 1;
	}
	return -EINVAL;
}

static int check_device(struct dm_target *ti, struct store_target *store)
{
	struct block_device *bdev = store->dev->bdev;

	if (ti->begin) {
		ti->error = "A cow-store starts at sector 0";
		return -EINVAL;
	}
	if (bdev_nr_sectors(bdev) < ti->len) {
		ti->error = "The device is smaller than the table says";
		return -EINVAL;
	}
	if (bdev_is_zoned(bdev)) {
		ti->error = "A zoned device cannot hold a store";
		return -EINVAL;
	}
	if (bdev_logical_block_size(bdev) > COWSNAP_BLOCK_BYTES) {
		ti->error = "The device's logical blocks are larger than 4 KiB";
		return -EINVAL;
	}
	if (ti->len < COWSNAP_STORE_MIN_SECTORS) {
		ti->error = "The device is too small for a store (8 MiB at least)";
		return -EINVAL;
	}
	return 0;
}

/* cow_engines_mutex held. */
static int join_engine(struct dm_target *ti, struct store_target *store)
{
	struct cow_engine *engine = store->engine;

	if (engine->device.bdev != store->dev->bdev) {
		ti->error = "This cow-store is on another device already";
		return -EBUSY;
	}
	if (ti->len / COWSNAP_BLOCK_SECTORS < engine->store.super.store_blocks) {
		ti->error = "The store is larger than the table says; it cannot shrink";
		return -EINVAL;
	}
	cow_engine_get(engine);
	return 0;
}

static int find_or_make(struct dm_target *ti, struct store_target *store)
{
	struct mapped_device *md = dm_table_get_md(ti->table);
	u32 segment_blocks = store->segment_sectors / COWSNAP_BLOCK_SECTORS;
	char why[COW_WHY_BYTES];
	int r = 0;

	mutex_lock(&cow_engines_mutex);
	store->engine = cow_engine_find(md);
	if (store->engine) {
		r = join_engine(ti, store);
	} else if (cow_engine_of_device(store->dev->bdev)) {
		ti->error = "Another cow-store is on this device";
		r = -EBUSY;
	} else if (!cow_device_alone(store->dev->bdev)) {
		ti->error = "The store's device is in use by another mapped device";
		r = -EBUSY;
	} else {
		store->engine = cow_engine_make(md, store->dev->bdev, ti->len, segment_blocks,
						why);
		if (IS_ERR(store->engine)) {
			r = PTR_ERR(store->engine);
			DMERR("store on %s: %s", store->dev->name, why);
			ti->error = "The store cannot be activated";
		}
	}
	mutex_unlock(&cow_engines_mutex);
	if (r)
		store->engine = NULL;
	return r;
}

static int store_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct store_target *store;
	int r;

	if (argc < 2) {
		ti->error = "Needed: <dev> <low water> [<#features> <feature>...]";
		return -EINVAL;
	}
	store = kzalloc(sizeof(*store), GFP_KERNEL);
	if (!store) {
		ti->error = "No memory";
		return -ENOMEM;
	}
	store->ti = ti;
	store->full_wait_ms = COWSNAP_FULL_WAIT_DEFAULT_MS;
	store->loss_wait_ms = COWSNAP_LOSS_WAIT_DEFAULT_MS;
	store->segment_sectors = 2048;
	store->length_sectors = ti->len;
	r = -EINVAL;
	if (cow_parse_u32(argv[1], 0, U32_MAX, &store->low_water)) {
		ti->error = "The low water mark is not a number of segments";
		goto bad;
	}
	r = cow_parse_features(ti, argc - 2, argv + 2, store_feature, store);
	if (r)
		goto bad;
	r = dm_get_device(ti, argv[0], dm_table_get_mode(ti->table), &store->dev);
	if (r) {
		ti->error = "The store's device cannot be opened: missing, or in use";
		goto bad;
	}
	r = check_device(ti, store);
	if (!r)
		r = find_or_make(ti, store);
	if (r) {
		dm_put_device(ti, store->dev);
		goto bad;
	}
	ti->num_flush_bios = 1;
	ti->private = store;
	return 0;
bad:
	kfree(store);
	return r;
}

static void store_dtr(struct dm_target *ti)
{
	struct store_target *store = ti->private;

	mutex_lock(&store->engine->bound_mutex);
	if (store->engine->bound == ti)
		store->engine->bound = NULL;
	mutex_unlock(&store->engine->bound_mutex);
	mutex_lock(&cow_engines_mutex);
	cow_engine_put(store->engine);
	mutex_unlock(&cow_engines_mutex);
	dm_put_device(ti, store->dev);
	kfree(store);
}

static sector_t slots_sectors(const struct cow_engine *engine)
{
	return 2ull * engine->store.super.slot_blocks * COWSNAP_BLOCK_SECTORS;
}

static int store_map(struct dm_target *ti, struct bio *bio)
{
	struct store_target *store = ti->private;
	sector_t slots = slots_sectors(store->engine);
	sector_t sector = bio->bi_iter.bi_sector;

	bio_set_dev(bio, store->dev->bdev);
	if (!bio_sectors(bio))
		return DM_MAPIO_REMAPPED;
	if (sector < slots) {
		if (bio_end_sector(bio) > slots)
			dm_accept_partial_bio(bio, slots - sector);
		bio->bi_iter.bi_sector =
			sector + store->engine->store.super.slot_block * COWSNAP_BLOCK_SECTORS;
		return DM_MAPIO_REMAPPED;
	}
	if (bio_op(bio) != REQ_OP_READ)
		return DM_MAPIO_KILL;
	zero_fill_bio(bio);
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

/* The table that goes live says how much is used, and the policy. */
static int store_preresume(struct dm_target *ti)
{
	struct store_target *store = ti->private;
	struct cow_engine *engine = store->engine;
	u64 blocks = store->length_sectors / COWSNAP_BLOCK_SECTORS;
	char why[COW_WHY_BYTES] = "";
	int r = 0;

	mutex_lock(&engine->control);
	if (blocks > engine->store.super.store_blocks + engine->store.super.segment_blocks) {
		do {
			r = cow_store_extend(&engine->store, blocks, why);
			if (r == -EAGAIN)
				flush_workqueue(engine->wq);
		} while (r == -EAGAIN);
		if (r == -ENOSPC)
			r = 0; /* less than a segment: wait for more */
		if (r)
			DMERR("extending the store: %s", why);
	}
	if (!r) {
		mutex_lock(&engine->mutex);
		engine->full_wait_ms = store->full_wait_ms;
		WRITE_ONCE(engine->loss_wait_ms, store->loss_wait_ms);
		engine->store.low_water = store->low_water;
		mutex_unlock(&engine->mutex);
	}
	mutex_unlock(&engine->control);
	cow_engine_kick(engine);
	return r;
}

static void store_resume(struct dm_target *ti)
{
	struct store_target *store = ti->private;

	mutex_lock(&store->engine->bound_mutex);
	store->engine->bound = ti;
	mutex_unlock(&store->engine->bound_mutex);
}

static const char *store_state(const struct cow_engine *engine)
{
	if (engine->store.broken)
		return COWSNAP_STORE_FAILED;
	return engine->starving ? COWSNAP_STORE_FULL : COWSNAP_STORE_ACTIVE;
}

static void store_status(struct dm_target *ti, status_type_t type, unsigned int flags,
			 char *result, unsigned int maxlen)
{
	struct store_target *store = ti->private;
	struct cow_engine *engine = store->engine;
	const struct cow_store *core = &engine->store;
	unsigned int features, sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		mutex_lock(&engine->mutex);
		DMEMIT("%pUb %s %u %llu/%llu %u %u %u %llu %llu", core->super.uuid,
		       store_state(engine), core->super.segment_blocks * COWSNAP_BLOCK_SECTORS,
		       core->nr_free, core->nr_segments,
		       core->super.slot_blocks * COWSNAP_BLOCK_SECTORS, core->nr_origins,
		       core->nr_snapshots, engine->events, core->damaged_blocks);
		mutex_unlock(&engine->mutex);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %u", store->dev->name, store->low_water);
		features = store->full_wait_set + store->loss_wait_set + store->segment_set;
		if (features)
			DMEMIT(" %u", 2 * features);
		if (store->full_wait_set)
			DMEMIT(" %s %u", COWSNAP_FEATURE_FULL_WAIT_MS, store->full_wait_ms);
		if (store->loss_wait_set)
			DMEMIT(" %s %u", COWSNAP_FEATURE_LOSS_WAIT_MS, store->loss_wait_ms);
		if (store->segment_set)
			DMEMIT(" %s %u", COWSNAP_FEATURE_SEGMENT_SECTORS, store->segment_sectors);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

static int store_message(struct dm_target *ti, unsigned int argc, char **argv, char *result,
			 unsigned int maxlen)
{
	struct store_target *store = ti->private;

	return cow_store_message(store->engine, argc, argv, result, maxlen);
}

static int store_iterate_devices(struct dm_target *ti, iterate_devices_callout_fn fn, void *data)
{
	struct store_target *store = ti->private;

	return fn(ti, store->dev, 0, ti->len, data);
}

struct target_type cow_store_type = {
	.name = COWSNAP_TARGET_STORE,
	.version = {COWSNAP_DM_VERSION_MAJOR, COWSNAP_DM_VERSION_MINOR, COWSNAP_DM_VERSION_PATCH},
	.features = DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = store_ctr,
	.dtr = store_dtr,
	.map = store_map,
	.preresume = store_preresume,
	.resume = store_resume,
	.status = store_status,
	.message = store_message,
	.iterate_devices = store_iterate_devices,
};
