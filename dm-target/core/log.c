// SPDX-License-Identifier: GPL-2.0-only
/*
 * One log: extents that were read become batches, batches become durable, and
 * are published in the order of their sequence. Also the change from one segment
 * to the next, summaries and marks. Knows nothing of who waits, or why. Engine
 * context.
 *
 * Order within one batch, and why:
 *   1. written, and all batches before it written  - it will be found again
 *   2. exceptions into the index                   - snapshots see the copy
 *   3. bits into the bitmap                        - writes may pass by
 *   4. waiters released                            - the origin is overwritten
 */
#include "store.h"

static u32 hash_of(u64 block)
{
	return hash_64(block / COW_WINDOW_BLOCKS, COW_HASH_BITS);
}

void cow_log_init(struct cow_log *log, struct cow_store *store, struct cow_origin *origin,
		  struct cow_overlay *overlay)
{
	u32 i;

	memset(log, 0, sizeof(*log));
	log->store = store;
	log->origin = origin;
	log->overlay = overlay;
	log->next_sequence = 1;
	log->segment = COW_NONE_SEGMENT;
	log->spare = COW_NONE_SEGMENT;
	INIT_LIST_HEAD(&log->ready);
	INIT_LIST_HEAD(&log->writing);
	INIT_LIST_HEAD(&log->summaries);
	INIT_LIST_HEAD(&log->active);
	for (i = 0; i < ARRAY_SIZE(log->hash); i++)
		INIT_LIST_HEAD(&log->hash[i]);
}

void cow_log_activate(struct cow_log *log)
{
	if (list_empty(&log->active))
		list_add_tail(&log->active, &log->store->active);
}

/* Blocks of a segment that batches may fill. */
u32 cow_log_usable_blocks(const struct cow_store *store)
{
	return store->super.segment_blocks - COWSNAP_SUMMARY_BLOCKS(store->super.segment_blocks);
}

/* ------------------------------------------------------------- extents --- */

/* The first extent in flight that overlaps the run (which lies in one window). */
struct cow_extent *cow_log_find(const struct cow_log *log, u64 block, u32 length)
{
	struct cow_extent *extent, *first = NULL;

	list_for_each_entry(extent, &log->hash[hash_of(block)], hash) {
		if (extent->block >= block + length || extent->block + extent->length <= block)
			continue;
		if (!first || extent->block < first->block)
			first = extent;
	}
	return first;
}

void cow_log_add_extent(struct cow_log *log, struct cow_extent *extent)
{
	extent->log = log;
	extent->state = COW_EXTENT_READING;
	INIT_LIST_HEAD(&extent->queue);
	INIT_LIST_HEAD(&extent->waiters);
	list_add_tail(&extent->hash, &log->hash[hash_of(extent->block)]);
	log->extents++;
}

void cow_extent_filled(struct cow_extent *extent, int error)
{
	struct cow_log *log = extent->log;

	if (error)
		extent->flags |= COWSNAP_RECORD_UNREADABLE;
	extent->state = COW_EXTENT_READY;
	list_add_tail(&extent->queue, &log->ready);
	log->ready_count++;
	cow_log_activate(log);
}

static void extent_end(struct cow_extent *extent, struct list_head *waiters)
{
	struct cow_store *store = extent->log->store;

	list_splice_tail_init(&extent->waiters, waiters);
	extent->log->extents--;
	list_del(&extent->hash);
	list_del_init(&extent->queue);
	cow_pool_unreserve(&store->pool, extent->nodes);
	store->ops->extent_free(store, extent);
	store->retry = true;
}

static void release(struct cow_store *store, struct list_head *waiters)
{
	struct cow_waiter *waiter, *next;

	list_for_each_entry_safe(waiter, next, waiters, list) {
		list_del_init(&waiter->list);
		store->ops->waiter_ready(store, waiter);
	}
}

/* ------------------------------------------------------------ segments --- */

static struct list_head *segment_list(struct cow_log *log)
{
	struct cow_epoch *epoch;

	if (log->overlay)
		return &log->overlay->segments;
	epoch = cow_epoch_find(log->origin, log->origin->epoch);
	return epoch ? &epoch->segments : NULL;
}

static u64 log_epoch(const struct cow_log *log)
{
	return log->overlay ? log->overlay->snapshot->epoch : log->origin->epoch;
}

