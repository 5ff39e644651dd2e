// SPDX-License-Identifier: GPL-2.0-only
/*
 * cow-origin: in front of a device that is snapshotted. Reads pass. A write passes
 * when all its blocks are preserved in the current epoch (one look at a bitmap,
 * no lock), else the worker has them preserved first.
 *
 * Stacked, the device is its own and writes come to its mapped device. Interposed, it
 * has the device open as anybody may, and writes come from interpose.c.
 */
#include <linux/delay.h>
#include <linux/module.h>

#include "cowsnap.h"

struct origin_target {
	struct cow_engine *engine;
	struct dm_dev *store_dev;
	struct block_device *bdev; /* of one of the next two */
	struct dm_dev *dev; /* stacked */
	struct cow_bdev shared; /* interposed */
	struct cow_attachment *attachment;
	struct cow_origin *origin;
	u32 id;
	bool interpose;
};

/* ------------------------------------------------------------ attaching --- */

/*
 * Without control the device is opened and closed, and memory is had: who scans a disk for
 * partitions has a lock that opening waits for, and may himself wait for a write that
 * needs control (see front.c), and so may who frees memory. NULL is nothing.
 */
void cow_attachment_free(struct cow_attachment *attachment)
{
	if (!attachment)
		return;
	if (attachment->interposer)
		cow_interposer_free(attachment->interposer);
	cow_guard_exit(&attachment->guard);
	cow_sender_exit(&attachment->sender);
	cow_bdev_close(&attachment->lower);
	kfree(attachment);
}

/* Of no origin yet; attach_new() makes it one's. */
static struct cow_attachment *attachment_make(struct origin_target *target)
{
	struct cow_attachment *attachment = kzalloc(sizeof(*attachment), GFP_KERNEL);
	int r;

	if (!attachment)
		return ERR_PTR(-ENOMEM);
	attachment->engine = target->engine;
	r = cow_bdev_open(&attachment->lower, target->bdev->bd_dev);
	if (r)
		goto bad_open;
	r = cow_sender_init(&attachment->sender);
	if (r)
		goto bad_sender;
	r = cow_guard_init(&attachment->guard, target->engine, attachment->lower.bdev);
	if (r)
		goto bad_guard;
	if (target->interpose) {
		attachment->interposer = cow_interposer_make(&attachment->guard);
		r = -ENOMEM;
		if (!attachment->interposer)
			goto bad_interposer;
	}
	return attachment;
bad_interposer:
	cow_guard_exit(&attachment->guard);
bad_guard:
	cow_sender_exit(&attachment->sender);
bad_sender:
	cow_bdev_close(&attachment->lower);
bad_open:
	kfree(attachment);
	return ERR_PTR(r);
}

/* control held. */
static void attach_new(struct cow_attachment *attachment, struct origin_target *target,
		       struct mapped_device *md)
{
	struct cow_engine *engine = target->engine;

	attachment->md = md;
	attachment->dev = disk_devt(dm_disk(md));
	attachment->order = ++engine->attach_order;
	attachment->origin = target->origin;
	cow_guard_adopt(&attachment->guard, target->origin);
	if (attachment->interposer)
		cow_interposer_adopt(attachment->interposer, target->origin);
	cow_copier_init(attachment);
	attachment->targets = 1;
	attachment->references = 1;
	target->attachment = attachment;
	mutex_lock(&engine->mutex);
	target->origin->shell = attachment;
	engine->attached++;
	mutex_unlock(&engine->mutex);
}

/* control held. Another target, of the table that comes next. */
static int attach_again(struct dm_target *ti, struct origin_target *target,
			struct cow_attachment *attachment)
{
	if (attachment->md != dm_table_get_md(ti->table))
		ti->error = "This origin is attached already";
	else if (attachment->leaving)
		ti->error = "This origin is just being detached: try again";
	else if (attachment->lower.bdev != target->bdev)
		ti->error = "This origin is on another device";
	else if (target->interpose != !!attachment->interposer)
		ti->error = "An origin cannot change between stacked and interposed";
	else
		target->attachment = attachment;
	if (!target->attachment)
		return -EBUSY;
	attachment->targets++;
	attachment->references++;
	return 0;
}

