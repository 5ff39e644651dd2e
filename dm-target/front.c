// SPDX-License-Identifier: GPL-2.0-only
/*
 * Being in front of an origin's device: what the store is told of it, so that a later
 * activation finds out what was written while nobody was. What is compared, and why
 * that is enough, is at the top of core/front.c; here is how it is seen, and when
 * it is recorded. One guard for each attachment.
 *
 *
 * States of a guard
 * -----------------
 *
 *   AWAY      Nobody is in front: not yet, or no more. The store says so (LEFT), or what
 *             it said when the machine stopped (IN). Stacked: no write comes. Interposed:
 *             writes may be taken already; they are let go, and their sectors counted.
 *   ENTERING  cow_front_enter() is about to record that this is in front.
 *   READY     The store says IN. origin->front has two fingerprints; a write that leaves
 *             the origin with one of them goes, any other one makes it CHANGING.
 *   CHANGING  Writes to the sectors that count wait until a new pair is recorded.
 *   OFF       The store has failed: its snapshots are lost, nobody needs to know.
 *
 *   AWAY -> ENTERING -> READY <-> CHANGING; READY -> AWAY; any -> OFF, for good.
 *
 * In AWAY, READY and OFF a write to the first sectors of the origin or of a place that is
 * watched ("guarded") is let go and counted in under_way until it ends. In ENTERING and
 * CHANGING it is put on the list.
 *
 * 1. Entering, in preresume. The wide fingerprint is read before the first write can be
 *    taken. Then, interposed, the gate is closed and what was taken waited for: the
 *    device's count, less what was taken, is what was written before. That it did not
 *    grow says, too, that what was read first was there until the first write was
 *    taken. With the gate still closed the guard becomes ENTERING, so no guarded write is
 *    under way when the narrow fingerprint is read, from a device that was flushed.
 *    The verdict and the new state are one transaction.
 * 2. Changing. The work waits until no guarded write is under way, flushes the device and
 *    reads: what it finds is durable, and the only value that there can be until the
 *    first in the list is let go. That pair is recorded, then the list goes on, up to the
 *    next one that needs another pair. So all values that the device can come to have
 *    are recorded before it can have them. (A write that changes the places that are
 *    watched in more than one sector may be there in part: "any" is recorded for it, and
 *    when it has ended the state is CHANGING again, without anything in the list.)
 * 3. Leaving, in postsuspend, when the user suspends or the mapped device is removed. (A
 *    create's own suspending is none.) No write is under way: a stacked origin's
 *    have been waited for, an interposed one's gate is closed. When postsuspend returns,
 *    LEFT is durable; only then another table can come in its place. The target itself is
 *    destroyed after that other table has begun to work, which would be too late.
 * 4. Watching more places. The message only leaves them in guard->coming. The next create
 *    takes them while it has all writes stopped, so none to them is under way that was
 *    not guarded, and makes it CHANGING: what is recorded until that is done is the
 *    list from before, and right for that. They stay for good; at most
 *    COWSNAP_WATCH_MAX. In AWAY the list is that of the record.
 *
 * What may be in the middle when the machine stops: before the transaction of 1. there is
 * what was there before, and the next activation finds the same; between that of 3. and
 * the end of the suspension nothing is written. A snapshot made in the latter time is
 * covered by LEFT as the others are.
 *
 *
 * Who waits for whom
 * ------------------
 *
 * Locks, from the outermost: the mapped device's suspend_lock (1. and 3.), gate_mutex,
 * engine->control; guard->lock with interrupts off, innermost. map() takes only that.
 *
 * The work takes engine->control for the transaction alone. It reads and flushes the
 * origin's device, not the mapped device, without it: an origin's device that hangs
 * holds up nobody else. It does not wait for guarded writes: the last one to end queues
 * it. So a write that is being preserved may wait for room in the store, for which somebody
 * needs engine->control. Suspending waits for the list to go, which needs nothing of the
 * mapped device. Reads and flushes are not taken by an interposer.
 *
 * If the transaction fails, the list goes on nevertheless: after a crash the snapshots may
 * be taken for stale then, but no write fails or hangs for them.
 */
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/part_stat.h>

#include "cowsnap.h"
#include "interpose.h"