/*
 * Have a spare of the current epoch, or have one claimed. One that was claimed
 * for an epoch that is over is claimed anew: an unused segment in the middle of
 * a log would look like a lost one.
 */
static void claim_spare(struct cow_log *log)
{
	struct cow_store *store = log->store;
	struct list_head *list = segment_list(log);

	if (!list)
		return;
	if (log->spare != COW_NONE_SEGMENT) {
		if (store->segments[log->spare].owner.epoch != log_epoch(log))
			cow_segment_reclaim(store, log->spare, log_epoch(log), list);
		return;
	}
	log->spare = cow_segment_claim(store,
				       log->overlay ? COWSNAP_OWNER_OVERLAY : COWSNAP_OWNER_EPOCH,
				       log->origin->id, log_epoch(log), list);
}

/* Its owner is gone: let the spare go. */
void cow_log_drop_spare(struct cow_log *log)
{
	struct cow_segment *spare;

	if (log->spare == COW_NONE_SEGMENT)
		return;
	spare = &log->store->segments[log->spare];
	spare->state = COW_SEGMENT_CLOSED;
	spare->summarized = true;
	cow_segment_release(log->store, log->spare);
	log->spare = COW_NONE_SEGMENT;
}

static void open_segment(struct cow_log *log, u64 number, u16 fill, u64 sequence, u64 epoch)
{
	log->store->segments[number].state = COW_SEGMENT_OPEN;
	log->segment = number;
	log->fill = fill;
	log->segment_sequence = sequence;
	log->segment_epoch = epoch;
}

/*
 * No more batches into the open segment. Its summary waits until all of them are
 * published.
 */
void cow_log_close_segment(struct cow_log *log)
{
	struct cow_store *store = log->store;
	struct cow_summary_data *summary = log->summary;
	struct cow_segment *segment;

	if (log->segment == COW_NONE_SEGMENT)
		return;
	segment = &store->segments[log->segment];
	segment->state = COW_SEGMENT_CLOSED;
	segment->writing++;
	summary->log = log;
	summary->info.segment = log->segment;
	summary->info.generation = segment->owner.generation;
	summary->info.sequence = log->next_sequence - 1;
	summary->info.segment_sequence = log->segment_sequence;
	summary->info.epoch = log->segment_epoch;
	summary->info.origin = log->origin->id;
	summary->store_block = cow_super_segment_block(&store->super, log->segment) +
			       cow_log_usable_blocks(store);
	list_add_tail(&summary->list, &log->summaries);
	log->summary = NULL;
	log->segment = COW_NONE_SEGMENT;
	cow_log_activate(log);
}

/* An open segment with room for a header and one block, of the current epoch. */
static bool have_segment(struct cow_log *log)
{
	struct cow_store *store = log->store;
	u32 usable = cow_log_usable_blocks(store);

	if (log->segment != COW_NONE_SEGMENT && log->fill + 2u > usable)
		cow_log_close_segment(log);
	if (log->segment != COW_NONE_SEGMENT)
		return true;
	claim_spare(log);
	if (log->spare == COW_NONE_SEGMENT) {
		/* with free ones it is memory that lacks: that is not a full store */
		if (!log->starving && !store->nr_free) {
			log->starving = true;
			store->ops->no_room(store, log);
		}
		return false;
	}
	if (log->starving) {
		log->starving = false;
		store->ops->room_again(store, log);
	}
	if (store->segments[log->spare].state != COW_SEGMENT_SPARE)
		return false;
	if (!log->summary)
		log->summary = cow_alloc(sizeof(*log->summary));
	if (!log->summary)
		return false;
	open_segment(log, log->spare, 0, log->next_sequence, log_epoch(log));
	log->spare = COW_NONE_SEGMENT;
	return true;
}

/* -------------------------------------------------------------- batches --- */

/* Move ready extents into the batch, as many as fit; the last may be cut. */
static void fill_batch(struct cow_log *log, struct cow_batch *batch)
{
	u32 room = cow_log_usable_blocks(log->store) - log->fill - 1;
	struct cow_extent *extent, *next;

	list_for_each_entry_safe(extent, next, &log->ready, queue) {
		if (batch->info.blocks + extent->length > room ||
		    !cow_batch_fits(batch->info.records + 1u, batch->info.blocks + extent->length))
			break;
		extent->position = log->fill + 1 + batch->info.blocks;
		extent->state = COW_EXTENT_WRITING;
		batch->info.records++;
		batch->info.blocks += extent->length;
		log->ready_count--;
		list_move_tail(&extent->queue, &batch->extents);
	}
}

