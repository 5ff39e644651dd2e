// SPDX-License-Identifier: GPL-2.0-only
/*
 * Writes on their way in: which of their blocks must be preserved first, and
 * what they wait for. A waiter waits for one extent at a time and then looks
 * again; all extents that it needs are under way by then, so that the wait is
 * as long as that of the slowest. Engine context.
 */
#include "store.h"

/* Nodes for the extent's entries in the index, promised until it is published. */
bool cow_nodes_reserve(struct cow_store *store, u32 nodes)
{
	u32 missing = cow_pool_missing(&store->pool, nodes);

	for (; missing; missing--) {
		struct cow_node *node = cow_node_new();

		if (!node)
			return false;
		store->ops->view_lock(store);
		cow_pool_give(&store->pool, node);
		store->ops->view_unlock(store);
	}
	return cow_pool_reserve(&store->pool, nodes);
}

/*
 * Asking takes a page from the kernel, which makes it zero. So an extent in sixteen asks, and all
 * do while memory is short: from when an extent could not be made until it is not any more. What
 * fifteen more take is little.
 */
static bool memory_short(struct cow_store *store)
{
	if (store->extents_unasked) {
		store->extents_unasked--;
		return false;
	}
	if (cow_memory_short())
		return true;
	store->extents_unasked = COW_EXTENTS_UNASKED - 1;
	return false;
}

/* Everything that publishing the run will need: the bitmap's page, nodes. */
static struct cow_extent *make_extent(struct cow_log *log, u64 block, u32 length)
{
	struct cow_store *store = log->store;
	struct cow_bitmap *bitmap = log->overlay ? NULL : log->origin->bitmap;
	u32 nodes = cow_index_worst_nodes(cow_index_run_entries(block, length));
	struct cow_extent *extent;

	if (bitmap && !cow_bitmap_has_page(bitmap, block)) {
		void *page = cow_alloc(COW_BITMAP_PAGE_BYTES);

		if (!page)
			return NULL;
		cow_bitmap_give(bitmap, block, page);
	}
	if (!cow_nodes_reserve(store, nodes))
		return NULL;
	extent = store->ops->extent_new(log, length);
	if (!extent) {
		cow_pool_unreserve(&store->pool, nodes);
		return NULL;
	}
	extent->block = block;
	extent->length = length;
	extent->flags = 0;
	extent->nodes = nodes;
	cow_log_add_extent(log, extent);
	return extent;
}

/* NULL: it must wait for memory, or until another one has ended. */
static struct cow_extent *new_extent(struct cow_log *log, u64 block, u32 length)
{
	struct cow_extent *extent;

	/* with the reserves one at a time goes on: its write frees memory */
	if (log->extents && memory_short(log->store))
		return NULL;
	extent = make_extent(log, block, length);
	/* many may wait, and each one's try takes long: it has up to 32 pages before one lacks */
	if (!extent)
		log->store->extents_unasked = 0;
	return extent;
}

/* Longest extent that fits into an empty segment of this store. */
static u32 max_extent(const struct cow_store *store)
{
	return min_t(u32, COW_WINDOW_BLOCKS, cow_log_usable_blocks(store) - 1);
}

/* How many blocks from @block on are missing and in no extent (0: none). */
static u32 missing_run(const struct cow_origin *origin, u64 block, u64 end)
{
	u64 window_end = (block / COW_WINDOW_BLOCKS + 1) * COW_WINDOW_BLOCKS;
	struct cow_extent *extent;
	u64 last;

	end = min(end, window_end);
	end = min_t(u64, end, block + max_extent(origin->store));
	for (last = block; last < end && !cow_bitmap_get(origin->bitmap, last); last++)
		;
	if (last == block)
		return 0;
	extent = cow_log_find(&origin->log, block, last - block);
	if (extent)
		last = max(extent->block, block);
	return last - block;
}

/*
 * Start preserving what is missing in the waiter's range, up to
 * COW_WAITER_BLOCKS, and return the first extent that it must wait for. *starved
 * is set when an extent was wanted and could not be had.
 */
static struct cow_extent *start_missing(struct cow_origin *origin, struct cow_waiter *waiter,
					bool *starved)
{
	struct cow_store *store = origin->store;
	u64 end = waiter->block + waiter->length;
	struct cow_extent *first = NULL;
	u64 block = waiter->block;
	u32 started = 0;

	while (block < end && started < COW_WAITER_BLOCKS) {
		struct cow_extent *extent = NULL;
		u32 run;

		if (cow_bitmap_get(origin->bitmap, block)) {
			block++;
			continue;
		}
		run = missing_run(origin, block, end);
		if (run) {
			extent = new_extent(&origin->log, block, run);
			if (!extent) {
				*starved = true;
				break;
			}
			started += run;
			origin->read_blocks += run;
			store->ops->extent_read(store, extent);
		} else {
			extent = cow_log_find(&origin->log, block, 1);
		}
		if (!first)
			first = extent;
		block = extent->block + extent->length;
	}
	return first;
}