#define LOOK_BYTES (64u << 10)
#define NARROW_BYTES COWSNAP_BLOCK_BYTES

/* --------------------------------------------------------------- seeing --- */

/* What cannot be read is taken for zeros, which is no file system. */
static void read_or_zero(struct cow_guard *guard, sector_t sector, u32 bytes)
{
	u64 left = (guard->origin->size_sectors - sector) << SECTOR_SHIFT;

	bytes = min_t(u64, bytes, left);
	memset(guard->buffer, 0, LOOK_BYTES);
	if (cow_io_sync(guard->bdev, sector, guard->buffer, bytes, REQ_OP_READ | REQ_META)) {
		DMWARN_LIMIT("origin %u: its device cannot be read at sector %llu",
			     guard->origin->id, (u64)sector);
		guard->failed = true;
		memset(guard->buffer, 0, LOOK_BYTES);
	}
}

static const struct cow_place first_place;

static u64 see_place(struct cow_guard *guard, const struct cow_place *place)
{
	read_or_zero(guard, place->sector, NARROW_BYTES);
	return cow_front_print_place(guard->buffer + (COW_PRINT_XFS_SECTOR << SECTOR_SHIFT),
				     COW_PRINT_XFS_SECTOR, place->raw) |
	       cow_front_print_place(guard->buffer + (COW_PRINT_EXT_SECTOR << SECTOR_SHIFT),
				     COW_PRINT_EXT_SECTOR, place->raw);
}

static u64 see_narrow(struct cow_guard *guard)
{
	return see_place(guard, &first_place);
}

/* The first @count places; those that cannot have changed since they were seen are not read. */
static void see_watched(struct cow_guard *guard, u32 count)
{
	u32 i;

	for (i = 0; i < count; i++) {
		struct cow_watched *watched = &guard->watched[i];
		u64 print;

		if (watched->seen && watched->print[0] == watched->print[1])
			continue;
		print = see_place(guard, &watched->place);
		spin_lock_irq(&guard->lock);
		watched->print[0] = print;
		watched->print[1] = print;
		watched->seen = true;
		spin_unlock_irq(&guard->lock);
	}
}

/* Of what was seen, or with @which 1, of what may be. */
static u64 fold_watched(const struct cow_guard *guard, u32 count, u32 which)
{
	u64 fold = 0;
	u32 i;

	for (i = 0; i < count; i++)
		fold = cow_front_fold(fold, guard->watched[i].place.sector,
				      guard->watched[i].print[which]);
	return fold;
}

/* From now on nothing is known of what is there. */
static void forget_watched(struct cow_guard *guard)
{
	u32 i;

	spin_lock_irq(&guard->lock);
	for (i = 0; i < guard->nr_watched; i++)
		guard->watched[i].seen = false;
	spin_unlock_irq(&guard->lock);
}

static u32 crc_by_parts(struct cow_guard *guard, sector_t sector, sector_t end)
{
	u32 crc = 0, bytes;

	for (; sector < end; sector += bytes >> SECTOR_SHIFT) {
		bytes = min_t(u64, LOOK_BYTES, (end - sector) << SECTOR_SHIFT);
		read_or_zero(guard, sector, bytes);
		crc = cow_crc32c(crc, guard->buffer, bytes);
	}
	return crc;
}

/* In one read, if there is the memory: the origin may be stopped meanwhile. */
static u32 crc_of(struct cow_guard *guard, sector_t sector, sector_t end)
{
	u32 bytes = (end - sector) << SECTOR_SHIFT, crc;
	void *buffer = NULL;

	if (bytes > LOOK_BYTES)
		buffer = kmalloc(bytes, GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN);
	/* what cannot be read is to be as small as it is without the memory */
	if (buffer && !cow_io_sync(guard->bdev, sector, buffer, bytes, REQ_OP_READ | REQ_META))
		crc = cow_crc32c(0, buffer, bytes);
	else
		crc = crc_by_parts(guard, sector, end);
	kfree(buffer);
	return crc;
}

static u64 see_wide(struct cow_guard *guard)
{
	sector_t size = guard->origin->size_sectors;
	sector_t head = min_t(sector_t, size, COWSNAP_WIDE_HEAD_SECTORS);
	sector_t tail = min_t(sector_t, size, COWSNAP_WIDE_TAIL_SECTORS);

	return (u64)crc_of(guard, 0, head) << 32 | crc_of(guard, size - tail, size);
}