static struct cow_batch *new_batch(struct cow_log *log)
{
	struct cow_store *store = log->store;
	struct cow_batch *batch = store->ops->batch_new(store);

	memset(batch, 0, sizeof(*batch));
	INIT_LIST_HEAD(&batch->extents);
	batch->log = log;
	batch->info.segment = log->segment;
	batch->info.generation = store->segments[log->segment].owner.generation;
	batch->info.segment_sequence = log->segment_sequence;
	batch->info.epoch = log->segment_epoch;
	batch->info.origin = log->origin->id;
	batch->info.position = log->fill;
	return batch;
}

static void issue_batch(struct cow_log *log, struct cow_batch *batch)
{
	struct cow_store *store = log->store;
	struct cow_segment *segment = &store->segments[log->segment];

	batch->info.activation = store->activation;
	batch->info.sequence = log->next_sequence++;
	batch->info.durable_sequence = log->durable_sequence;
	batch->store_block = cow_super_segment_block(&store->super, log->segment) + log->fill;
	log->fill += 1 + batch->info.blocks;
	segment->writing++;
	list_add_tail(&batch->list, &log->writing);
	log->writing_count++;
	store->ops->batch_write(store, batch);
	if (log->fill > cow_log_usable_blocks(store) / 2)
		claim_spare(log);
}

/* Where there is no room for a mark, the segment's summary proves as much. */
static void write_mark(struct cow_log *log)
{
	if (!cow_log_unproven(log))
		return;
	if (log->fill < cow_log_usable_blocks(log->store))
		issue_batch(log, new_batch(log));
	else
		cow_log_close_segment(log);
}

/*
 * Is there something for a batch, and may it be written now? With one only under way a slow
 * write would hold up all that is ready. Three keep the store busy, but each costs a block for its
 * header and a write: the third one is for many.
 */
bool cow_log_may_write(const struct cow_log *log)
{
	if (list_empty(&log->ready))
		return false;
	return log->writing_count + 1 < COW_BATCHES_WRITING ||
	       (log->writing_count < COW_BATCHES_WRITING &&
		log->ready_count * COW_THIRD_BATCH_PART >= log->extents);
}

static void write_batches(struct cow_log *log)
{
	while (cow_log_may_write(log)) {
		struct cow_batch *batch;

		if (!have_segment(log))
			return;
		batch = new_batch(log);
		fill_batch(log, batch);
		if (!batch->info.records) {
			/* the next extent does not fit behind what is there */
			log->store->ops->batch_free(log->store, batch);
			log->fill = cow_log_usable_blocks(log->store);
			continue;
		}
		issue_batch(log, batch);
	}
	if (log->wants_mark && list_empty(&log->ready) && list_empty(&log->writing)) {
		log->wants_mark = false;
		write_mark(log);
	}
}

void cow_batch_image(struct cow_batch *batch, void *header)
{
	struct cow_log *log = batch->log;
	struct cow_store *store = log->store;
	struct cow_segment *segment = &store->segments[batch->info.segment];
	struct cow_summary_data *summary = log->summary;
	struct cow_record *records = &summary->records[summary->info.records];
	struct cow_extent *extent;
	u32 *crc = &segment->sums->crc[batch->info.position + 1];
	u32 i = 0, done = 0, b;

	list_for_each_entry(extent, &batch->extents, queue) {
		records[i].block = extent->block;
		records[i].length = extent->length;
		records[i].flags = extent->flags;
		records[i].position = extent->position;
		memcpy(&crc[done], extent->crc, extent->length * sizeof(*crc));
		if (extent->flags & COWSNAP_RECORD_UNREADABLE) {
			for (b = extent->position; b < (u32)extent->position + extent->length; b++)
				segment->sums->unreadable[b / 64] |= 1ull << (b % 64);
		}
		done += extent->length;
		i++;
	}
	summary->info.records += i;
	summary->info.blocks += done;
	cow_batch_encode(header, store->super.uuid, &batch->info, records, crc);
}

