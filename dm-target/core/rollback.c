// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rolling an origin back to a snapshot of it.
 *
 * What is shown, and where it is
 *
 *   From the moment when a rollback begins the origin's device shows the target, as the
 *   target's own device does: with what was written to it. Blocks are copied back in
 *   ascending order. The mark says how far: a block below it is the origin's, to be
 *   read and written as ever. A block from the mark on is "shown": it is read as from a
 *   writable snapshot (rollback->shown) that has the target for its base and an overlay
 *   for what is written during the rollback. Nothing that is written there touches the
 *   origin, until copying has come by.
 *
 *   The first COWSNAP_MARKER_BLOCKS are shown to the end. In the origin there is a
 *   marker meanwhile, so that nobody takes the origin for what it is not.
 *
 * States
 *
 *   NONE -> SCHEDULED    cow_rollback_schedule(). Nothing else changes.
 *   SCHEDULED -> NONE    cow_rollback_unschedule(), or the target is dropped for room
 *   NONE, SCHEDULED -> RUNNING
 *                        cow_create_commit(). The origin is drained. One transaction has
 *                        the snapshot of the present (undo) and the rollback.
 *   RUNNING -> NONE      cow_rollback_finish()
 *   RUNNING -> RUNNING   cow_rollback_reverse(): cancelled. What is half done cannot be
 *                        left so; it becomes a rollback to the undo snapshot, which has
 *                        no undo of its own. What was written meanwhile is given up.
 *
 * What the shell does while it is RUNNING, at each activation from the beginning:
 *
 *   1. The marker is written to block 0, the origin flushed; then zeros to the others of
 *      the first blocks.
 *   2. cow_rollback_open(): the next window, from the mark on. Writes to it wait from now
 *      on; those that were under way are waited for (cow_rollback_settled()).
 *   3. What is not at the origin (cow_snapshot_lookup() of rollback->shown) is read and
 *      written to the origin, by preserved writes like any other. The origin is
 *      flushed. cow_rollback_pass() records the new mark, and lets the writes go on, to
 *      the origin now. Again from 2., up to the end.
 *   4. The same with the first blocks, block 0 last, between two flushes:
 *      cow_rollback_finish() instead of cow_rollback_pass().
 *
 * Why it is right after a crash at any instant
 *
 *   a. The target is exact at any time, as any snapshot is: all that changes the origin is
 *      preserved before, the marker and what is copied back, too. So copying the
 *      same blocks again gives the same, whatever a crash has left of the first time.
 *   b. What was written to a shown block is durable in the overlay before it is
 *      acknowledged, and is found again as any overlay is. Nothing is ever taken out of it
 *      while it is needed: it goes as a whole, with the record of the rollback, because its
 *      segments are owned by an epoch number that stands only there.
 *   c. The mark is recorded when the blocks below are durable in the origin, as they are
 *      shown: nobody could write to the window since before it was read. So whether
 *      the record of the mark survives a crash or not, the block is shown the same.
 *   d. Only when the mark is recorded a write goes to the origin. If that write is lost
 *      in the origin's cache, what was copied back is there: what a device without
 *      snapshots would have done. If it is not lost, the mark is there, and nobody
 *      copies over it.
 *   e. While the first blocks are not the marker's, either no other block was changed, or
 *      all are restored.
 *
 * A store that fails
 *
 *   Nothing is copied any more, and writes to shown blocks fail: there is no place for
 *   them. Reads go on as far as the store can be read. All snapshots are lost, but the
 *   rollback can go on if the store comes back: what snapshots miss then are writes to
 *   blocks below the mark, which are not read from the target any more. A rollback whose
 *   beginning is what could not be recorded has not begun (cow_store_lose()).
 *
 * A full store
 *
 *   Copying waits for room, as writes do. Snapshots that the rollback needs are not
 *   dropped: without others to drop it waits until the store is extended.
 */
#include "store.h"

/* Blocks looked at for one window: writes to all of them wait for it. */
#define MOST_LOOKED_AT (1u << 20)
#define LOOK_STEP (1u << 14)