static u64 see_watched_wide(struct cow_guard *guard)
{
	u64 fold = 0;
	u32 i;

	for (i = 0; i < guard->nr_watched; i++) {
		sector_t sector = guard->watched[i].place.sector;
		sector_t end = min_t(sector_t, guard->origin->size_sectors,
				     sector + COWSNAP_WIDE_PLACE_SECTORS);
		u32 crc = crc_of(guard, sector, end);

		fold = cow_front_fold(fold, sector, (u64)crc << 32 | crc);
	}
	return fold;
}

/*
 * Sectors written to the device since it appeared; the guard has read it before. A
 * driver that has not counted that counts nothing, whatever its queue says: MD's linear
 * and NVMe with several paths on 6.1.
 */
static u64 see_written(struct block_device *bdev)
{
	if (!cow_counts_writes(bdev))
		return COWSNAP_NONE;
	bdev = cow_counting_device(bdev);
	if (!part_stat_read(bdev, ios[STAT_READ]))
		return COWSNAP_NONE;
	return part_stat_read(bdev, sectors[STAT_WRITE]) +
	       part_stat_read(bdev, sectors[STAT_DISCARD]);
}

/* Nothing that is taken is under way. */
static void see_count(struct cow_guard *guard)
{
	guard->sight.instance = guard->bdev->bd_disk->diskseq;
	guard->sight.written = see_written(guard->bdev);
	if (guard->sight.written != COWSNAP_NONE)
		guard->sight.written -= atomic64_read(&guard->taken);
}

static void flush(struct cow_guard *guard)
{
	int r = blkdev_issue_flush(guard->bdev);

	if (r && r != -EOPNOTSUPP) {
		DMWARN("origin %u: its device cannot be flushed (%d)", guard->origin->id, r);
		guard->failed = true;
	}
}

/* --------------------------------------------------------- guarded writes --- */

/* guard->lock held. What the write makes of @sector of the place; *@mask gets that half. */
static u64 print_of_sector(struct cow_guard *guard, const struct cow_bio *write,
			   const struct cow_place *place, u32 sector, u64 *mask)
{
	struct bio *bio = write->bio;
	struct bvec_iter iter = bio->bi_iter;
	s64 at = (s64)(place->sector + sector) - write->begin;
	struct bio_vec bvec;
	u8 *to = guard->sector;

	if (at < 0 || at >= bio_sectors(bio))
		return 0;
	*mask |= sector == COW_PRINT_XFS_SECTOR ? COW_PRINT_XFS : COW_PRINT_EXT;
	if (bio_op(bio) != REQ_OP_WRITE)
		return 0; /* there may be what was there, or nothing that is a file system */
	bio_advance_iter(bio, &iter, at << SECTOR_SHIFT);
	iter.bi_size = SECTOR_SIZE;
	__bio_for_each_segment(bvec, bio, iter, iter) {
		memcpy_from_bvec(to, &bvec);
		to += bvec.bv_len;
	}
	return cow_front_print_place(guard->sector, sector, place->raw);
}

/* guard->lock held. What the write makes of the place, in the halves in *@mask. */
static u64 print_of_write(struct cow_guard *guard, const struct cow_bio *write,
			  const struct cow_place *place, u64 *mask)
{
	*mask = 0;
	return print_of_sector(guard, write, place, COW_PRINT_XFS_SECTOR, mask) |
	       print_of_sector(guard, write, place, COW_PRINT_EXT_SECTOR, mask);
}

/* guard->lock held; it is neither ENTERING nor CHANGING. */
static bool may_go(struct cow_guard *guard, const struct cow_bio *write)
{
	u64 print, mask;
	u32 i;

	if (guard->state != COW_GUARD_READY)
		return true;
	print = print_of_write(guard, write, &first_place, &mask);
	if (!cow_front_allows(guard->front.print, print, mask))
		return false;
	for (i = 0; i < guard->nr_watched; i++) {
		const struct cow_watched *watched = &guard->watched[i];

		print = print_of_write(guard, write, &watched->place, &mask);
		if (!cow_front_allows(watched->print, print, mask))
			return false;
	}
	return true;
}

