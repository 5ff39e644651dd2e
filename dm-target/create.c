// SPDX-License-Identifier: GPL-2.0-only
/*
 * Creating snapshots of one or many origins at one instant.
 *
 * In this order, undone in the opposite one whatever happens:
 *
 *   1. freeze the file systems in the order of the message: user space knows which
 *      loop device has its file on another one, and that one must not be frozen yet;
 *      without one, the page cache of the device is written. Of an interposed disk
 *      those on its partitions, too
 *   2. stop the origins: first the stacked ones, one after the other, those stacked on
 *      others first, because all that follows needs the lower ones to go on:
 *        - drain its mapped device: bios that come are deferred by device-mapper
 *        - wait until its log has published all: preserving reads what is below
 *        - flush its own device's cache: what was acknowledged before must survive a
 *          power cut that follows
 *      then the interposed ones: close all gates, one after the other, and wait for what
 *      they have taken; then as above
 *   3. commit: one write of the control record; new epochs
 *
 * All inside one message: who sent it can die at any time, and nothing stays
 * frozen. Memory is had before anything is frozen.
 *
 * Which interposed device is stacked on which is not known here: that of an origin
 * attached later is taken to be the upper one. If its writes do not end because the
 * gate of one below is closed, it is closed before that one at the next attempt. An
 * interposed device above a stacked origin of the same set makes the create fail, after
 * WAIT_FOR_STOP_MS if need be: of interposed ones all is waited for with a limit, and a
 * stacked one is never drained when a gate below it may be closed.
 */
#include <linux/delay.h>
#include <linux/lockdep.h>
#include <linux/sched/signal.h>
#include <linux/sort.h>

#include "cowsnap.h"

/*
 * Who sends a message keeps the store from being extended. This must be short against
 * full_wait_ms, after which snapshots are dropped for want of room.
 */
#define WAIT_FOR_ROOM_MS 3000
#define WAIT_FOR_STOP_MS 30000
#define GATE_MS 3000

/* What may have a file system: an origin's device, or a partition of it. */
struct frozen {
	struct list_head list;
	struct block_device *bdev;
	struct cow_bdev opened; /* a partition */
	u32 origin;
	bool frozen;
};

struct target {
	struct mapped_device *md;
	struct cow_origin *origin;
	struct cow_attachment *attachment;
	struct cow_interposer *interposer; /* NULL: stacked */
	u64 order;
	u64 group; /* the greatest order of those interposed on the same disk */
	bool watches; /* it will be recorded that more of it is watched */
	bool drained; /* stacked: suspended; interposed: the gate is closed */
};

static bool on_same_disk(const struct target *a, const struct target *b)
{
	return a->interposer && b->interposer &&
	       a->attachment->lower.bdev->bd_disk == b->attachment->lower.bdev->bd_disk;
}

/*
 * Attached later first: it may be stacked on those before. But a write to one disk goes
 * through those interposed on it in the order in which they were attached.
 */
static int compare_targets(const void *left, const void *right)
{
	const struct target *a = left, *b = right;

	if (a->group != b->group)
		return a->group < b->group ? 1 : -1;
	return a->order < b->order ? -1 : a->order > b->order ? 1 : 0;
}

static void sort_targets(struct target *targets, u32 count)
{
	u32 i, j;

	for (i = 0; i < count; i++) {
		targets[i].group = targets[i].order;
		for (j = 0; targets[i].interposer && j < count; j++)
			if (on_same_disk(&targets[i], &targets[j]))
				targets[i].group = max(targets[i].group, targets[j].order);
	}
	sort(targets, count, sizeof(*targets), compare_targets, NULL);
}

/* control held. */
static int find_target(struct cow_engine *engine, struct target *target, u32 id)
{
	target->origin = cow_origin_find(&engine->store, id);
	target->attachment = target->origin->shell;
	if (!target->attachment) {
		DMERR("create: origin %u has no cow-origin", id);
		return -ENODEV;
	}
	if (target->attachment->leaving || dm_hold(target->attachment->md)) {
		DMERR("create: the cow-origin of origin %u is going away", id);
		return -EBUSY;
	}
	if (target->attachment->closing) {
		DMERR("create: the cow-origin of origin %u is suspended", id);
		dm_put(target->attachment->md);
		return -EBUSY;
	}
	target->attachment->creates++;
	target->md = target->attachment->md;
	target->order = target->attachment->order;
	target->interposer = target->attachment->interposer;
	if ((target->interposer && !cow_interposer_armed(target->interposer)) ||
	    !cow_front_has_verdict(&target->attachment->guard)) {
		DMERR("create: the cow-origin of origin %u is not in front of its device yet", id);
		return -EBUSY;
	}
	return 0;
}