void cow_rollback_init(struct cow_origin *origin)
{
	struct cow_rollback *rollback = &origin->rollback;

	INIT_LIST_HEAD(&rollback->waiting);
	INIT_LIST_HEAD(&rollback->shown.list);
	INIT_LIST_HEAD(&rollback->shown.all);
	rollback->shown.origin = origin;
}

/* Of what a rollback shows; NULL without one that runs. */
struct cow_overlay *cow_rollback_overlay(const struct cow_origin *origin)
{
	return origin->rollback.shown.overlay;
}

bool cow_rollback_needs(const struct cow_snapshot *snapshot)
{
	const struct cow_rollback *rollback = &snapshot->origin->rollback;

	if (rollback->target == snapshot && rollback->readers)
		return true;
	return rollback->state == COW_ROLLBACK_RUNNING &&
	       (rollback->target == snapshot || rollback->undo == snapshot->id);
}

/* The snapshot is going, and none that runs needs it. View lock held. */
void cow_rollback_forget_target(struct cow_snapshot *snapshot)
{
	struct cow_rollback *rollback = &snapshot->origin->rollback;

	if (rollback->target != snapshot)
		return;
	rollback->state = COW_ROLLBACK_NONE;
	rollback->target = NULL;
	rollback->shown.base = NULL;
}

/* --------------------------------------------------------------- record --- */

static void op_of(struct cow_op *op, const struct cow_origin *origin,
		  const struct cow_snapshot *target, u32 undo)
{
	op->op = COWSNAP_OP_ROLLBACK;
	op->origin = origin->id;
	op->snapshot = target->id;
	op->set = undo;
}

/* For a checkpoint; there is a rollback. */
void cow_rollback_op(struct cow_op *op, const struct cow_origin *origin)
{
	const struct cow_rollback *rollback = &origin->rollback;

	op_of(op, origin, rollback->target, rollback->undo);
	if (rollback->state == COW_ROLLBACK_SCHEDULED) {
		op->flags = COWSNAP_OP_FLAG_SCHEDULED |
			    (rollback->force ? COWSNAP_OP_FLAG_FORCE : 0);
		return;
	}
	op->epoch = rollback->shown.epoch;
	op->sequence = rollback->mark;
}

static void set_running(struct cow_rollback *rollback, struct cow_snapshot *target, u32 undo,
			u64 epoch, u64 mark)
{
	rollback->target = target;
	rollback->undo = undo;
	rollback->force = false;
	rollback->shown.base = target;
	rollback->shown.epoch = epoch;
	rollback->mark = mark;
	rollback->window = mark;
	rollback->first_held = false;
	rollback->state = COW_ROLLBACK_RUNNING;
}

/* At activation: nobody looks yet, and there are no overlays. */
int cow_rollback_replay(struct cow_origin *origin, const struct cow_op *op)
{
	struct cow_rollback *rollback = &origin->rollback;
	struct cow_store *store = origin->store;
	struct cow_snapshot *target;

	if (op->op == COWSNAP_OP_ROLLBACK_END) {
		rollback->state = COW_ROLLBACK_NONE;
		rollback->target = NULL;
		rollback->shown.base = NULL;
		return 0;
	}
	target = cow_snapshot_find(store, op->snapshot);
	if (!target || target->origin != origin)
		return -EUCLEAN;
	if (op->flags & COWSNAP_OP_FLAG_SCHEDULED) {
		rollback->target = target;
		rollback->undo = op->set;
		rollback->force = op->flags & COWSNAP_OP_FLAG_FORCE;
		rollback->state = COW_ROLLBACK_SCHEDULED;
		return 0;
	}
	if (op->sequence < COWSNAP_MARKER_BLOCKS || op->epoch <= cow_origin_newest_epoch(origin))
		return -EUCLEAN;
	set_running(rollback, target, op->set, op->epoch, op->sequence);
	store->next_epoch = max(store->next_epoch, op->epoch + 1);
	return 0;
}

/* ------------------------------------------------------------ beginning --- */