/* guard->lock held. Nothing goes until the work has recorded what is and may be. */
static void begin_to_change(struct cow_guard *guard)
{
	guard->state = COW_GUARD_CHANGING;
	if (!guard->under_way)
		queue_work(guard->engine->control_wq, &guard->work);
}

/* Interrupts. Once the write has ended there may be no guard. */
static void guarded_end(struct bio *bio)
{
	struct cow_bio *write = bio->bi_private;
	struct cow_guard *guard = write->guard;
	unsigned long flags;

	bio->bi_end_io = write->end_io;
	bio->bi_private = write->private;
	spin_lock_irqsave(&guard->lock, flags);
	if (!--guard->under_way &&
	    (guard->state == COW_GUARD_CHANGING ||
	     (guard->state == COW_GUARD_READY && guard->vague)))
		begin_to_change(guard);
	spin_unlock_irqrestore(&guard->lock, flags);
	bio->bi_end_io(bio); /* bio_endio() has done its part */
}

/*
 * It is counted. Preserved, and sent to the device, as any other. @by_worker: the device's
 * driver may wait, and the caller must not: others wait for his work.
 */
static void go(struct cow_bio *write, bool by_worker)
{
	struct bio *bio = write->bio;

	write->end_io = bio->bi_end_io;
	write->private = bio->bi_private;
	bio->bi_end_io = guarded_end;
	bio->bi_private = write;
	if (by_worker ||
	    !cow_origin_may_pass(write->origin, write->waiter.block, write->waiter.length)) {
		bio->bi_opf &= ~REQ_NOWAIT; /* the worker submits it */
		cow_engine_queue(write->guard->engine, write);
		return;
	}
	if (write->lower)
		bio_set_dev(bio, write->lower);
	submit_bio_noacct(bio);
}

/* Any context, no lock: is one of the places in these sectors? */
bool cow_guard_watches(const struct cow_guard *guard, s64 begin, s64 end)
{
	/* places up to the count that is seen are there: with cow_guard_still() */
	u32 i, count = smp_load_acquire(&guard->nr_watched);

	for (i = 0; i < count; i++) {
		s64 sector = guard->watched[i].place.sector;

		if (begin < sector + COW_PRINT_SECTORS && end > sector)
			return true;
	}
	return false;
}

/*
 * A write for which cow_guard_covers() is true; it begins at sector @begin of the
 * origin, or in front of it. *write is set as for cow_engine_queue(). From map() and the
 * like: does not sleep. It is sent on, now or later.
 */
void cow_guard_write(struct cow_guard *guard, struct cow_bio *write, s64 begin)
{
	unsigned long flags;
	bool goes = false;

	write->guard = guard;
	write->begin = begin;
	spin_lock_irqsave(&guard->lock, flags);
	switch (guard->state) {
	case COW_GUARD_ENTERING:
	case COW_GUARD_CHANGING:
		break;
	default:
		goes = may_go(guard, write);
	}
	if (goes) {
		guard->under_way++;
	} else {
		write->bio->bi_opf &= ~REQ_NOWAIT; /* the work submits it */
		list_add_tail(&write->list, &guard->waiting);
		if (guard->state == COW_GUARD_READY)
			begin_to_change(guard);
	}
	spin_unlock_irqrestore(&guard->lock, flags);
	if (goes)
		go(write, false);
}

/* To AWAY, READY or OFF; those that waited go, up to one that makes it CHANGING again. */
static void settle(struct cow_guard *guard, enum cow_guard_state state,
		   const struct cow_front *front)
{
	struct cow_bio *write, *following;
	LIST_HEAD(going);

	spin_lock_irq(&guard->lock);
	guard->state = state;
	guard->front = *front;
	guard->vague = front->watched[1] == COWSNAP_NONE;
	list_for_each_entry_safe(write, following, &guard->waiting, list) {
		if (!may_go(guard, write)) {
			begin_to_change(guard);
			break;
		}
		guard->under_way++;
		list_move_tail(&write->list, &going);
	}
	if (guard->state == COW_GUARD_READY && guard->again)
		begin_to_change(guard);
	spin_unlock_irq(&guard->lock);
	list_for_each_entry_safe(write, following, &going, list)
		go(write, true);
}