void cow_batch_written(struct cow_batch *batch, int error)
{
	batch->written = true;
	batch->error = error;
	if (error)
		cow_store_fail(batch->log->store);
	cow_log_activate(batch->log);
}

/* ----------------------------------------------------------- publishing --- */

/* Preserved blocks into the origin's index. View lock held. */
static void add_preserved(struct cow_log *log, struct cow_epoch *epoch, u64 number,
			  const struct cow_record *record, u64 location)
{
	int r = cow_index_insert(&log->origin->index, record->block, record->length,
				 epoch->number, location);

	WARN_ON_ONCE(r);
	log->store->segments[number].live += record->length;
	epoch->live += record->length;
}

/*
 * Blocks of an overlay: what they replace is dead. Returns how many segments were
 * emptied by that. View lock held.
 */
static u32 add_overlay(struct cow_log *log, u64 number, const struct cow_record *record,
		       u64 location, u64 *emptied)
{
	struct cow_overlay *overlay = log->overlay;
	struct cow_store *store = log->store;
	u32 nr_emptied = 0;
	u32 i;
	int r;

	for (i = 0; i < record->length; i++) {
		u64 old = cow_index_remove(&overlay->index, record->block + i, 1, COW_NOT_FOUND);
		u64 old_number;

		if (old == COW_NOT_FOUND)
			continue;
		old_number = cow_super_block_segment(&store->super, old);
		cow_segment_unlive(store, old, 1);
		overlay->live--;
		if (!store->segments[old_number].live)
			emptied[nr_emptied++] = old_number;
	}
	r = cow_index_insert(&overlay->index, record->block, record->length, 1, location);
	WARN_ON_ONCE(r);
	store->segments[number].live += record->length;
	overlay->live += record->length;
	return nr_emptied;
}

/*
 * The record's blocks (at most COW_WINDOW_BLOCKS) are durable in segment @number:
 * enter them. The nodes are reserved and given back here.
 */
void cow_log_enter(struct cow_log *log, u64 epoch_number, u64 number,
		   const struct cow_record *record, u32 nodes)
{
	struct cow_store *store = log->store;
	u64 location = cow_super_segment_block(&store->super, number) + record->position;
	struct cow_epoch *epoch = NULL;
	u64 emptied[COW_WINDOW_BLOCKS];
	u32 nr_emptied = 0;

	if (!log->overlay)
		epoch = cow_epoch_find(log->origin, epoch_number);
	store->ops->view_lock(store);
	cow_pool_unreserve(&store->pool, nodes);
	if (store->segments[number].orphan)
		;
	else if (log->overlay)
		nr_emptied = add_overlay(log, number, record, location, emptied);
	else if (epoch)
		add_preserved(log, epoch, number, record, location);
	store->ops->view_unlock(store);
	while (nr_emptied)
		cow_segment_release(store, emptied[--nr_emptied]);
}

static void publish_extent(struct cow_log *log, struct cow_batch *batch,
			   struct cow_extent *extent)
{
	struct cow_origin *origin = log->origin;
	struct cow_record record = {
		.block = extent->block, .length = extent->length, .position = extent->position,
	};

	cow_log_enter(log, batch->info.epoch, batch->info.segment, &record, extent->nodes);
	extent->nodes = 0;
	if (!log->overlay && origin->nr_snapshots && origin->bitmap &&
	    batch->info.epoch >= cow_origin_newest_epoch(origin))
		cow_bitmap_set(origin->bitmap, extent->block, extent->length);
}

static void publish(struct cow_log *log, struct cow_batch *batch)
{
	struct cow_store *store = log->store;
	struct cow_segment *segment = &store->segments[batch->info.segment];
	struct cow_extent *extent, *next;
	struct list_head waiters;

	INIT_LIST_HEAD(&waiters);
	log->durable_sequence = batch->info.sequence;
	log->proven_sequence = batch->info.durable_sequence;
	if (batch->info.records)
		log->data_sequence = batch->info.sequence;
	list_for_each_entry_safe(extent, next, &batch->extents, queue) {
		if (!store->broken)
			publish_extent(log, batch, extent);
		extent_end(extent, &waiters);
	}
	list_del(&batch->list);
	log->writing_count--;
	segment->writing--;
	cow_segment_release(store, batch->info.segment);
	store->ops->batch_free(store, batch);
	release(store, &waiters);
}