static int refuse(char *why, int error, const struct cow_snapshot *snapshot, const char *cause)
{
	snprintf(why, COW_WHY_BYTES, "snapshot %u %s", snapshot->id, cause);
	return error;
}

/* Can its origin be rolled back to it now? */
static int check_target(const struct cow_snapshot *target, bool force, char *why)
{
	const struct cow_origin *origin = target->origin;
	const struct cow_epoch *epoch;
	bool damaged = target->damaged || (target->overlay && target->overlay->incomplete);

	list_for_each_entry(epoch, &origin->epochs, list)
		damaged |= epoch->incomplete && epoch->number >= target->epoch;
	if (target->lost)
		return refuse(why, -EUCLEAN, target, "is lost");
	if (damaged)
		return refuse(why, -EUCLEAN, target, "is damaged");
	if (target->stale && !force)
		return refuse(why, -ESTALE, target, "is stale");
	if (target->users)
		return refuse(why, -EBUSY, target, "has a cow-snap: remove that first");
	return 0;
}

/* What member->target asks for; that member->origin is there is known. */
int cow_rollback_check(struct cow_store *store, const struct cow_member *member, char *why)
{
	struct cow_snapshot *target = cow_snapshot_find(store, member->target);
	const struct cow_origin *origin = cow_origin_find(store, member->origin);

	if (!target || target->origin != origin) {
		snprintf(why, COW_WHY_BYTES, "origin %u has no snapshot %u", member->origin,
			 member->target);
		return -ENOENT;
	}
	if (origin->rollback.readers || cow_rollback_overlay(origin)) {
		snprintf(why, COW_WHY_BYTES, "the last rollback of origin %u is ending",
			 origin->id);
		return -EBUSY;
	}
	return check_target(target, member->force, why);
}

int cow_rollback_schedule(struct cow_store *store, const struct cow_member *member, char *why)
{
	struct cow_origin *origin = cow_origin_find(store, member->origin);
	struct cow_op op = { 0 };
	int r;

	if (!origin) {
		snprintf(why, COW_WHY_BYTES, "there is no origin %u", member->origin);
		return -ENOENT;
	}
	if (origin->rollback.state != COW_ROLLBACK_NONE) {
		snprintf(why, COW_WHY_BYTES, "origin %u has a rollback already", origin->id);
		return -EBUSY;
	}
	if (cow_snapshot_find(store, member->snapshot)) {
		snprintf(why, COW_WHY_BYTES, "there is a snapshot %u already", member->snapshot);
		return -EEXIST;
	}
	r = cow_rollback_check(store, member, why);
	/* it need not be unused before the rollback begins */
	if (r && (r != -EBUSY || !cow_snapshot_find(store, member->target)->users))
		return r;
	op_of(&op, origin, cow_snapshot_find(store, member->target), member->snapshot);
	op.flags = COWSNAP_OP_FLAG_SCHEDULED | (member->force ? COWSNAP_OP_FLAG_FORCE : 0);
	r = cow_control_commit(store, &op, 1);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "the store's control record cannot be written (%d)",
			 r);
		return r;
	}
	store->ops->engine_enter(store);
	store->ops->view_lock(store);
	why[0] = 0;
	cow_rollback_replay(origin, &op);
	store->ops->view_unlock(store);
	store->ops->engine_leave(store);
	return 0;
}

/* The record is durable; the origin is drained. Engine context, view lock held. */
void cow_rollback_begin(struct cow_origin *origin, struct cow_member *member, u64 epoch)
{
	struct cow_snapshot *target = cow_snapshot_find(origin->store, member->target);

	origin->rollback.shown.overlay = member->overlay;
	member->overlay = NULL;
	set_running(&origin->rollback, target, member->snapshot, epoch, COWSNAP_MARKER_BLOCKS);
}

/* --------------------------------------------------------------- ending --- */

static void release_waiting(struct cow_origin *origin)
{
	struct cow_waiter *waiter, *next;

	list_for_each_entry_safe(waiter, next, &origin->rollback.waiting, list) {
		list_del_init(&waiter->list);
		origin->store->ops->waiter_ready(origin->store, waiter);
	}
}