/* ------------------------------------------------------------- changing --- */

/*
 * The first in the list, if there is one, and how many places are watched, if it can be
 * their turn.
 */
static bool next_change(struct cow_guard *guard, struct cow_bio **write, u32 *count)
{
	bool changes;

	spin_lock_irq(&guard->lock);
	changes = guard->state == COW_GUARD_CHANGING && !guard->under_way;
	if (changes) {
		*write = list_first_entry_or_null(&guard->waiting, struct cow_bio, list);
		*count = guard->nr_watched;
		guard->again = false;
	}
	spin_unlock_irq(&guard->lock);
	return changes;
}

/* How many sectors that count differ. */
static u32 differences(const u64 *print)
{
	u64 difference = print[0] ^ print[1];

	return !!(difference & COW_PRINT_XFS) + !!(difference & COW_PRINT_EXT);
}

/* What all may become by the write, from what was seen; @write may be NULL. */
static void foresee(struct cow_guard *guard, const struct cow_bio *write, u32 count,
		    struct cow_front *front)
{
	u32 i, changes = 0;
	u64 print, mask;

	if (write) {
		spin_lock_irq(&guard->lock);
		print = print_of_write(guard, write, &first_place, &mask);
		front->print[1] = (front->print[0] & ~mask) | (print & mask);
		for (i = 0; i < count; i++) {
			struct cow_watched *watched = &guard->watched[i];

			print = print_of_write(guard, write, &watched->place, &mask);
			watched->print[1] = (watched->print[0] & ~mask) | (print & mask);
			changes += differences(watched->print);
		}
		spin_unlock_irq(&guard->lock);
	}
	front->watched[0] = fold_watched(guard, count, 0);
	front->watched[1] = changes > 1 ? COWSNAP_NONE : fold_watched(guard, count, 1);
}

/* control held. */
static int record_change(struct cow_guard *guard, const struct cow_front *front, u32 count)
{
	struct cow_place *places = (void *)guard->buffer;
	u32 i;

	BUILD_BUG_ON(COWSNAP_WATCH_MAX * sizeof(*places) > LOOK_BYTES);
	if (count == guard->origin->nr_places)
		return cow_front_change(guard->origin, front);
	for (i = 0; i < count; i++)
		places[i] = guard->watched[i].place;
	return cow_front_watch(guard->origin, front, places, count);
}

/* There is no room for the new places, or no memory: back to those that are recorded. */
static void give_up_watching(struct cow_guard *guard, int error)
{
	DMWARN("origin %u: %u places in it cannot be watched (%d)", guard->origin->id,
	       guard->nr_watched - guard->origin->nr_places, error);
	spin_lock_irq(&guard->lock);
	WRITE_ONCE(guard->nr_watched, guard->origin->nr_places);
	begin_to_change(guard);
	spin_unlock_irq(&guard->lock);
}

static void change_work(struct work_struct *work)
{
	struct cow_guard *guard = container_of(work, struct cow_guard, work);
	struct cow_engine *engine = guard->engine;
	struct cow_front front = { .state = COW_FRONT_IN };
	struct cow_bio *write;
	bool broken;
	u32 count;
	int r = 0;

	if (!next_change(guard, &write, &count))
		return;
	flush(guard);
	front.print[0] = see_narrow(guard);
	front.print[1] = front.print[0];
	see_watched(guard, count);
	foresee(guard, write, count, &front);
	mutex_lock(&engine->control);
	if (!engine->store.broken)
		r = record_change(guard, &front, count);
	broken = engine->store.broken;
	mutex_unlock(&engine->control);
	if (r && !broken && count > guard->origin->nr_places) {
		give_up_watching(guard, r);
		return;
	}
	if (r && !broken)
		DMWARN("origin %u: a change of its file system cannot be recorded (%d)",
		       guard->origin->id, r);
	settle(guard, broken ? COW_GUARD_OFF : COW_GUARD_READY, &front);
}

/* ------------------------------------------------------------- watching --- */