bool cow_preserve(struct cow_origin *origin, struct cow_waiter *waiter)
{
	struct cow_store *store = origin->store;
	struct cow_extent *extent;
	bool starved = false;

	if (store->failed || !origin->nr_snapshots || !origin->bitmap)
		return true;
	if (store->broken) {
		list_add_tail(&waiter->list, &store->starved);
		return false;
	}
	/* what is preserved stays so: need not be looked at again */
	while (waiter->length && cow_bitmap_get(origin->bitmap, waiter->block)) {
		waiter->block++;
		waiter->length--;
	}
	if (!waiter->length)
		return true;
	extent = start_missing(origin, waiter, &starved);
	if (extent)
		list_add_tail(&waiter->list, &extent->waiters);
	else if (starved)
		list_add_tail(&waiter->list, &store->starved);
	else
		return true;
	return false;
}

struct cow_extent *cow_overlay_write(struct cow_overlay *overlay, struct cow_waiter *waiter)
{
	struct cow_log *log = &overlay->log;
	struct cow_extent *extent = cow_log_find(log, waiter->block, waiter->length);

	if (extent) {
		list_add_tail(&waiter->list, &extent->waiters);
		return NULL;
	}
	extent = new_extent(log, waiter->block,
			    min_t(u64, waiter->length, max_extent(log->store)));
	list_add_tail(&waiter->list, extent ? &extent->waiters : &log->store->starved);
	return extent;
}

/* Those who found no extent try again, first come first. */
static void retry_starved(struct cow_store *store)
{
	struct cow_waiter *waiter, *next;
	struct list_head starved;

	if (!store->retry)
		return;
	store->retry = false;
	INIT_LIST_HEAD(&starved);
	list_splice_tail_init(&store->starved, &starved);
	list_for_each_entry_safe(waiter, next, &starved, list) {
		list_del_init(&waiter->list);
		store->ops->waiter_ready(store, waiter);
	}
}

void cow_store_run(struct cow_store *store)
{
	struct cow_log *log, *next;
	struct list_head active;

	INIT_LIST_HEAD(&active);
	cow_segments_run(store);
	list_splice_tail_init(&store->active, &active);
	list_for_each_entry_safe(log, next, &active, active) {
		list_del_init(&log->active);
		cow_log_run(log);
		/* without a segment there is nothing that would wake it but a run */
		if (cow_log_may_write(log))
			cow_log_activate(log);
	}
	retry_starved(store);
	cow_overlays_reap(store);
	cow_segments_run(store);
}

/*
 * A log that got no segment, or no memory for its summary, and a table that got none
 * for its image, go on in a run, and no I/O ends that would cause one. (Tables that
 * are being written are dirty, too: a run does not harm them.)
 */
bool cow_store_wants_run(const struct cow_store *store)
{
	return !store->broken && (!list_empty(&store->active) ||
				  !list_empty(&store->tables_dirty));
}

void cow_store_wake_logs(struct cow_store *store)
{
	struct cow_snapshot *snapshot;
	struct cow_overlay *overlay;
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list) {
		cow_log_activate(&origin->log);
		if (cow_rollback_overlay(origin))
			cow_log_activate(&cow_rollback_overlay(origin)->log);
	}
	list_for_each_entry(snapshot, &store->snapshots, all)
		if (snapshot->overlay)
			cow_log_activate(&snapshot->overlay->log);
	list_for_each_entry(overlay, &store->dying_overlays, dying)
		cow_log_activate(&overlay->log);
}

/*
 * The store is broken: from now on nothing is preserved, and no snapshot is exact.
 * Writes are held until that is recorded (cow_store_record_loss).
 */
void cow_store_fail(struct cow_store *store)
{
	struct cow_snapshot *snapshot;

	if (store->broken)
		return;
	store->broken = true;
	store->ops->view_lock(store);
	list_for_each_entry(snapshot, &store->snapshots, all)
		snapshot->lost = true;
	store->ops->view_unlock(store);
	store->ops->event(store, COWSNAP_EVENT_FAILED, 0);
}

bool cow_log_idle(const struct cow_log *log)
{
	return !log->extents && list_empty(&log->ready) && list_empty(&log->writing) &&
	       list_empty(&log->summaries);
}

bool cow_origin_quiet(const struct cow_origin *origin)
{
	return !origin->log.extents && list_empty(&origin->log.writing);
}

bool cow_store_idle(const struct cow_store *store)
{
	const struct cow_snapshot *snapshot;
	const struct cow_origin *origin;
	u64 i;

	if (!list_empty(&store->starved) || !list_empty(&store->dying_overlays))
		return false;
	for (i = 0; i < store->nr_tables; i++)
		if (store->tables[i].writing)
			return false;
	list_for_each_entry(origin, &store->origins, list) {
		const struct cow_overlay *shown = cow_rollback_overlay(origin);

		if (!cow_log_idle(&origin->log) || (shown && !cow_log_idle(&shown->log)) ||
		    !list_empty(&origin->rollback.waiting))
			return false;
	}
	list_for_each_entry(snapshot, &store->snapshots, all)
		if (snapshot->overlay && !cow_log_idle(&snapshot->overlay->log))
			return false;
	return true;
}