/* Nothing is shown from anywhere else any more. Engine context. */
void cow_rollback_end(struct cow_origin *origin)
{
	struct cow_rollback *rollback = &origin->rollback;
	struct cow_store *store = origin->store;
	struct cow_overlay *overlay = rollback->shown.overlay;

	store->ops->view_lock(store);
	rollback->state = COW_ROLLBACK_NONE;
	rollback->shown.overlay = NULL;
	rollback->first_held = false;
	store->ops->view_unlock(store);
	if (overlay)
		cow_overlay_drop(overlay);
	release_waiting(origin);
}

static int commit_end(struct cow_origin *origin, const char *event)
{
	struct cow_op op = { .op = COWSNAP_OP_ROLLBACK_END, .origin = origin->id };
	struct cow_store *store = origin->store;
	int r = cow_control_commit(store, &op, 1);

	if (r)
		return r;
	store->ops->engine_enter(store);
	cow_rollback_end(origin);
	if (event)
		store->ops->event(store, event, origin->id);
	store->ops->engine_leave(store);
	return 0;
}

int cow_rollback_unschedule(struct cow_origin *origin, char *why)
{
	int r;

	if (origin->rollback.state != COW_ROLLBACK_SCHEDULED) {
		snprintf(why, COW_WHY_BYTES, "no rollback of origin %u is scheduled", origin->id);
		return -ENOENT;
	}
	r = commit_end(origin, NULL);
	if (r)
		snprintf(why, COW_WHY_BYTES, "the store's control record cannot be written (%d)",
			 r);
	return r;
}

int cow_rollback_finish(struct cow_origin *origin)
{
	return commit_end(origin, COWSNAP_EVENT_ROLLED_BACK);
}

int cow_rollback_reverse(struct cow_origin *origin, char *why)
{
	struct cow_rollback *rollback = &origin->rollback;
	struct cow_store *store = origin->store;
	struct cow_snapshot *undo = cow_snapshot_find(store, rollback->undo);
	struct cow_overlay *overlay;
	struct cow_op op = { 0 };
	int r;

	if (rollback->state != COW_ROLLBACK_RUNNING) {
		snprintf(why, COW_WHY_BYTES, "no rollback of origin %u runs", origin->id);
		return -ENOENT;
	}
	if (!rollback->undo || !undo) {
		snprintf(why, COW_WHY_BYTES,
			 "the rollback of origin %u is being cancelled: that cannot be",
			 origin->id);
		return -EBUSY;
	}
	r = check_target(undo, true, why);
	if (r)
		return r;
	if (store->next_epoch > COW_INDEX_MAX_EPOCH) {
		snprintf(why, COW_WHY_BYTES, "the store has had its highest number of snapshots");
		return -ENOSPC;
	}
	overlay = cow_overlay_new(&rollback->shown);
	if (!overlay) {
		snprintf(why, COW_WHY_BYTES, "no memory");
		return -ENOMEM;
	}
	op_of(&op, origin, undo, 0);
	op.epoch = store->next_epoch;
	op.sequence = COWSNAP_MARKER_BLOCKS;
	r = cow_control_commit(store, &op, 1);
	if (r)
		snprintf(why, COW_WHY_BYTES, "the store's control record cannot be written (%d)",
			 r);
	if (r && !store->broken) {
		cow_overlay_free(overlay);
		return r;
	}
	/* If it is not known which of the two is recorded, no write may pass: all are shown. */
	store->ops->engine_enter(store);
	store->next_epoch++;
	store->ops->view_lock(store);
	swap(rollback->shown.overlay, overlay);
	set_running(rollback, undo, 0, op.epoch, COWSNAP_MARKER_BLOCKS);
	store->ops->view_unlock(store);
	cow_overlay_drop(overlay);
	release_waiting(origin);
	store->ops->engine_leave(store);
	return r;
}

/* -------------------------------------------------------------- copying --- */