static bool has_place(const struct cow_guard *guard, u64 sector)
{
	u32 i;

	for (i = 0; i < guard->nr_watched; i++)
		if (guard->watched[i].place.sector == sector)
			return true;
	for (i = 0; i < guard->nr_coming; i++)
		if (guard->coming[i].sector == sector)
			return true;
	return !sector;
}

/*
 * These places, too, from the next create on. -EINVAL: one is not in the origin; -ENOSPC:
 * they would be too many. All or none. engine->control held.
 */
int cow_guard_watch(struct cow_guard *guard, const struct cow_place *places, u32 count)
{
	u32 before = guard->nr_coming, i;
	int r = 0;

	for (i = 0; i < count; i++)
		if (places[i].sector >= guard->origin->size_sectors)
			return -EINVAL;
	spin_lock_irq(&guard->lock);
	for (i = 0; i < count && !r; i++) {
		if (has_place(guard, places[i].sector))
			continue;
		if (guard->nr_watched + guard->nr_coming == COWSNAP_WATCH_MAX)
			r = -ENOSPC;
		else
			guard->coming[guard->nr_coming++] = places[i];
	}
	if (r)
		guard->nr_coming = before;
	spin_unlock_irq(&guard->lock);
	return r;
}

/* No write to the origin is under way or begins. True: there is more to be recorded. */
bool cow_guard_still(struct cow_guard *guard)
{
	u32 i, count;
	bool more;

	spin_lock_irq(&guard->lock);
	count = guard->nr_watched;
	more = guard->nr_coming &&
	       (guard->state == COW_GUARD_READY || guard->state == COW_GUARD_CHANGING);
	if (more) {
		for (i = 0; i < guard->nr_coming; i++)
			guard->watched[count++] = (struct cow_watched){ guard->coming[i] };
		guard->nr_coming = 0;
		/* behind the places: with cow_guard_watches() */
		smp_store_release(&guard->nr_watched, count);
		guard->again = true;
		if (guard->state == COW_GUARD_READY)
			begin_to_change(guard);
	}
	spin_unlock_irq(&guard->lock);
	return more;
}

/* Until what cow_guard_still() took is recorded, or a write to it waits. May sleep. */
void cow_guard_settle(struct cow_guard *guard)
{
	while (flush_work(&guard->work))
		;
}

/* ------------------------------------------------------------ shrinking --- */

/* When that snapshots are stale could not be recorded it is tried again. */
#define SPOIL_AGAIN_MS 1000

/* It is short. Any context where a bio is submitted, also inside tracing. */
notrace void cow_guard_shrunk(struct cow_guard *guard)
{
	WRITE_ONCE(guard->shrunk, true);
	mod_delayed_work(guard->engine->control_wq, &guard->spoil, 0);
}

static void spoil_work(struct work_struct *work)
{
	struct cow_guard *guard = container_of(to_delayed_work(work), struct cow_guard, spoil);
	struct cow_engine *engine = guard->engine;
	bool matters;
	int r = 0;

	mutex_lock(&engine->control);
	matters = !engine->store.broken && cow_front_matters(guard->origin);
	if (matters)
		r = cow_front_spoil(guard->origin);
	/* a store that fails has lost them */
	guard->owed = r && !engine->store.broken;
	mutex_unlock(&engine->control);
	if (matters)
		DMWARN_LIMIT("origin %u: its device has become smaller: its snapshots are stale%s",
			     guard->origin->id, r ? ", but that is not recorded yet" : "");
	if (guard->owed)
		queue_delayed_work(engine->control_wq, &guard->spoil,
				   msecs_to_jiffies(SPOIL_AGAIN_MS));
}

/* All that was seen is recorded, if it can be; false: it cannot. May sleep. */
static bool settle_spoil(struct cow_guard *guard)
{
	cow_guard_look(guard);
	flush_delayed_work(&guard->spoil);
	return !READ_ONCE(guard->owed);
}

/*
 * Before a snapshot is made, with nothing held: those that are stale by now are
 * recorded as that. False: that fails, or the device is short; there can be none. May sleep.
 */
bool cow_guard_renew(struct cow_guard *guard)
{
	/* what is seen from here on counts for the new one, too: cow_guard_spoil_again() */
	WRITE_ONCE(guard->shrunk, false);
	return settle_spoil(guard) && !cow_guard_is_short(guard);
}