/* control held. @fresh is NULL when the origin had an attachment just now. */
static int attach_to(struct dm_target *ti, struct origin_target *target,
		     struct cow_attachment *fresh)
{
	struct cow_engine *engine = target->engine;
	char why[COW_WHY_BYTES] = "";
	int r = cow_origin_register(&engine->store, target->id, ti->len, &target->origin, why);

	if (r) {
		DMERR("%s", why);
		ti->error = "The origin cannot be registered in the store";
		return r;
	}
	if (target->origin->shell)
		return attach_again(ti, target, target->origin->shell);
	if (target->interpose && target->origin->rollback.state) {
		ti->error = "This origin has a rollback: it must be stacked until that is over";
		return -EBUSY;
	}
	if (!fresh) {
		ti->error = "This origin has just been detached: try again";
		return -EBUSY;
	}
	attach_new(fresh, target, dm_table_get_md(ti->table));
	return 0;
}

static int attach(struct dm_target *ti, struct origin_target *target, bool is_attached)
{
	struct cow_attachment *fresh = NULL;
	int r;

	if (!is_attached) {
		fresh = attachment_make(target);
		if (IS_ERR(fresh)) {
			ti->error = "The origin's device cannot be opened";
			return PTR_ERR(fresh);
		}
	}
	mutex_lock(&target->engine->control);
	r = attach_to(ti, target, fresh);
	mutex_unlock(&target->engine->control);
	if (target->attachment != fresh)
		cow_attachment_free(fresh);
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

/*
 * control held. Somebody needs it no longer; to be given to cow_attachment_free() when
 * control is let go.
 */
struct cow_attachment *cow_attachment_put(struct cow_attachment *attachment)
{
	if (--attachment->references)
		return NULL;
	mutex_lock(&attachment->engine->mutex);
	attachment->engine->attached--;
	mutex_unlock(&attachment->engine->mutex);
	return attachment;
}

/* control held. A create may be about to freeze, drain and flush the device. */
static bool has_creates(struct origin_target *target)
{
	return target->attachment->targets == 1 && target->attachment->creates;
}

/* control held. Extents may be read from the device, of writes that were let go. */
static bool has_extents(struct origin_target *target)
{
	return target->attachment->targets == 1 && !quiet(target->engine, target->origin);
}

/* control held; let go meanwhile, for what the caller waits for. */
static void let_others(struct cow_engine *engine)
{
	mutex_unlock(&engine->control);
	cow_engine_kick(engine);
	usleep_range(200, 500);
	mutex_lock(&engine->control);
}

/* control held; let go meanwhile. No create begins while the last target waits. */
static void wait_while(bool (*busy)(struct origin_target *target), struct origin_target *target)
{
	while (busy(target)) {
		target->attachment->leaving = true;
		let_others(target->engine);
	}
}

/* The last target goes; without control. An interposed origin takes writes until here. */
static void stop_writes(struct cow_attachment *attachment)
{
	cow_copier_stop(attachment);
	if (attachment->interposer)
		cow_interposer_disarm(attachment->interposer);
	cow_guard_stop(&attachment->guard);
}

/*
 * No bio of this target is left, but creates may be under way: they keep the mapped
 * device, which may have got another table.
 */
static void detach(struct origin_target *target)
{
	struct cow_engine *engine = target->engine;
	struct cow_attachment *attachment = target->attachment;
	struct cow_attachment *unused;

	mutex_lock(&engine->control);
	wait_while(has_creates, target);
	if (attachment->targets == 1) {
		attachment->leaving = true;
		mutex_unlock(&engine->control);
		stop_writes(attachment);
		mutex_lock(&engine->control);
	}
	wait_while(has_extents, target);
	attachment->leaving = false;
	if (!--attachment->targets) {
		mutex_lock(&engine->mutex);
		target->origin->shell = NULL;
		mutex_unlock(&engine->mutex);
	}
	unused = cow_attachment_put(attachment);
	mutex_unlock(&engine->control);
	cow_attachment_free(unused);
}

/* --------------------------------------------------------- construction --- */

static bool overlap(const struct block_device *a, const struct block_device *b)
{
	return a->bd_disk == b->bd_disk && (a == b || a == a->bd_disk->part0 ||
					    b == b->bd_disk->part0);
}

static int check_device(struct dm_target *ti, struct origin_target *target)
{
	struct block_device *bdev = target->bdev;
	const char *refusal;

	if (ti->begin) {
		ti->error = "A cow-origin starts at sector 0";
		return -EINVAL;
	}
	if (bdev_nr_sectors(bdev) < ti->len) {
		ti->error = "The origin's device is smaller than the length";
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
	refusal = target->interpose ? cow_interpose_refusal(bdev) : NULL;
	if (refusal) {
		ti->error = (char *)refusal;
		return -EOPNOTSUPP;
	}
	return 0;
}

/*
 * A device that is not an origin yet must not be in use (unless it is to be interposed),
 * and not be the store's under another name. With one that is, attach() knows what to do.
 *
 * The device of an origin that was interposed may have grown: its users did not have to
 * care for the origin. What they write behind its end is no concern of it, and its
 * rollback, for which it is stacked, leaves that alone.
 */
static int check_unused(struct dm_target *ti, struct origin_target *target, bool *attached)
{
	struct cow_engine *engine = target->engine;
	struct cow_origin *origin;
	bool may_have_grown;

	mutex_lock(&engine->control);
	origin = cow_origin_find(&engine->store, target->id);
	*attached = origin && origin->shell;
	may_have_grown = *attached || (origin && (target->interpose || origin->rollback.state));
	mutex_unlock(&engine->control);
	if (bdev_nr_sectors(target->bdev) > ti->len && !may_have_grown) {
		ti->error = "The length is not the size of the origin's device";
		return -EINVAL;
	}
	if (*attached)
		return 0;
	if (!target->interpose && !cow_device_alone(target->bdev)) {
		ti->error = "The origin's device is in use by another mapped device";
		return -EBUSY;
	}
	if (cow_shows_active_store(target->bdev)) {
		ti->error = "The store is on this device: it cannot be its origin";
		return -EINVAL;
	}
	return 0;
}

static int origin_feature(void *context, const char *name, const char *value)
{
	struct origin_target *target = context;

	if (strcmp(name, COWSNAP_FEATURE_INTERPOSE))
		return -EINVAL;
	target->interpose = true;
	return 0;
}

/* A path, or major:minor. */
static int find_device(const char *word, dev_t *dev)
{
	unsigned int major, minor;
	char rest;

	if (sscanf(word, "%u:%u%c", &major, &minor, &rest) == 2) {
		*dev = MKDEV(major, minor);
		return MAJOR(*dev) == major && MINOR(*dev) == minor ? 0 : -EINVAL;
	}
	return lookup_bdev(word, dev);
}

static int open_device(struct dm_target *ti, struct origin_target *target, const char *word)
{
	dev_t dev;
	int r;

	if (!target->interpose) {
		r = dm_get_device(ti, word, dm_table_get_mode(ti->table), &target->dev);
		if (r)
			ti->error = "The origin's device cannot be opened: missing, or in use";
		else
			target->bdev = target->dev->bdev;
		return r;
	}
	r = find_device(word, &dev);
	if (!r)
		r = cow_bdev_open(&target->shared, dev);
	if (r) {
		ti->error = "The origin's device cannot be opened: missing?";
		return r;
	}
	if (bdev_read_only(target->shared.bdev)) {
		ti->error = "The origin's device is read-only";
		cow_bdev_close(&target->shared);
		return -EROFS;
	}
	target->bdev = target->shared.bdev;
	r = cow_hook_get();
	if (r) {
		ti->error = "Writes cannot be interposed here: the line above says why";
		cow_bdev_close(&target->shared);
	}
	return r;
}

static void close_device(struct dm_target *ti, struct origin_target *target)
{
	if (!target->interpose) {
		dm_put_device(ti, target->dev);
		return;
	}
	cow_hook_put();
	cow_bdev_close(&target->shared);
}

static int construct(struct dm_target *ti, struct origin_target *target, unsigned int argc,
		     char **argv)
{
	bool is_attached;
	int r;

	if (cow_parse_u32(argv[1], 1, COWSNAP_ID_MAX, &target->id)) {
		ti->error = "The origin id is not a number from 1 to 4294967294";
		return -EINVAL;
	}
	r = cow_parse_features(ti, argc - 3, argv + 3, origin_feature, target);
	if (r)
		return r;
	target->engine = cow_engine_from_arg(ti, argv[0], &target->store_dev);
	if (IS_ERR(target->engine))
		return PTR_ERR(target->engine);
	r = open_device(ti, target, argv[2]);
	if (r)
		goto bad_engine;
	r = check_device(ti, target);
	if (!r)
		r = check_unused(ti, target, &is_attached);
	if (!r)
		r = attach(ti, target, is_attached);
	if (!r)
		return 0;
	close_device(ti, target);
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
	ti->per_io_data_size = sizeof(struct cow_snap_bio);
	ti->private = target;
	return 0;
}

static void origin_dtr(struct dm_target *ti)
{
	struct origin_target *target = ti->private;

	detach(target);
	close_device(ti, target);
	mutex_lock(&cow_engines_mutex);
	cow_engine_put(target->engine);
	mutex_unlock(&cow_engines_mutex);
	dm_put_device(ti, target->store_dev);
	kfree(target);
}

/* ------------------------------------------------------------------- I/O --- */

/* The device of an interposed origin is for nobody's use. */
static int map_interposed(struct bio *bio)
{
	if (op_is_write(bio_op(bio)) && bio_sectors(bio))
		return DM_MAPIO_KILL;
	if (bio_op(bio) == REQ_OP_READ)
		zero_fill_bio(bio);
	bio_endio(bio);
	return DM_MAPIO_SUBMITTED;
}

static int origin_map(struct dm_target *ti, struct bio *bio)
{
	struct origin_target *target = ti->private;
	struct cow_snap_bio *io = dm_per_bio_data(bio, sizeof(*io));
	struct cow_bio *wait = &io->write;
	u64 block, length;
	bool may_pass, is_guarded;
	int result;

	io->snap = NULL;
	if (target->interpose)
		return map_interposed(bio);
	cow_guard_look(&target->attachment->guard);
	bio_set_dev(bio, target->bdev);
	if (unlikely(READ_ONCE(target->origin->rollback.state) == COW_ROLLBACK_RUNNING) &&
	    bio_sectors(bio) && cow_shown_map(target->attachment, bio, io, &result))
		return result;
	if (!op_is_write(bio_op(bio)) || !bio_sectors(bio))
		return DM_MAPIO_REMAPPED;
	block = bio->bi_iter.bi_sector / COWSNAP_BLOCK_SECTORS;
	length = DIV_ROUND_UP_SECTOR_T(bio_end_sector(bio), COWSNAP_BLOCK_SECTORS) - block;
	may_pass = cow_origin_may_pass(target->origin, block, length);
	is_guarded = cow_guard_covers(&target->attachment->guard, bio->bi_iter.bi_sector,
				      bio_end_sector(bio));
	if (may_pass && likely(!is_guarded))
		return DM_MAPIO_REMAPPED;
	if (!may_pass && bio_op(bio) == REQ_OP_DISCARD) {
		/* a hint only: not worth a copy */
		bio_endio(bio);
		return DM_MAPIO_SUBMITTED;
	}
	memset(wait, 0, sizeof(*wait));
	wait->bio = bio;
	wait->kind = COW_BIO_ORIGIN;
	wait->origin = target->origin;
	wait->lower = target->bdev;
	wait->waiter.block = block;
	wait->waiter.length = length;
	if (is_guarded)
		cow_guard_write(&target->attachment->guard, wait, bio->bi_iter.bi_sector);
	else
		cow_engine_queue(target->engine, wait);
	return DM_MAPIO_SUBMITTED;
}

static int origin_end_io(struct dm_target *ti, struct bio *bio, blk_status_t *error)
{
	struct cow_snap_bio *io = dm_per_bio_data(bio, sizeof(*io));

	return likely(!io->snap) ? DM_ENDIO_DONE : cow_shown_end(bio, io, error);
}

/* --------------------------------------------------- suspending, resuming --- */

static struct cow_interposer *interposer_of(struct dm_target *ti)
{
	return ((struct origin_target *)ti->private)->attachment->interposer;
}

/*
 * A create has what is written at its gate while it freezes and thaws file systems, so the
 * gate must not be closed until it has ended: the mapped device may be about to be removed,
 * or to get another table, and both wait for the create before anything opens it again.
 */
static void wait_for_creates(struct cow_attachment *attachment)
{
	struct cow_engine *engine = attachment->engine;

	mutex_lock(&engine->control);
	attachment->closing = true;
	while (attachment->creates)
		let_others(engine);
	mutex_unlock(&engine->control);
}

/* Writes to the device of an interposed origin wait, as those to a stacked one do. */
static void origin_presuspend(struct dm_target *ti)
{
	struct origin_target *target = ti->private;

	cow_copier_stop(target->attachment);
	if (interposer_of(ti)) {
		wait_for_creates(target->attachment);
		cow_interposer_suspend(interposer_of(ti));
	}
}

/* A create suspends, too, inside the kernel: that is still in front. */
static void origin_postsuspend(struct dm_target *ti)
{
	struct origin_target *target = ti->private;

	if (dm_suspended(ti))
		cow_front_leave_device(target->attachment);
}

static int origin_preresume(struct dm_target *ti)
{
	struct origin_target *target = ti->private;
	struct cow_guard *guard = &target->attachment->guard;
	/* not when it comes back: it may be in use */
	bool first = READ_ONCE(guard->state) == COW_GUARD_AWAY && !guard->left;
	int r = 0;

	cow_front_look(target->attachment);
	if (interposer_of(ti))
		r = cow_interposer_arm(interposer_of(ti));
	if (!r)
		r = cow_front_enter_device(target->attachment);
	if (!r && first && !interposer_of(ti))
		cow_rollback_begin_scheduled(target->attachment);
	return r;
}

static void origin_resume(struct dm_target *ti)
{
	struct origin_target *target = ti->private;

	cow_copier_start(target->attachment);
	if (!interposer_of(ti))
		return;
	cow_interposer_resume(interposer_of(ti));
	mutex_lock(&target->engine->control);
	target->attachment->closing = false;
	mutex_unlock(&target->engine->control);
}

static void emit_rollback(struct origin_target *target, char *result, unsigned int maxlen,
			  unsigned int *size)
{
	const struct cow_rollback *rollback = &target->origin->rollback;
	u64 blocks = target->origin->blocks, done = 0;
	const char *state = COWSNAP_ROLLBACK_NONE;
	unsigned int sz = *size;

	if (rollback->state == COW_ROLLBACK_SCHEDULED) {
		state = COWSNAP_ROLLBACK_SCHEDULED;
	} else if (rollback->state == COW_ROLLBACK_RUNNING) {
		state = READ_ONCE(target->attachment->copier.waits) ? COWSNAP_ROLLBACK_WAITING :
								      COWSNAP_ROLLBACK_RUNNING;
		done = min(rollback->mark, blocks);
	}
	DMEMIT(" %s %u %u %llu/%llu", state, rollback->state ? rollback->target->id : 0,
	       rollback->state ? rollback->undo : 0, done, blocks);
	*size = sz;
}

static void origin_status(struct dm_target *ti, status_type_t type, unsigned int flags,
			  char *result, unsigned int maxlen)
{
	struct origin_target *target = ti->private;
	struct cow_origin *origin = target->origin;
	unsigned int sz = 0;

	switch (type) {
	case STATUSTYPE_INFO:
		cow_guard_look(&target->attachment->guard);
		mutex_lock(&target->engine->mutex);
		DMEMIT("%u %u %llu %u %llu", origin->id, origin->nr_snapshots,
		       origin->nr_snapshots && origin->bitmap ? origin->bitmap->set : 0ull,
		       origin->log.extents, origin->read_blocks);
		emit_rollback(target, result, maxlen, &sz);
		mutex_unlock(&target->engine->mutex);
		break;
	case STATUSTYPE_TABLE:
		DMEMIT("%s %u %u:%u", target->store_dev->name, target->id,
		       MAJOR(target->bdev->bd_dev), MINOR(target->bdev->bd_dev));
		if (target->interpose)
			DMEMIT(" 1 %s", COWSNAP_FEATURE_INTERPOSE);
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

	return target->interpose ? 0 : fn(ti, target->dev, 0, ti->len, data);
}

struct target_type cow_origin_type = {
	.name = COWSNAP_TARGET_ORIGIN,
	.version = {COWSNAP_DM_VERSION_MAJOR, COWSNAP_DM_VERSION_MINOR, COWSNAP_DM_VERSION_PATCH},
	.features = DM_TARGET_SINGLETON,
	.module = THIS_MODULE,
	.ctr = origin_ctr,
	.dtr = origin_dtr,
	.map = origin_map,
	.end_io = origin_end_io,
	.presuspend = origin_presuspend,
	.presuspend_undo = origin_resume,
	.postsuspend = origin_postsuspend,
	.preresume = origin_preresume,
	.resume = origin_resume,
	.status = origin_status,
	.iterate_devices = origin_iterate_devices,
};
