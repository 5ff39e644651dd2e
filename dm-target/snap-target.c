// SPDX-License-Identifier: GPL-2.0-only
/*
 * cow-snap: a snapshot as a device. A read goes to where the blocks are: overlay,
 * store or origin. What comes from the store is checked against its checksums;
 * what comes from the origin is looked up again when it has been read: a block
 * preserved meanwhile is read again from the store. Writes go to the overlay.
 */
#include <linux/module.h>

#include "cowsnap.h"

/* ------------------------------------------------------------------ reads --- */

static u64 first_block(const struct bvec_iter *iter)
{
	return iter->bi_sector / COWSNAP_BLOCK_SECTORS;
}

static u32 count_blocks(const struct bvec_iter *iter)
{
	return DIV_ROUND_UP_SECTOR_T(iter->bi_sector + (iter->bi_size >> SECTOR_SHIFT),
				     COWSNAP_BLOCK_SECTORS) -
	       first_block(iter);
}

static void read_slowly(struct cow_snap_bio *io)
{
	INIT_WORK(&io->slow, cow_snap_read_slow);
	queue_work(io->snap->engine->slow_wq, &io->slow);
}

static void unpin(struct cow_snap_bio *io)
{
	struct cow_engine *engine = io->snap->engine;
	unsigned long flags;
	bool kick;

	if (io->location == COW_NOT_FOUND)
		return;
	spin_lock_irqsave(&engine->view, flags);
	kick = cow_store_unpin(&engine->store, io->location);
	spin_unlock_irqrestore(&engine->view, flags);
	io->location = COW_NOT_FOUND;
	if (kick)
		cow_engine_kick(engine);
}

/* *io is as snap_map() sets it. Returns DM_MAPIO_*. */
int cow_snap_map_read(struct cow_snap_target *snap, struct bio *bio, struct cow_snap_bio *io)
{
	struct cow_engine *engine = snap->engine;
	u32 offset = bio->bi_iter.bi_sector % COWSNAP_BLOCK_SECTORS;
	unsigned long flags;
	enum cow_where where;
	u32 blocks, sectors;
	u64 location;

	spin_lock_irqsave(&engine->view, flags);
	blocks = cow_snapshot_lookup(snap->snapshot, first_block(&bio->bi_iter),
				     count_blocks(&bio->bi_iter), &where, &location);
	if (where == COW_AT_STORE)
		io->crcs = cow_store_crcs(&engine->store, location);
	spin_unlock_irqrestore(&engine->view, flags);
	sectors = blocks * COWSNAP_BLOCK_SECTORS - offset;
	if (sectors < bio_sectors(bio))
		dm_accept_partial_bio(bio, sectors);
	io->iter = bio->bi_iter;
	switch (where) {
	case COW_AT_ERROR:
		return DM_MAPIO_KILL;
	case COW_AT_ORIGIN:
		io->from_origin = true;
		bio_set_dev(bio, snap->attachment->lower.bdev);
		return DM_MAPIO_REMAPPED;
	case COW_AT_STORE:
		io->location = location;
		break;
	}
	if (offset || bio_sectors(bio) % COWSNAP_BLOCK_SECTORS) {
		/* only whole blocks can be checked */
		unpin(io);
		read_slowly(io);
		return DM_MAPIO_SUBMITTED;
	}
	bio_set_dev(bio, engine->device.bdev);
	bio->bi_iter.bi_sector = location * COWSNAP_BLOCK_SECTORS;
	return DM_MAPIO_REMAPPED;
}

/* Was any of the blocks preserved while the origin was read? */
static bool still_at_origin(struct cow_snap_bio *io)
{
	struct cow_engine *engine = io->snap->engine;
	u64 block = first_block(&io->iter);
	u32 left = count_blocks(&io->iter);
	enum cow_where where = COW_AT_ORIGIN;
	unsigned long flags;
	u64 location;

	spin_lock_irqsave(&engine->view, flags);
	while (left && where == COW_AT_ORIGIN) {
		u32 n = cow_snapshot_lookup(io->snap->snapshot, block, left, &where, &location);

		if (where == COW_AT_STORE)
			cow_store_unpin(&engine->store, location);
		block += n;
		left -= n;
	}
	spin_unlock_irqrestore(&engine->view, flags);
	return where == COW_AT_ORIGIN;
}