/* A snapshot was made: what was seen since cow_guard_renew() may be no older than that. */
void cow_guard_spoil_again(struct cow_guard *guard)
{
	if (READ_ONCE(guard->shrunk) || cow_guard_is_short(guard))
		cow_guard_shrunk(guard);
}

/* --------------------------------------------------- entering and leaving --- */

void cow_guard_exit(struct cow_guard *guard)
{
	kfree(guard->watched);
	kfree(guard->coming);
	kvfree(guard->buffer);
}

/* Of no origin yet. -ENOMEM. Without engine->control; may sleep. */
int cow_guard_init(struct cow_guard *guard, struct cow_engine *engine, struct block_device *bdev)
{
	guard->engine = engine;
	guard->bdev = bdev;
	spin_lock_init(&guard->lock);
	INIT_LIST_HEAD(&guard->waiting);
	INIT_WORK(&guard->work, change_work);
	INIT_DELAYED_WORK(&guard->spoil, spoil_work);
	guard->buffer = kvmalloc(LOOK_BYTES, GFP_KERNEL);
	guard->coming = kcalloc(COWSNAP_WATCH_MAX, sizeof(*guard->coming), GFP_KERNEL);
	guard->watched = kcalloc(COWSNAP_WATCH_MAX, sizeof(*guard->watched), GFP_KERNEL);
	if (!guard->buffer || !guard->coming || !guard->watched) {
		cow_guard_exit(guard);
		return -ENOMEM;
	}
	return 0;
}

/* engine->control held. */
void cow_guard_adopt(struct cow_guard *guard, struct cow_origin *origin)
{
	u32 i;

	guard->origin = origin;
	for (i = 0; i < origin->nr_places; i++)
		guard->watched[i].place = origin->places[i];
	guard->nr_watched = origin->nr_places;
}

/* No write is left; without engine->control. */
void cow_guard_stop(struct cow_guard *guard)
{
	cancel_work_sync(&guard->work);
	flush_delayed_work(&guard->spoil);
	cancel_delayed_work_sync(&guard->spoil);
}

static bool is_away(struct cow_guard *guard)
{
	return READ_ONCE(guard->state) == COW_GUARD_AWAY;
}

/* Before the first write can be taken. May sleep. */
void cow_front_look(struct cow_attachment *attachment)
{
	struct cow_guard *guard = &attachment->guard;
	u8 state = COW_FRONT_UNKNOWN;

	if (!is_away(guard) || guard->looked)
		return;
	mutex_lock(&guard->engine->control);
	if (cow_front_matters(guard->origin))
		state = guard->origin->front.state;
	mutex_unlock(&guard->engine->control);
	if (state == COW_FRONT_LEFT) {
		guard->sight.wide = see_wide(guard);
		guard->sight.watched = see_watched_wide(guard);
	}
	if (state == COW_FRONT_IN) {
		guard->sight.print = see_narrow(guard);
		see_watched(guard, guard->nr_watched);
		guard->sight.watched = fold_watched(guard, guard->nr_watched, 0);
	}
	guard->looked = true;
}

/* Nothing that was taken is under way, and nothing is taken now. */
static void begin_to_enter(void *context)
{
	struct cow_guard *guard = context;

	see_count(guard);
	spin_lock_irq(&guard->lock);
	guard->state = COW_GUARD_ENTERING;
	spin_unlock_irq(&guard->lock);
}

/* The verdict, and that this is in front. */
static int record_entering(struct cow_guard *guard, const struct cow_front *front)
{
	struct cow_engine *engine = guard->engine;
	struct cow_origin *origin = guard->origin;
	const char *why = NULL;
	int r = 0;

	mutex_lock(&engine->control);
	if (cow_front_matters(origin))
		why = cow_front_verdict(&origin->front, &guard->sight);
	if (why)
		DMWARN("origin %u was changed while nothing was in front of it: %s", origin->id,
		       why);
	if (!engine->store.broken)
		r = cow_front_enter(origin, front->print[0], front->watched[0], why);
	if (engine->store.broken)
		r = 1;
	mutex_unlock(&engine->control);
	return r;
}