static int wait_for_room(struct cow_engine *engine)
{
	unsigned long end = jiffies + msecs_to_jiffies(WAIT_FOR_ROOM_MS);

	while (cow_engine_starving(engine)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, end)) {
			DMERR("create: writes to an origin wait for room in the store");
			return -ENOSPC;
		}
		msleep(20);
	}
	return 0;
}

/* --------------------------------------------------------------- freezing --- */

static struct frozen *add_frozen(struct list_head *frozen, struct target *target,
				 struct block_device *bdev)
{
	struct frozen *device = kzalloc(sizeof(*device), GFP_KERNEL);

	if (!device)
		return NULL;
	device->bdev = bdev;
	device->origin = target->origin->id;
	list_add_tail(&device->list, frozen);
	return device;
}

/* The number of the first partition from *@index on, or 0; *@index is behind it. */
static dev_t next_partition(struct gendisk *disk, unsigned long *index)
{
	struct block_device *part;
	dev_t dev = 0;

	rcu_read_lock();
	part = xa_find(&disk->part_tbl, index, ULONG_MAX, XA_PRESENT);
	if (part)
		dev = part->bd_dev;
	rcu_read_unlock();
	++*index;
	return dev;
}

static int find_partitions(struct list_head *frozen, struct target *target)
{
	struct gendisk *disk = target->attachment->lower.bdev->bd_disk;
	unsigned long index = 1; /* 0: the whole disk */
	dev_t dev;
	int r;

	while ((dev = next_partition(disk, &index))) {
		struct frozen *device = add_frozen(frozen, target, NULL);

		if (!device)
			return -ENOMEM;
		r = cow_bdev_open(&device->opened, dev);
		if (!r) {
			device->bdev = device->opened.bdev;
		} else if (r != -ENXIO && r != -ENODEV) { /* those have just gone */
			DMERR("create: a partition of the disk of origin %u cannot be opened (%d)",
			      target->origin->id, r);
			return r;
		}
	}
	return 0;
}

/* All that is to be frozen, in this order; nothing is, yet. */
static int find_frozen(struct list_head *frozen, struct target *targets, u32 count)
{
	u32 i;
	int r;

	for (i = 0; i < count; i++) {
		struct block_device *bdev = dm_disk(targets[i].md)->part0;

		if (targets[i].interposer) {
			bdev = targets[i].attachment->lower.bdev;
			r = bdev_is_partition(bdev) ? 0 : find_partitions(frozen, &targets[i]);
			if (r)
				return r;
		}
		if (!add_frozen(frozen, &targets[i], bdev))
			return -ENOMEM;
	}
	return 0;
}

static int freeze_all(struct list_head *frozen)
{
	struct frozen *device;
	int r;

	list_for_each_entry(device, frozen, list) {
		if (!device->bdev)
			continue;
		r = cow_bdev_freeze(device->bdev);
		if (r == -EBUSY)
			continue; /* frozen by someone else: that is frozen, too */
		if (r) {
			DMERR("create: the file system on origin %u cannot be frozen (%d)",
			      device->origin, r);
			return r;
		}
		device->frozen = true;
	}
	return 0;
}

static void thaw_all(struct list_head *frozen)
{
	struct frozen *device, *next;

	list_for_each_entry_safe_reverse(device, next, frozen, list) {
		if (device->frozen)
			cow_bdev_thaw(device->bdev);
		cow_bdev_close(&device->opened);
		kfree(device);
	}
}

/* --------------------------------------------------------------- draining --- */

static bool is_quiet(struct cow_engine *engine, struct target *target)
{
	bool quiet;

	mutex_lock(&engine->mutex);
	quiet = cow_origin_quiet(target->origin);
	mutex_unlock(&engine->mutex);
	return quiet;
}

/*
 * Every mapped device has a suspend_lock and an SRCU of its own for its table, but
 * lockdep takes those of all devices for one. Who sends the message is a reader of the
 * store's, while the origins' are taken and waited for: never the same, and who holds
 * an origin's does not wait for a store's.
 */
static void drain(struct target *target)
{
	lockdep_off();
	dm_internal_suspend_noflush(target->md);
	lockdep_on();
	target->drained = true;
}

static void undrain(struct target *target)
{
	lockdep_off();
	dm_internal_resume(target->md);
	lockdep_on();
}

static void release(struct target *target)
{
	if (!target->drained)
		return;
	if (target->interposer)
		cow_gate_open(target->interposer);
	else
		undrain(target);
	target->drained = false;
}

static void release_all(struct target *targets, u32 count)
{
	while (count-- > 0)
		release(&targets[count]);
}

static void flushed(struct bio *bio)
{
	complete(bio->bi_private);
}