/* The checksums of whole blocks read from io->location on into the bio. */
static bool checksums_match(struct cow_snap_bio *io)
{
	const u32 *expected = io->crcs;
	struct bvec_iter iter;
	struct bio_vec bv;
	u32 crc = 0, filled = 0;

	__bio_for_each_segment(bv, io->bio, iter, io->iter) {
		void *address = bvec_kmap_local(&bv);
		u32 done = 0;

		while (done < bv.bv_len) {
			u32 n = min(bv.bv_len - done, COWSNAP_BLOCK_BYTES - filled);

			crc = cow_crc32c(crc, address + done, n);
			done += n;
			filled += n;
			if (filled == COWSNAP_BLOCK_BYTES) {
				if (crc != *expected) {
					kunmap_local(address);
					return false;
				}
				expected++;
				crc = 0;
				filled = 0;
			}
		}
		kunmap_local(address);
	}
	return true;
}

static void tell_damage(struct cow_snap_bio *io)
{
	struct cow_snapshot *snapshot = io->snap->snapshot;

	WRITE_ONCE(snapshot->damaged, true);
	DMERR_LIMIT("snapshot %u: the store's block %llu has a wrong checksum", snapshot->id,
		    io->location);
}

/* Returns DM_ENDIO_*. */
int cow_snap_end_read(struct bio *bio, struct cow_snap_bio *io, blk_status_t *error)
{
	if (io->location != COW_NOT_FOUND) {
		if (!*error && !checksums_match(io)) {
			tell_damage(io);
			*error = BLK_STS_IOERR;
		}
		unpin(io);
		return DM_ENDIO_DONE;
	}
	if (!io->from_origin || *error || still_at_origin(io))
		return DM_ENDIO_DONE;
	/* again, block by block; the bio is as it was before it was sent */
	io->from_origin = false;
	bio->bi_iter = io->iter;
	bio->bi_status = BLK_STS_OK;
	atomic_set(&bio->__bi_remaining, 1);
	read_slowly(io);
	return DM_ENDIO_INCOMPLETE;
}

static int snap_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	if (bio_op(bio) != REQ_OP_READ)
		return DM_ENDIO_DONE;
	return cow_snap_end_read(bio, dm_per_bio_data(bio, sizeof(struct cow_snap_bio)), error);
}

/* ----------------------------------------------------------------- writes --- */

static int snap_map_write(struct cow_snap_target *snap, struct bio *bio, struct cow_snap_bio *io)
{
	struct cow_bio *write = &io->write;

	if (snap->read_only)
		return DM_MAPIO_KILL;
	memset(write, 0, sizeof(*write));
	write->bio = bio;
	write->kind = COW_BIO_OVERLAY;
	write->snap = snap;
	write->waiter.block = first_block(&bio->bi_iter);
	write->waiter.length = count_blocks(&bio->bi_iter);
	cow_engine_queue(snap->engine, write);
	return DM_MAPIO_SUBMITTED;
}

