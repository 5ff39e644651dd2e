// SPDX-License-Identifier: GPL-2.0-only
/*
 * The segments of a store: who owns them, how many of their blocks are live,
 * when they are free, and the writing of the segment table. Knows nothing of
 * batches or snapshots. Engine context unless said otherwise.
 */
#include "store.h"

u64 cow_segment_number(const struct cow_store *store, const struct cow_segment *segment)
{
	return segment - store->segments;
}

static struct cow_table_block *table_of(struct cow_store *store, u64 segment)
{
	u64 low = 0, high = store->nr_tables;

	while (high - low > 1) {
		u64 middle = low + (high - low) / 2;

		if (store->tables[middle].first_segment <= segment)
			low = middle;
		else
			high = middle;
	}
	return &store->tables[low];
}

/* Number of table blocks that describe all of @super's segments. */
static u64 count_tables(const struct cow_super *super)
{
	u64 tables = 0;
	u32 i;

	for (i = 0; i < super->regions; i++)
		tables += DIV_ROUND_UP(super->region[i].segments,
				       COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
	return tables;
}

static void segment_init(struct cow_store *store, struct cow_segment *segment)
{
	memset(segment, 0, sizeof(*segment));
	list_add_tail(&segment->list, &store->free_segments);
	store->nr_free++;
}

static void table_init(struct cow_store *store, u64 number, u64 first_segment, u32 count)
{
	struct cow_table_block *table = &store->tables[number];

	memset(table, 0, sizeof(*table));
	INIT_LIST_HEAD(&table->list);
	table->number = number;
	table->first_segment = first_segment;
	table->count = count;
}

static void tables_init(struct cow_store *store, u64 from)
{
	u64 segment = 0, number = 0, i;
	u32 region;

	for (region = 0; region < store->super.regions; region++) {
		u64 left = store->super.region[region].segments;

		for (i = 0; left; i++) {
			u32 count = min_t(u64, left, COWSNAP_SEGMENTS_PER_TABLE_BLOCK);

			if (number >= from)
				table_init(store, number, segment, count);
			segment += count;
			left -= count;
			number++;
		}
	}
}

/* Make the segments that store->super describes, all free. Control context. */
int cow_segments_make(struct cow_store *store)
{
	u64 i;

	store->nr_segments = cow_super_segments(&store->super);
	store->nr_tables = count_tables(&store->super);
	store->segments = cow_alloc(store->nr_segments * sizeof(*store->segments));
	store->tables = cow_alloc(store->nr_tables * sizeof(*store->tables));
	if (!store->segments || !store->tables)
		return -ENOMEM;
	for (i = 0; i < store->nr_segments; i++)
		segment_init(store, &store->segments[i]);
	tables_init(store, 0);
	return 0;
}

/* A list head that moved in memory: its neighbours must point to it again. */
static void list_moved(struct list_head *entry, const struct list_head *old)
{
	if (entry->next == old) {
		INIT_LIST_HEAD(entry);
		return;
	}
	entry->next->prev = entry;
	entry->prev->next = entry;
}

/*
 * After store->super got a region: room for its segments. Control context; takes
 * the engine and, as readers look at the segments, the view.
 */
int cow_segments_grow(struct cow_store *store)
{
	u64 segments = cow_super_segments(&store->super);
	u64 tables = count_tables(&store->super);
	struct cow_segment *new_segments = cow_alloc(segments * sizeof(*new_segments));
	struct cow_table_block *new_tables = cow_alloc(tables * sizeof(*new_tables));
	struct cow_segment *old_segments = store->segments;
	struct cow_table_block *old_tables = store->tables;
	u64 i;

	if (!new_segments || !new_tables) {
		cow_free(new_segments);
		cow_free(new_tables);
		return -ENOMEM;
	}
	store->ops->engine_enter(store);
	for (i = 0; i < store->nr_tables; i++) {
		if (old_tables[i].writing) {
			store->ops->engine_leave(store);
			cow_free(new_segments);
			cow_free(new_tables);
			return -EAGAIN;
		}
	}
	store->ops->view_lock(store);
	/*
	 * One at a time, mending the neighbours before the next one is copied,
	 * so that a pointer to an old neighbour is never copied stale.
	 */
	for (i = 0; i < store->nr_segments; i++) {
		new_segments[i] = old_segments[i];
		list_moved(&new_segments[i].list, &old_segments[i].list);
	}
	for (i = 0; i < store->nr_tables; i++) {
		new_tables[i] = old_tables[i];
		list_moved(&new_tables[i].list, &old_tables[i].list);
	}
	store->segments = new_segments;
	store->tables = new_tables;
	for (i = store->nr_segments; i < segments; i++)
		segment_init(store, &store->segments[i]);
	i = store->nr_tables;
	store->nr_segments = segments;
	store->nr_tables = tables;
	tables_init(store, i);
	if (store->nr_free >= store->low_water)
		store->low_water_told = false;
	store->ops->view_unlock(store);
	store->ops->engine_leave(store);
	cow_free(old_segments);
	cow_free(old_tables);
	return 0;
}

/* Control context, nothing in flight. */
void cow_segments_free_all(struct cow_store *store)
{
	u64 i;

	for (i = 0; store->segments && i < store->nr_segments; i++)
		cow_free(store->segments[i].sums);
	for (i = 0; store->tables && i < store->nr_tables; i++)
		cow_free(store->tables[i].image);
	cow_free(store->segments);
	cow_free(store->tables);
	store->segments = NULL;
	store->tables = NULL;
	store->nr_segments = 0;
	store->nr_tables = 0;
}

/* --------------------------------------------------------------- table --- */

void cow_table_change(struct cow_store *store, u64 segment)
{
	struct cow_table_block *table = table_of(store, segment);

	table->dirty = true;
	if (list_empty(&table->list))
		list_add_tail(&table->list, &store->tables_dirty);
}

static bool table_image(struct cow_store *store, struct cow_table_block *table)
{
	struct cow_owner *owners;
	u32 i;

	if (!table->image)
		table->image = cow_alloc(COWSNAP_DISK_BLOCK_SIZE);
	owners = cow_alloc(table->count * sizeof(*owners));
	if (!table->image || !owners) {
		cow_free(owners);
		return false;
	}
	for (i = 0; i < table->count; i++)
		owners[i] = store->segments[table->first_segment + i].owner;
	table->generation++;
	table->image_limit = store->next_generation;
	table->dirty = false;
	table->copy = 0;
	cow_table_encode(table->image, store->super.uuid, table->generation, table->first_segment,
			 owners, table->count);
	cow_free(owners);
	return true;
}

static u64 table_block(struct cow_store *store, const struct cow_table_block *table)
{
	return cow_super_table_block(&store->super, table->first_segment);
}

/* Start writing what changed. */
static void tables_run(struct cow_store *store)
{
	struct cow_table_block *table, *next;

	list_for_each_entry_safe(table, next, &store->tables_dirty, list) {
		if (table->writing || !table_image(store, table))
			continue;
		table->writing = true;
		store->ops->table_write(store, table, table_block(store, table));
	}
}

/* Both copies are durable: the segments claimed by then may be used. */
static void table_done(struct cow_store *store, struct cow_table_block *table)
{
	u32 i;

	for (i = 0; i < table->count; i++) {
		struct cow_segment *segment = &store->segments[table->first_segment + i];

		if (segment->state == COW_SEGMENT_CLAIMED &&
		    segment->owner.generation < table->image_limit)
			segment->state = COW_SEGMENT_SPARE;
	}
	table->writing = false;
	if (!table->dirty)
		list_del_init(&table->list);
}

void cow_table_written(struct cow_table_block *table, int error, struct cow_store *store)
{
	if (error) {
		table->writing = false;
		list_del_init(&table->list);
		cow_store_fail(store);
		return;
	}
	if (table->copy == 0) {
		table->copy = 1;
		store->ops->table_write(store, table, table_block(store, table) + 1);
		return;
	}
	table_done(store, table);
}

/*
 * Write all dirty table blocks, both copies, table->copy first. Control context,
 * before going live.
 */
int cow_tables_write_all(struct cow_store *store)
{
	struct cow_table_block *table, *next;
	int r;

	list_for_each_entry_safe(table, next, &store->tables_dirty, list) {
		u64 block = table_block(store, table);
		u32 first = table->copy;

		if (!table_image(store, table))
			return -ENOMEM;
		r = store->ops->write(store, block + first, 1, table->image);
		if (!r)
			r = store->ops->write(store, block + !first, 1, table->image);
		if (r)
			return r;
		table_done(store, table);
	}
	return 0;
}

/* ------------------------------------------------------ owning, freeing --- */

/*
 * Take a free segment for an owner: CLAIMED until its table block is written.
 * COW_NONE_SEGMENT when none is free (or no memory).
 */
u64 cow_segment_claim(struct cow_store *store, u32 kind, u32 origin, u64 epoch,
		      struct list_head *owner)
{
	struct cow_segment *segment;
	struct cow_sums *sums;

	if (list_empty(&store->free_segments))
		return COW_NONE_SEGMENT;
	sums = cow_alloc(sizeof(*sums));
	if (!sums)
		return COW_NONE_SEGMENT;
	segment = list_first_entry(&store->free_segments, struct cow_segment, list);
	store->ops->view_lock(store);
	list_move_tail(&segment->list, owner);
	segment->sums = sums;
	segment->live = 0;
	segment->writing = 0;
	segment->state = COW_SEGMENT_CLAIMED;
	segment->summarized = false;
	segment->orphan = false;
	segment->owner.kind = kind;
	segment->owner.origin = origin;
	segment->owner.epoch = epoch;
	segment->owner.generation = store->next_generation++;
	store->nr_free--;
	store->ops->view_unlock(store);
	cow_table_change(store, cow_segment_number(store, segment));
	if (store->nr_free < store->low_water && !store->low_water_told) {
		store->low_water_told = true;
		store->ops->event(store, COWSNAP_EVENT_LOW_WATER, store->nr_free);
	}
	return cow_segment_number(store, segment);
}

/*
 * Claim a segment that is CLAIMED or SPARE, and unused, for another epoch of the
 * same log.
 */
void cow_segment_reclaim(struct cow_store *store, u64 number, u64 epoch, struct list_head *owner)
{
	struct cow_segment *segment = &store->segments[number];

	store->ops->view_lock(store);
	list_move_tail(&segment->list, owner);
	segment->state = COW_SEGMENT_CLAIMED;
	segment->owner.epoch = epoch;
	segment->owner.generation = store->next_generation++;
	store->ops->view_unlock(store);
	cow_table_change(store, number);
}

static bool can_be_free(const struct cow_segment *segment)
{
	if (segment->state == COW_SEGMENT_FREE || segment->writing)
		return false;
	if (segment->orphan)
		return segment->state == COW_SEGMENT_CLOSED;
	return segment->state == COW_SEGMENT_CLOSED && !segment->live && segment->summarized;
}

/*
 * Free the segment if nothing needs it any more. With pins it waits among the
 * zombies. Its table entry stays: on disk its owner is gone, or its blocks are
 * shadowed by durable ones.
 */
void cow_segment_release(struct cow_store *store, u64 number)
{
	struct cow_segment *segment = &store->segments[number];
	struct cow_sums *sums = NULL;

	if (!can_be_free(segment))
		return;
	store->ops->view_lock(store);
	if (segment->pins) {
		list_move_tail(&segment->list, &store->zombies);
	} else {
		sums = segment->sums;
		segment->sums = NULL;
		segment->state = COW_SEGMENT_FREE;
		segment->live = 0;
		list_move_tail(&segment->list, &store->free_segments);
		store->nr_free++;
	}
	store->ops->view_unlock(store);
	cow_free(sums);
	if (store->nr_free >= store->low_water)
		store->low_water_told = false;
}

/*
 * The owner of these segments is gone (durably): free them all, as soon as
 * nothing is in flight. Open and spare ones belong to a log, which lets go of
 * them itself (cow_log_drop, cow_log_close_segment).
 */
void cow_segment_orphan(struct cow_store *store, struct list_head *segments)
{
	struct cow_segment *segment, *next;

	list_for_each_entry_safe(segment, next, segments, list) {
		segment->orphan = true;
		store->ops->view_lock(store);
		list_move_tail(&segment->list, &store->zombies);
		store->ops->view_unlock(store);
		cow_segment_release(store, cow_segment_number(store, segment));
	}
}

/* @blocks from @location on are not pointed to any more. */
void cow_segment_unlive(struct cow_store *store, u64 location, u32 blocks)
{
	u64 number = cow_super_block_segment(&store->super, location);
	struct cow_segment *segment = &store->segments[number];

	if (WARN_ON_ONCE(segment->live < blocks))
		segment->live = 0;
	else
		segment->live -= blocks;
}

/* Free what lost its last pin; write what changed in the table. */
void cow_segments_run(struct cow_store *store)
{
	struct cow_segment *segment, *next;

	list_for_each_entry_safe(segment, next, &store->zombies, list) {
		if (!READ_ONCE(segment->pins))
			cow_segment_release(store, cow_segment_number(store, segment));
	}
	if (!store->broken)
		tables_run(store);
}