/* The cache of targets[@i]'s device. If that does not end, all are released first. */
static int flush(struct target *targets, u32 count, u32 i)
{
	DECLARE_COMPLETION_ONSTACK(done);
	struct bio bio;
	int r;

	bio_init(&bio, targets[i].attachment->lower.bdev, NULL, 0, REQ_OP_WRITE | REQ_PREFLUSH);
	bio.bi_private = &done;
	bio.bi_end_io = flushed;
	submit_bio(&bio);
	if (!wait_for_completion_io_timeout(&done, msecs_to_jiffies(WAIT_FOR_STOP_MS))) {
		release_all(targets, count);
		wait_for_completion_io(&done);
		r = -EBUSY;
	} else {
		r = blk_status_to_errno(bio.bi_status);
	}
	bio_uninit(&bio);
	if (!r || r == -EOPNOTSUPP)
		return 0;
	DMERR("create: the cache of origin %u cannot be flushed (%d)%s", targets[i].origin->id, r,
	      r == -EBUSY ? ": is it on another one?" : "");
	return r;
}

static int wait_quiet(struct cow_engine *engine, struct target *target)
{
	unsigned long end = jiffies + msecs_to_jiffies(WAIT_FOR_STOP_MS);

	while (!is_quiet(engine, target)) {
		if (time_after(jiffies, end)) {
			DMERR("create: what origin %u preserves does not get done",
			      target->origin->id);
			return -EBUSY;
		}
		cow_engine_kick(engine);
		usleep_range(100, 200);
	}
	return 0;
}

static int stop_stacked(struct cow_engine *engine, struct target *targets, u32 count)
{
	u32 i;
	int r = 0;

	for (i = 0; i < count && !r; i++) {
		if (targets[i].interposer)
			continue;
		drain(&targets[i]);
		r = wait_quiet(engine, &targets[i]);
		if (!r)
			r = flush(targets, count, i);
	}
	return r;
}

static void open_gates(struct target *targets, u32 count)
{
	while (count-- > 0)
		if (targets[count].interposer)
			release(&targets[count]);
}

static void move_to_front(struct target *targets, u32 i)
{
	struct target first = targets[i];

	memmove(&targets[1], &targets[0], i * sizeof(*targets));
	targets[0] = first;
}

static int close_gates(struct target *targets, u32 count)
{
	unsigned long end = jiffies + msecs_to_jiffies(WAIT_FOR_STOP_MS);
	u32 i = 0;
	int r;

	while (i < count) {
		if (!targets[i].interposer) {
			i++;
			continue;
		}
		r = cow_gate_close(targets[i].interposer, GATE_MS);
		if (!r) {
			targets[i++].drained = true;
		} else {
			open_gates(targets, i);
			if (r != -EBUSY || time_after(jiffies, end) ||
			    fatal_signal_pending(current)) {
				DMERR("create: writes to the device of origin %u %s",
				      targets[i].origin->id,
				      r == -EBUSY ? "do not end; does io.max hold them?" :
						    "are not taken any more");
				return r;
			}
			move_to_front(targets, i);
			i = 0;
		}
	}
	return 0;
}

static int stop_interposed(struct cow_engine *engine, struct target *targets, u32 count)
{
	u32 i;
	int r = close_gates(targets, count);

	for (i = 0; i < count && !r; i++) {
		if (!targets[i].interposer)
			continue;
		r = wait_quiet(engine, &targets[i]);
		if (!r)
			r = flush(targets, count, i);
	}
	return r;
}

/* No write to any of them is under way or begins, and what was acknowledged is durable. */
static int stop_all(struct cow_engine *engine, struct target *targets, u32 count)
{
	int r = stop_stacked(engine, targets, count);

	return r ?: stop_interposed(engine, targets, count);
}

static void put_all(struct cow_engine *engine, struct target *targets, u32 count)
{
	u32 i;

	mutex_lock(&engine->control);
	for (i = 0; i < count; i++)
		if (targets[i].md)
			targets[i].attachment->creates--;
	mutex_unlock(&engine->control);
	for (i = 0; i < count; i++)
		if (targets[i].md)
			dm_put(targets[i].md);
}

static void relax_gates(struct target *targets, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (targets[i].interposer)
			cow_gate_relax(targets[i].interposer);
}

/* --------------------------------------------------------------- creating --- */

static int commit(struct cow_engine *engine, struct cow_member *members, u32 count)
{
	char why[COW_WHY_BYTES] = "";
	int r;

	mutex_lock(&engine->control);
	r = cow_create_commit(&engine->store, members, count, ktime_get_real_seconds(), why);
	mutex_unlock(&engine->control);
	if (r)
		DMERR("create: %s", why);
	return r;
}

