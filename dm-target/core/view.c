// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a read of a snapshot looks at: overlay, then the epochs from the
 * snapshot's own on, then the origin. View context: the caller holds the view
 * lock.
 */
#include "store.h"

/* The first incomplete epoch from @from on, or COW_NOT_FOUND. */
static u64 first_incomplete(const struct cow_origin *origin, u64 from)
{
	const struct cow_epoch *epoch;

	if (!origin->nr_incomplete)
		return COW_NOT_FOUND;
	list_for_each_entry(epoch, &origin->epochs, list)
		if (epoch->number >= from && epoch->incomplete)
			return epoch->number;
	return COW_NOT_FOUND;
}

static bool unreadable(const struct cow_store *store, u64 location)
{
	u64 number = cow_super_block_segment(&store->super, location);
	u64 position = location - cow_super_segment_block(&store->super, number);

	return store->segments[number].sums->unreadable[position / 64] >> (position % 64) & 1;
}

static void pin(struct cow_store *store, u64 location)
{
	store->segments[cow_super_block_segment(&store->super, location)].pins++;
}

/* Blocks from @location on that are in its segment and all (un)readable as it is. */
static u32 same_readable(const struct cow_store *store, u64 location, u32 length)
{
	u64 number = cow_super_block_segment(&store->super, location);
	u64 end = cow_super_segment_block(&store->super, number) + store->super.segment_blocks;
	bool bad = unreadable(store, location);
	u32 n;

	length = min_t(u64, length, end - location);
	for (n = 1; n < length && unreadable(store, location + n) == bad; n++)
		;
	return n;
}

static u32 found(struct cow_store *store, u32 length, enum cow_where *where, u64 location)
{
	length = same_readable(store, location, length);
	if (unreadable(store, location)) {
		*where = COW_AT_ERROR;
	} else {
		*where = COW_AT_STORE;
		pin(store, location);
	}
	return length;
}

/* The same, whether it is lost or not. */
static u32 lookup(const struct cow_snapshot *snapshot, u64 block, u32 length,
		  enum cow_where *where, u64 *location)
{
	struct cow_origin *origin = snapshot->origin;
	struct cow_store *store = origin->store;
	u64 incomplete, epoch;

	*where = COW_AT_ERROR;
	if (snapshot->overlay) {
		if (snapshot->overlay->incomplete)
			return length;
		length = cow_index_lookup_run(&snapshot->overlay->index, block, length, 1,
					      location, &epoch);
		if (*location != COW_NOT_FOUND)
			return found(store, length, where, *location);
	}
	if (snapshot->base)
		return lookup(snapshot->base, block, length, where, location);
	length = cow_index_lookup_run(&origin->index, block, length, snapshot->epoch, location,
				      &epoch);
	incomplete = first_incomplete(origin, snapshot->epoch);
	if (incomplete != COW_NOT_FOUND &&
	    (*location == COW_NOT_FOUND || incomplete < epoch))
		return length;
	if (*location != COW_NOT_FOUND)
		return found(store, length, where, *location);
	*where = COW_AT_ORIGIN;
	return length;
}

/* A rollback's base may be lost: what it missed cannot matter (see rollback.c). */
u32 cow_snapshot_lookup(struct cow_snapshot *snapshot, u64 block, u32 length,
			enum cow_where *where, u64 *location)
{
	if (!snapshot->lost)
		return lookup(snapshot, block, length, where, location);
	*where = COW_AT_ERROR;
	return length;
}

bool cow_rollback_shows(const struct cow_rollback *rollback, u64 block)
{
	return rollback->state == COW_ROLLBACK_RUNNING &&
	       (block < COWSNAP_MARKER_BLOCKS || block >= rollback->mark);
}

const u32 *cow_store_crcs(const struct cow_store *store, u64 location)
{
	u64 number = cow_super_block_segment(&store->super, location);
	u64 position = location - cow_super_segment_block(&store->super, number);

	return &store->segments[number].sums->crc[position];
}

bool cow_store_unpin(struct cow_store *store, u64 location)
{
	struct cow_segment *segment =
		&store->segments[cow_super_block_segment(&store->super, location)];

	segment->pins--;
	return !segment->pins && (segment->orphan || !segment->live);
}