/* Blocks that are not at the origin among [block, block + length); view lock held. */
static u32 count_elsewhere(struct cow_origin *origin, u64 block, u32 length)
{
	struct cow_store *store = origin->store;
	u32 elsewhere = 0;

	while (length) {
		enum cow_where where;
		u64 location;
		u32 n = cow_snapshot_lookup(&origin->rollback.shown, block, length, &where,
					    &location);

		if (where == COW_AT_STORE)
			cow_store_unpin(store, location);
		if (where != COW_AT_ORIGIN)
			elsewhere += n;
		block += n;
		length -= n;
	}
	return elsewhere;
}

/* So many that about @most are to be copied; windows of blocks stay whole. */
static u64 window_end(struct cow_origin *origin, u32 most)
{
	struct cow_store *store = origin->store;
	u64 end = origin->rollback.mark, last;
	u32 step = max_t(u32, COW_WINDOW_BLOCKS, most - most % COW_WINDOW_BLOCKS);
	u32 found = 0;

	step = min_t(u32, step, LOOK_STEP);
	last = min_t(u64, origin->blocks, end + MOST_LOOKED_AT);
	while (end < last && found < most) {
		u32 n = min_t(u64, step, last - end);

		store->ops->view_lock(store);
		found += count_elsewhere(origin, end, n);
		store->ops->view_unlock(store);
		end += n;
	}
	return end;
}

bool cow_rollback_open(struct cow_origin *origin, u32 most)
{
	struct cow_rollback *rollback = &origin->rollback;

	if (rollback->mark >= origin->blocks) {
		rollback->first_held = true;
		return false;
	}
	rollback->window = window_end(origin, most);
	return true;
}

/* Is the block held, waiting for copying to come by? */
static bool held(const struct cow_rollback *rollback, u64 block)
{
	return block < COWSNAP_MARKER_BLOCKS ? rollback->first_held : block < rollback->window;
}

bool cow_rollback_settled(const struct cow_origin *origin)
{
	const struct cow_rollback *rollback = &origin->rollback;
	const struct cow_log *log = &rollback->shown.overlay->log;
	const struct cow_extent *extent;
	u32 i;

	/* an extent is inside one window, held as a whole or not */
	for (i = 0; log->extents && i < ARRAY_SIZE(log->hash); i++)
		list_for_each_entry(extent, &log->hash[i], hash)
			if (held(rollback, extent->block))
				return false;
	return true;
}

void cow_rollback_give_back(struct cow_origin *origin)
{
	origin->rollback.window = origin->rollback.mark;
	origin->rollback.first_held = false;
	release_waiting(origin);
}

int cow_rollback_pass(struct cow_origin *origin)
{
	struct cow_rollback *rollback = &origin->rollback;
	struct cow_store *store = origin->store;
	struct cow_op op = { 0 };
	int r;

	cow_rollback_op(&op, origin);
	op.sequence = rollback->window;
	r = cow_control_commit(store, &op, 1);
	if (r)
		return r;
	store->ops->engine_enter(store);
	store->ops->view_lock(store);
	rollback->mark = rollback->window;
	store->ops->view_unlock(store);
	release_waiting(origin);
	store->ops->engine_leave(store);
	return 0;
}

enum cow_route cow_rollback_write(struct cow_origin *origin, struct cow_waiter *waiter,
				  struct cow_extent **extent)
{
	struct cow_rollback *rollback = &origin->rollback;
	struct cow_store *store = origin->store;

	*extent = NULL;
	if (!cow_rollback_shows(rollback, waiter->block))
		return COW_ROUTE_ORIGIN;
	if (store->failed || rollback->shown.overlay->incomplete)
		return COW_ROUTE_ERROR;
	if (store->broken)
		list_add_tail(&waiter->list, &store->starved);
	else if (held(rollback, waiter->block))
		list_add_tail(&waiter->list, &rollback->waiting);
	else
		*extent = cow_overlay_write(rollback->shown.overlay, waiter);
	return COW_ROUTE_SHOWN;
}