static void publish_durable(struct cow_log *log)
{
	while (!list_empty(&log->writing)) {
		struct cow_batch *batch = list_first_entry(&log->writing, struct cow_batch, list);

		if (!batch->written)
			break;
		publish(log, batch);
	}
}

/* ------------------------------------------------------------ summaries --- */

static void summary_end(struct cow_summary_data *summary, bool durable)
{
	struct cow_store *store = summary->log->store;
	struct cow_segment *segment = &store->segments[summary->info.segment];
	u64 number = summary->info.segment;

	segment->summarized = durable && !summary->log->incomplete;
	segment->writing--;
	list_del(&summary->list);
	cow_free(summary);
	cow_segment_release(store, number);
}

/*
 * In order, one at a time: a segment is freed only when the summaries of all
 * segments before it in its log are durable; recovery relies on that.
 */
static void write_summary(struct cow_log *log)
{
	struct cow_store *store = log->store;
	struct cow_summary_data *summary;

	while (!list_empty(&log->summaries)) {
		summary = list_first_entry(&log->summaries, struct cow_summary_data, list);
		if (summary->issued || summary->info.sequence > log->durable_sequence)
			return;
		if (!store->broken && !store->segments[summary->info.segment].orphan) {
			summary->issued = true;
			summary->info.activation = store->activation;
			summary->info.durable_sequence = log->durable_sequence;
			store->ops->summary_write(store, summary);
			return;
		}
		summary_end(summary, false);
	}
}

void cow_summary_image(struct cow_summary_data *summary, void *blocks)
{
	struct cow_store *store = summary->log->store;
	const struct cow_sums *sums = store->segments[summary->info.segment].sums;
	u32 crc[256];
	u32 i, done = 0;

	for (i = 0; i < summary->info.records; i++) {
		memcpy(&crc[done], &sums->crc[summary->records[i].position],
		       summary->records[i].length * sizeof(*crc));
		done += summary->records[i].length;
	}
	cow_summary_encode(blocks, store->super.segment_blocks, store->super.uuid, &summary->info,
			   summary->records, crc);
}

void cow_summary_written(struct cow_summary_data *summary, int error)
{
	struct cow_log *log = summary->log;

	if (error)
		cow_store_fail(log->store);
	cow_log_activate(log);
	summary_end(summary, !error);
}

/* ------------------------------------------------------- log, as a whole --- */

/*
 * Is the last published batch without proof on the store that it was durable?
 * Then damage to it could not be told from the log's end.
 */
bool cow_log_unproven(const struct cow_log *log)
{
	return log->segment != COW_NONE_SEGMENT && log->data_sequence > log->proven_sequence;
}

void cow_log_mark(struct cow_log *log)
{
	log->wants_mark = true;
	cow_log_activate(log);
}

/* Let all that waits for room or for a batch go, without preserving. */
static void release_ready(struct cow_log *log)
{
	struct cow_extent *extent, *next;
	struct list_head waiters;

	INIT_LIST_HEAD(&waiters);
	list_for_each_entry_safe(extent, next, &log->ready, queue)
		extent_end(extent, &waiters);
	log->ready_count = 0;
	release(log->store, &waiters);
}

/* There is no room for what waits in this log, and it must not wait longer. */
void cow_log_give_up(struct cow_log *log)
{
	release_ready(log);
	if (log->starving) {
		log->starving = false;
		log->store->ops->room_again(log->store, log);
	}
}

/* Nobody needs what this log would write: no snapshot is left, or no overlay. */
void cow_log_drop(struct cow_log *log)
{
	cow_log_close_segment(log);
	cow_log_drop_spare(log);
	cow_log_give_up(log);
}

static bool log_wanted(const struct cow_log *log)
{
	return log->overlay ? !!log->overlay->snapshot : log->origin->nr_snapshots > 0;
}

void cow_log_run(struct cow_log *log)
{
	/* broken, and not yet recorded: nobody is released */
	if (log->store->broken && !log->store->failed)
		return;
	publish_durable(log);
	if (log->store->failed || !log_wanted(log))
		cow_log_give_up(log);
	else
		write_batches(log);
	write_summary(log);
}
