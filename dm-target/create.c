// SPDX-License-Identifier: GPL-2.0-only
/*
 * Creating snapshots of one or many origins at one instant.
 *
 * In this order, undone in the opposite one whatever happens:
 *
 *   1. freeze the file systems, those stacked on others first; without one, the
 *      page cache of the device is written
 *   2. drain the origins' mapped devices (bios that come are deferred by
 *      device-mapper), those stacked on others first: their bios need the
 *      lower ones to go on
 *   3. flush the origins' own caches: what was acknowledged before must survive
 *      a power cut that follows
 *   4. wait until their logs have published all
 *   5. commit: one write of the control record; new epochs
 *
 * All inside one message: who sent it can die at any time, and nothing stays
 * frozen.
 */
#include <linux/delay.h>
#include <linux/lockdep.h>
#include <linux/sched/signal.h>
#include <linux/sort.h>

#include "cowsnap.h"

#define WAIT_FOR_ROOM_MS 30000

struct target {
	struct mapped_device *md;
	struct cow_origin *origin;
	struct cow_attachment *attachment;
	u64 order;
	bool frozen;
	bool drained;
};

/* Attached later first: it may be stacked on those before. */
static int compare_targets(const void *left, const void *right)
{
	const struct target *a = left, *b = right;

	return a->order < b->order ? 1 : a->order > b->order ? -1 : 0;
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
	target->attachment->creates++;
	target->md = target->attachment->md;
	target->order = target->attachment->order;
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

static int freeze_all(struct target *targets, u32 count)
{
	u32 i;
	int r;

	for (i = 0; i < count; i++) {
		r = cow_bdev_freeze(dm_disk(targets[i].md)->part0);
		if (r == -EBUSY)
			continue; /* frozen by someone else: that is frozen, too */
		if (r) {
			DMERR("create: the file system on origin %u cannot be frozen (%d)",
			      targets[i].origin->id, r);
			return r;
		}
		targets[i].frozen = true;
	}
	return 0;
}

static int flush_all(struct target *targets, u32 count)
{
	u32 i;
	int r;

	for (i = 0; i < count; i++) {
		r = blkdev_issue_flush(targets[i].attachment->lower.bdev);
		if (r && r != -EOPNOTSUPP) {
			DMERR("create: the cache of origin %u cannot be flushed (%d)",
			      targets[i].origin->id, r);
			return r;
		}
	}
	return 0;
}

static bool all_quiet(struct cow_engine *engine, struct target *targets, u32 count)
{
	bool quiet = true;
	u32 i;

	mutex_lock(&engine->mutex);
	for (i = 0; i < count; i++)
		quiet &= cow_origin_quiet(targets[i].origin);
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

static void drain_all(struct cow_engine *engine, struct target *targets, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++)
		drain(&targets[i]);
	while (!all_quiet(engine, targets, count)) {
		cow_engine_kick(engine);
		usleep_range(100, 200);
	}
}

static void release_all(struct cow_engine *engine, struct target *targets, u32 count)
{
	u32 i;

	for (i = count; i-- > 0;)
		if (targets[i].drained)
			undrain(&targets[i]);
	for (i = count; i-- > 0;)
		if (targets[i].frozen)
			cow_bdev_thaw(dm_disk(targets[i].md)->part0);
	mutex_lock(&engine->control);
	for (i = 0; i < count; i++)
		if (targets[i].md)
			targets[i].attachment->creates--;
	mutex_unlock(&engine->control);
	for (i = 0; i < count; i++)
		if (targets[i].md)
			dm_put(targets[i].md);
}

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
	if (r)
		cow_create_abort(&engine->store, members, count);
out:
	mutex_unlock(&engine->control);
	return r;
}

static int create_locked(struct cow_engine *engine, struct cow_member *members,
			 struct target *targets, u32 count)
{
	int r = prepare(engine, members, targets, count);

	if (r)
		return r;
	sort(targets, count, sizeof(*targets), compare_targets, NULL);
	r = wait_for_room(engine);
	if (!r)
		r = freeze_all(targets, count);
	if (!r) {
		drain_all(engine, targets, count);
		r = flush_all(targets, count);
	}
	if (r)
		cow_create_abort(&engine->store, members, count);
	else
		r = commit(engine, members, count);
	return r;
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
	release_all(engine, targets, count);
	mutex_unlock(&engine->create_mutex);
	kvfree(targets);
	return r;
}