static int snap_map(struct dm_target *ti, struct bio *bio)
{
	struct cow_snap_target *snap = ti->private;
	struct cow_snap_bio *io = dm_per_bio_data(bio, sizeof(*io));

	io->snap = snap;
	io->bio = bio;
	io->location = COW_NOT_FOUND;
	io->from_origin = false;
	io->iter = bio->bi_iter;
	if (!bio_sectors(bio)) {
		/* what was acknowledged is durable already */
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	if (bio_op(bio) == REQ_OP_READ)
		return cow_snap_map_read(snap, bio, io);
	if (bio_op(bio) == REQ_OP_WRITE)
		return snap_map_write(snap, bio, io);
	return DM_MAPIO_KILL;
}

/* ----------------------------------------------------------- construction --- */

static int snap_feature(void *context, const char *name, const char *value)
{
	struct cow_snap_target *snap = context;

	if (strcmp(name, COWSNAP_FEATURE_READ_ONLY))
		return -EINVAL;
	snap->read_only = true;
	return 0;
}

/* control held. The snapshot, if it can have a cow-snap now: then its origin is attached. */
static struct cow_snapshot *find_snapshot(struct dm_target *ti, struct cow_snap_target *snap,
					  u32 id)
{
	struct cow_snapshot *snapshot = cow_snapshot_find(&snap->engine->store, id);

	if (!snapshot) {
		ti->error = "There is no snapshot with this id";
		return ERR_PTR(-ENOENT);
	}
	if (ti->len != snapshot->origin->size_sectors) {
		ti->error = "The length is not the size of the snapshot's origin";
		return ERR_PTR(-EINVAL);
	}
	if (snapshot->users && snapshot->shell != dm_table_get_md(ti->table)) {
		ti->error = "This snapshot has a cow-snap already";
		return ERR_PTR(-EBUSY);
	}
	if (!snap->read_only && cow_rollback_needs(snapshot)) {
		ti->error = "A rollback needs this snapshot: only a read_only cow-snap can be had";
		return ERR_PTR(-EBUSY);
	}
	if (!snapshot->origin->shell) {
		ti->error = "The snapshot's origin has no cow-origin";
		return ERR_PTR(-ENODEV);
	}
	return snapshot;
}

/* control held; snap->origin_md is open. All is as it was when it was decided to open it. */
static int take_snapshot(struct dm_target *ti, struct cow_snap_target *snap, u32 id)
{
	struct cow_snapshot *snapshot = find_snapshot(ti, snap, id);

	if (IS_ERR(snapshot))
		return PTR_ERR(snapshot);
	if (snapshot->origin->shell != snap->attachment) {
		ti->error = "The snapshot's cow-origin has just gone: try again";
		return -EBUSY;
	}
	if (!snap->read_only && cow_overlay_make(snapshot)) {
		ti->error = "No memory";
		return -ENOMEM;
	}
	snapshot->users++;
	snapshot->origin->users++;
	snapshot->shell = dm_table_get_md(ti->table);
	snap->snapshot = snapshot;
	return 0;
}

/* The attachment is the origin's, with a reference; or it is NULL. */
static int find_attachment(struct dm_target *ti, struct cow_snap_target *snap, u32 id)
{
	struct cow_snapshot *snapshot;

	mutex_lock(&snap->engine->control);
	snapshot = find_snapshot(ti, snap, id);
	if (!IS_ERR(snapshot)) {
		snap->attachment = snapshot->origin->shell;
		snap->attachment->references++;
	}
	mutex_unlock(&snap->engine->control);
	return PTR_ERR_OR_ZERO(snapshot);
}

/*
 * The cow-origin's device is opened without control (see cowsnap.h). Its number may have
 * become another device's by then, but not while the attachment is still the origin's.
 */
static int attach_snapshot(struct dm_target *ti, struct cow_snap_target *snap, u32 id)
{
	struct cow_attachment *unused = NULL;
	int r = find_attachment(ti, snap, id);

	if (r)
		return r;
	r = cow_bdev_open(&snap->origin_md, snap->attachment->dev);
	if (r) {
		ti->error = "The cow-origin's device cannot be opened";
		r = -EBUSY;
	}
	mutex_lock(&snap->engine->control);
	if (!r)
		r = take_snapshot(ti, snap, id);
	if (r)
		unused = cow_attachment_put(snap->attachment);
	mutex_unlock(&snap->engine->control);
	cow_attachment_free(unused);
	if (r)
		cow_bdev_close(&snap->origin_md);
	return r;
}

static int snap_construct(struct dm_target *ti, struct cow_snap_target *snap, unsigned int argc,
			  char **argv)
{
	u32 id;
	int r;

	if (cow_parse_u32(argv[1], 1, COWSNAP_ID_MAX, &id)) {
		ti->error = "The snapshot id is not a number from 1 to 4294967294";
		return -EINVAL;
	}
	if (ti->begin) {
		ti->error = "A cow-snap starts at sector 0";
		return -EINVAL;
	}
	r = cow_parse_features(ti, argc - 2, argv + 2, snap_feature, snap);
	if (r)
		return r;
	snap->engine = cow_engine_from_arg(ti, argv[0], &snap->store_dev);
	if (IS_ERR(snap->engine))
		return PTR_ERR(snap->engine);
	r = attach_snapshot(ti, snap, id);
	if (r) {
		mutex_lock(&cow_engines_mutex);
		cow_engine_put(snap->engine);
		mutex_unlock(&cow_engines_mutex);
		dm_put_device(ti, snap->store_dev);
	}
	return r;
}

static int snap_ctr(struct dm_target *ti, unsigned int argc, char **argv)
{
	struct cow_snap_target *snap;
	int r;

	if (argc < 2) {
		ti->error = "Needed: <store> <snapshot id> [<#features> <feature>...]";
		return -EINVAL;
	}
	snap = kzalloc(sizeof(*snap), GFP_KERNEL);
	if (!snap) {
		ti->error = "No memory";
		return -ENOMEM;
	}
	snap->ti = ti;
	r = snap_construct(ti, snap, argc, argv);
	if (r) {
		kfree(snap);
		return r;
	}
	r = dm_set_target_max_io_len(ti, COW_WINDOW_BLOCKS * COWSNAP_BLOCK_SECTORS);
	WARN_ON_ONCE(r);
	ti->num_flush_bios = 1;
	ti->flush_supported = true;
	ti->per_io_data_size = sizeof(struct cow_snap_bio);
	ti->private = snap;
	return 0;
}

static void snap_dtr(struct dm_target *ti)
{
	struct cow_snap_target *snap = ti->private;
	struct cow_engine *engine = snap->engine;
	struct cow_snapshot *snapshot = snap->snapshot;
	struct cow_attachment *unused;

	mutex_lock(&engine->control);
	snapshot->origin->users--;
	/* deleted while it was open: the last user frees it */
	if (!--snapshot->users && list_empty(&snapshot->all))
		cow_snapshot_free(snapshot);
	unused = cow_attachment_put(snap->attachment);
	mutex_unlock(&engine->control);
	cow_attachment_free(unused);
	cow_bdev_close(&snap->origin_md);
	mutex_lock(&cow_engines_mutex);
	cow_engine_put(engine);
	mutex_unlock(&cow_engines_mutex);
	dm_put_device(ti, snap->store_dev);
	kfree(snap);
}

static void snap_status(struct dm_target *ti, status_type_t type, unsigned int flags,
			char *result, unsigned int maxlen)
{
	struct cow_snap_target *snap = ti->private;
	struct cow_snapshot *snapshot = snap->snapshot;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		mutex_lock(&snap->engine->mutex);
		DMEMIT("%s %u %s %llu", cow_snapshot_state(snapshot),
		       snap->attachment->origin->id, snap->read_only ? "ro" : "rw",
		       snapshot->overlay ? snapshot->overlay->live : 0ull);
		mutex_unlock(&snap->engine->mutex);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %u", snap->store_dev->name, snapshot->id);
		if (snap->read_only)
			DMEMIT(" 1 %s", COWSNAP_FEATURE_READ_ONLY);
		break;
	case STATUSTYPE_IMA:
		*result = '\0';
		break;
	}
}

/* As the origin's device has them: the store's play no part. */
static void snap_io_hints(struct dm_target *ti, struct queue_limits *limits)
{
	struct cow_snap_target *snap = ti->private;
	struct block_device *lower = snap->attachment->lower.bdev;

	limits->logical_block_size = bdev_logical_block_size(lower);
	limits->physical_block_size =
		max_t(unsigned int, bdev_physical_block_size(lower), COWSNAP_BLOCK_BYTES);
	limits->io_min = limits->physical_block_size;
}

struct target_type cow_snap_type = {
	.name = COWSNAP_TARGET_SNAP,
	.version = {COWSNAP_DM_VERSION_MAJOR, COWSNAP_DM_VERSION_MINOR, COWSNAP_DM_VERSION_PATCH},
	.features = DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = snap_ctr,
	.dtr = snap_dtr,
	.map = snap_map,
	.end_io = snap_end_io,
	.status = snap_status,
	.io_hints = snap_io_hints,
};