static int prepare(struct cow_engine *engine, struct cow_member *members, struct target *targets,
		   u32 count)
{
	char why[COW_WHY_BYTES] = "";
	u32 i;
	int r;

	mutex_lock(&engine->control);
	r = cow_create_prepare(&engine->store, members, count, why);
	if (r) {
		DMERR("create: %s", why);
		goto out;
	}
	for (i = 0; i < count && !r; i++)
		r = find_target(engine, &targets[i], members[i].origin);
	if (!r && members[0].target && targets[0].interposer) {
		DMERR("rollback: origin %u is interposed: it can be scheduled only",
		      members[0].origin);
		r = -EOPNOTSUPP;
	}
	if (r)
		cow_create_abort(&engine->store, members, count);
out:
	mutex_unlock(&engine->control);
	return r;
}

/* What is behind the end of a device cannot be read, nor is it kept. */
static int check_sizes(struct target *targets, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++) {
		if (cow_guard_renew(&targets[i].attachment->guard))
			continue;
		DMERR("create: the device of origin %u has become smaller than the origin",
		      targets[i].origin->id);
		return -ENXIO;
	}
	return 0;
}

/* Freezes, drains, makes durable, commits and lets go; the caller thaws. */
static int create_frozen(struct cow_engine *engine, struct cow_member *members,
			 struct target *targets, struct list_head *frozen, u32 count)
{
	int r = freeze_all(frozen);
	u32 i;

	if (!r)
		r = stop_all(engine, targets, count);
	if (r)
		cow_create_abort(&engine->store, members, count);
	else
		r = commit(engine, members, count);
	for (i = 0; !r && i < count; i++) {
		targets[i].watches = cow_guard_still(&targets[i].attachment->guard);
		cow_guard_spoil_again(&targets[i].attachment->guard);
	}
	/* what is cached is not what a rollback shows */
	if (!r && members[0].target)
		invalidate_bdev(dm_disk(targets[0].md)->part0);
	release_all(targets, count);
	return r;
}

static int create_locked(struct cow_engine *engine, struct cow_member *members,
			 struct target *targets, u32 count)
{
	LIST_HEAD(frozen);
	u32 i;
	int r = prepare(engine, members, targets, count);

	if (r)
		return r;
	for (i = 0; i < count; i++)
		if (targets[i].interposer)
			cow_gate_prepare(targets[i].interposer);
	r = wait_for_room(engine);
	if (!r)
		r = check_sizes(targets, count);
	if (!r)
		r = find_frozen(&frozen, targets, count);
	sort_targets(targets, count);
	if (r)
		cow_create_abort(&engine->store, members, count);
	else
		r = create_frozen(engine, members, targets, &frozen, count);
	thaw_all(&frozen);
	relax_gates(targets, count);
	return r;
}

/* So that what is watched is so when the create has ended; nobody else waits for that. */
static void settle_all(struct target *targets, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		if (targets[i].watches)
			cow_guard_settle(&targets[i].attachment->guard);
}

/* Create the members' snapshots at one instant; 0 when they are durable. May sleep. */
int cow_create(struct cow_engine *engine, struct cow_member *members, u32 count)
{
	struct target *targets = kvcalloc(count, sizeof(*targets), GFP_KERNEL);
	int r;

	if (!targets)
		return -ENOMEM;
	if (mutex_lock_killable(&engine->create_mutex)) {
		kvfree(targets);
		return -EINTR;
	}
	r = create_locked(engine, members, targets, count);
	mutex_unlock(&engine->create_mutex);
	settle_all(targets, count);
	put_all(engine, targets, count);
	kvfree(targets);
	return r;
}

static int reverse_drained(struct cow_engine *engine, struct target *target)
{
	char why[COW_WHY_BYTES] = "";
	int r = stop_all(engine, target, 1);

	if (!r) {
		mutex_lock(&engine->control);
		r = cow_rollback_reverse(target->origin, why);
		mutex_unlock(&engine->control);
		if (r)
			DMERR("cancel: %s", why);
	}
	if (!r)
		invalidate_bdev(dm_disk(target->md)->part0);
	release_all(target, 1);
	return r;
}

/* A rollback that runs goes back to where it came from. May sleep. */
int cow_reverse(struct cow_engine *engine, u32 id)
{
	struct target target = { 0 };
	int r;

	if (mutex_lock_killable(&engine->create_mutex))
		return -EINTR;
	mutex_lock(&engine->control);
	r = cow_origin_find(&engine->store, id) ? find_target(engine, &target, id) : -ENOENT;
	mutex_unlock(&engine->control);
	/* its writes wait for room, and who would make it waits for this */
	if (!r && cow_engine_starving(engine)) {
		DMERR("cancel: writes to an origin wait for room in the store");
		r = -ENOSPC;
	}
	if (!r) {
		sync_blockdev(dm_disk(target.md)->part0);
		r = reverse_drained(engine, &target);
	}
	put_all(engine, &target, 1);
	mutex_unlock(&engine->create_mutex);
	return r;
}