/*
 * Writes come here from now on. Of a target that is about to be resumed, whose interposer
 * takes writes already; -EBUSY when those do not end. Does nothing when it is in front.
 * May sleep.
 */
int cow_front_enter_device(struct cow_attachment *attachment)
{
	struct cow_guard *guard = &attachment->guard;
	struct cow_front front = { .state = COW_FRONT_IN };
	int r = 0;

	if (!is_away(guard))
		return 0;
	if (attachment->interposer)
		r = cow_interpose_fails(COW_STEP_STILL) ? -EBUSY :
		    cow_interposer_still(attachment->interposer, begin_to_enter, guard);
	else
		begin_to_enter(guard);
	if (r) {
		DMERR("origin %u: writes to its device do not end", guard->origin->id);
		return r;
	}
	flush(guard);
	front.print[0] = see_narrow(guard);
	front.print[1] = front.print[0];
	forget_watched(guard); /* it was seen before the writes that were let go */
	see_watched(guard, guard->nr_watched);
	front.watched[0] = fold_watched(guard, guard->nr_watched, 0);
	front.watched[1] = front.watched[0];
	r = attachment->interposer && cow_interpose_fails(COW_STEP_RECORDED) ? -EIO :
	    record_entering(guard, &front);
	if (r < 0) {
		DMERR("origin %u: that it is in front cannot be recorded (%d)",
		      guard->origin->id, r);
		settle(guard, COW_GUARD_AWAY, &front);
		return r;
	}
	settle(guard, r ? COW_GUARD_OFF : COW_GUARD_READY, &front);
	return 0;
}

static bool has_ended(struct cow_attachment *attachment)
{
	struct cow_guard *guard = &attachment->guard;
	bool ended;

	spin_lock_irq(&guard->lock);
	ended = !guard->under_way && guard->state == COW_GUARD_READY;
	spin_unlock_irq(&guard->lock);
	return ended &&
	       (!attachment->interposer || cow_interposer_is_still(attachment->interposer));
}

/* What it is left as, durably. False when that cannot be seen: it may be gone, or fail. */
static bool see_leaving(struct cow_guard *guard)
{
	guard->failed = false;
	flush(guard);
	atomic64_set(&guard->taken, 0);
	guard->sight.wide = see_wide(guard);
	guard->sight.watched = see_watched_wide(guard);
	see_count(guard);
	return !guard->failed;
}

/*
 * Writes do not come here any more, until it is entered again; of a target that is
 * suspended. May sleep.
 */
void cow_front_leave_device(struct cow_attachment *attachment)
{
	struct cow_guard *guard = &attachment->guard;
	struct cow_engine *engine = guard->engine;
	bool broken;
	int r = 0;

	/* no write is in the list: it may be that only more places are to be recorded */
	cow_guard_settle(guard);
	/* if this returns early, the store says that this stopped while it was in front */
	if (!settle_spoil(guard))
		return;
	if (!has_ended(attachment)) {
		if (READ_ONCE(guard->state) != COW_GUARD_AWAY &&
		    READ_ONCE(guard->state) != COW_GUARD_OFF)
			DMWARN("origin %u: writes to its device have not ended", guard->origin->id);
		return;
	}
	if (!see_leaving(guard))
		return;
	mutex_lock(&engine->control);
	if (!engine->store.broken)
		r = cow_front_leave(guard->origin, &guard->sight);
	broken = engine->store.broken;
	mutex_unlock(&engine->control);
	if (r && !broken)
		DMWARN("origin %u: that it was left cannot be recorded (%d)", guard->origin->id, r);
	if (r || broken)
		return;
	guard->looked = false;
	spin_lock_irq(&guard->lock);
	WRITE_ONCE(guard->nr_watched, guard->origin->nr_places);
	guard->left = true;
	guard->state = COW_GUARD_AWAY;
	spin_unlock_irq(&guard->lock);
}

/*
 * Is the verdict on the snapshots that there are known? One that is made before would
 * share it.
 */
bool cow_front_has_verdict(struct cow_guard *guard)
{
	bool has;

	spin_lock_irq(&guard->lock);
	has = guard->state == COW_GUARD_AWAY ? guard->left : guard->state != COW_GUARD_ENTERING;
	spin_unlock_irq(&guard->lock);
	return has;
}
