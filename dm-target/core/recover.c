// SPDX-License-Identifier: GPL-2.0-only
/*
 * Activation: from what is on the store to a running engine, after a clean stop
 * or a crash at any instant. Who owns which segment; then the logs, which
 * recover_log.c reads; then all of it is made durable.
 *
 * Control context, before the store is live; no lock is needed.
 */
#include "recover.h"

#define COW_TABLES_AHEAD 64u

/* ------------------------------------------------------- segment owners --- */

static int load_table(struct cow_loader *loader, struct cow_table_block *table, char *images)
{
	struct cow_store *store = loader->store;
	u64 block = cow_super_table_block(&store->super, table->first_segment);
	u64 generation[2] = {0, 0};
	struct cow_owner *owners[2];
	enum cow_check check[2];
	int best, r;
	u32 i;

	owners[0] = cow_alloc(2ull * table->count * sizeof(*owners[0]));
	if (!owners[0])
		return -ENOMEM;
	owners[1] = owners[0] + table->count;
	for (i = 0; i < 2; i++) {
		char *image = images + (u64)i * COWSNAP_DISK_BLOCK_SIZE;

		check[i] = COW_CORRUPT;
		if (!store->ops->read(store, block + i, 1, image))
			check[i] = cow_table_decode(image, store->super.uuid, table->first_segment,
						    &generation[i], owners[i], table->count);
	}
	r = 0;
	if (check[0] == COW_VALID || check[1] == COW_VALID) {
		best = check[0] != COW_VALID ||
		       (check[1] == COW_VALID && generation[1] > generation[0]);
		table->generation = generation[best];
		for (i = 0; i < table->count; i++) {
			store->segments[table->first_segment + i].owner = owners[best][i];
			store->next_generation =
				max(store->next_generation, owners[best][i].generation + 1);
		}
		/* they must be equal before one may be overwritten; the good one last */
		if (check[0] != check[1] || generation[0] != generation[1]) {
			cow_table_change(store, table->first_segment);
			table->copy = !best;
		}
	} else if (check[1] != COW_BLANK) {
		snprintf(loader->why, COW_WHY_BYTES,
			 "both copies of the segment table at block %llu are damaged (%s, %s)",
			 (unsigned long long)block, cow_check_name(check[0]),
			 cow_check_name(check[1]));
		r = -EUCLEAN;
	}
	cow_free(owners[0]);
	return r;
}

/* Both copies of the tables that are read next. */
static void tables_ahead(struct cow_loader *loader, u64 i)
{
	struct cow_store *store = loader->store;
	u64 block;

	for (; loader->ahead < min(store->nr_tables, i + COW_TABLES_AHEAD); loader->ahead++) {
		block = cow_super_table_block(&store->super,
					      store->tables[loader->ahead].first_segment);
		cow_store_read_ahead(store, block, 1);
		cow_store_read_ahead(store, block + 1, 1);
	}
}

static int load_tables(struct cow_loader *loader)
{
	u64 i;
	int r = 0;

	loader->ahead = 0;
	for (i = 0; i < loader->store->nr_tables && !r; i++) {
		tables_ahead(loader, i);
		r = load_table(loader, &loader->store->tables[i], loader->image);
	}
	return r;
}

static struct cow_snapshot *snapshot_of_epoch(const struct cow_origin *origin, u64 epoch)
{
	struct cow_snapshot *snapshot;

	list_for_each_entry(snapshot, &origin->snapshots, list)
		if (snapshot->epoch == epoch)
			return snapshot;
	return NULL;
}

/* The log and list that a segment belongs to; *log NULL when its owner is gone. */
static int find_owner(struct cow_store *store, const struct cow_owner *owner,
		      struct cow_log **log, struct list_head **list)
{
	struct cow_origin *origin;
	struct cow_snapshot *snapshot;
	struct cow_epoch *epoch;

	*log = NULL;
	if (owner->kind == COWSNAP_OWNER_FREE)
		return 0;
	/* the control record is older than this: a part of it is gone without a trace */
	if (owner->epoch >= store->next_epoch)
		return -EUCLEAN;
	origin = cow_origin_find(store, owner->origin);
	if (!origin || owner->epoch < cow_origin_oldest_epoch(origin))
		return 0;
	if (owner->kind == COWSNAP_OWNER_EPOCH) {
		epoch = cow_epoch_find(origin, owner->epoch);
		if (!epoch)
			epoch = cow_epoch_add(origin, owner->epoch);
		if (!epoch)
			return -ENOMEM;
		*log = &origin->log;
		*list = &epoch->segments;
		return 0;
	}
	snapshot = snapshot_of_epoch(origin, owner->epoch);
	if (!snapshot && origin->rollback.state == COW_ROLLBACK_RUNNING &&
	    origin->rollback.shown.epoch == owner->epoch)
		snapshot = &origin->rollback.shown;
	if (!snapshot)
		return 0;
	if (!snapshot->overlay)
		snapshot->overlay = cow_overlay_new(snapshot);
	if (!snapshot->overlay)
		return -ENOMEM;
	*log = &snapshot->overlay->log;
	*list = &snapshot->overlay->segments;
	return 0;
}

/* Logs by origin, its own before the overlays: the same order every time. */
static int compare_logs(const struct cow_log *a, const struct cow_log *b)
{
	u64 epoch_a = a->overlay ? a->overlay->snapshot->epoch : COW_NO_EPOCH;
	u64 epoch_b = b->overlay ? b->overlay->snapshot->epoch : COW_NO_EPOCH;

	if (a->origin->id != b->origin->id)
		return a->origin->id < b->origin->id ? -1 : 1;
	return epoch_a < epoch_b ? -1 : 1;
}

static int compare_found(const void *left, const void *right)
{
	const struct cow_found *a = left, *b = right;

	if (a->log != b->log)
		return compare_logs(a->log, b->log);
	if (a->generation != b->generation)
		return a->generation < b->generation ? -1 : 1;
	return 0;
}

/* Give every segment to its owner; those with a live one go into found[]. */
static int sort_segments(struct cow_loader *loader)
{
	struct cow_store *store = loader->store;
	u64 i, used = 0;

	for (i = 0; i < store->nr_segments; i++)
		used += store->segments[i].owner.kind != COWSNAP_OWNER_FREE;
	loader->found = cow_alloc((used + 1) * sizeof(*loader->found));
	if (!loader->found)
		return -ENOMEM;
	for (i = 0; i < store->nr_segments; i++) {
		struct cow_segment *segment = &store->segments[i];
		struct cow_found *found = &loader->found[loader->nr_found];
		struct list_head *list = NULL;
		int r = find_owner(store, &segment->owner, &found->log, &list);

		if (r == -EUCLEAN)
			snprintf(loader->why, COW_WHY_BYTES,
				 "the store's control record is older than segment %llu",
				 (unsigned long long)i);
		if (r)
			return r;
		if (!found->log)
			continue;
		segment->sums = cow_alloc(sizeof(*segment->sums));
		if (!segment->sums)
			return -ENOMEM;
		segment->state = COW_SEGMENT_CLOSED;
		list_move_tail(&segment->list, list);
		store->nr_free--;
		found->generation = segment->owner.generation;
		found->segment = i;
		loader->nr_found++;
	}
	sort(loader->found, loader->nr_found, sizeof(*loader->found), compare_found, NULL);
	return 0;
}

/* ---------------------------------------------------------- live again --- */

static int start_epochs(struct cow_store *store)
{
	struct cow_snapshot *snapshot;
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list) {
		if (!origin->nr_snapshots)
			continue;
		list_for_each_entry(snapshot, &origin->snapshots, list)
			if (!cow_epoch_find(origin, snapshot->epoch) &&
			    !cow_epoch_add(origin, snapshot->epoch))
				return -ENOMEM;
		origin->epoch = cow_origin_newest_epoch(origin);
		origin->bitmap = cow_bitmap_new(origin->blocks);
		if (!origin->bitmap)
			return -ENOMEM;
		if (origin->rollback.state != COW_ROLLBACK_RUNNING)
			continue;
		origin->rollback.shown.overlay = cow_overlay_new(&origin->rollback.shown);
		if (!origin->rollback.shown.overlay)
			return -ENOMEM;
	}
	return 0;
}

static bool current_incomplete(const struct cow_origin *origin)
{
	const struct cow_epoch *epoch;

	list_for_each_entry_reverse(epoch, &origin->epochs, list) {
		if (epoch->number < cow_origin_newest_epoch(origin))
			break;
		if (epoch->incomplete)
			return true;
	}
	return false;
}

/*
 * Where batches of the current time were lost, what is preserved from now on must
 * not be taken for what was lost: it gets an epoch of its own, a later one.
 */
static int leave_incomplete_epochs(struct cow_store *store)
{
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list) {
		if (!origin->nr_snapshots || !current_incomplete(origin))
			continue;
		if (store->next_epoch > COW_INDEX_MAX_EPOCH)
			return -ENOSPC;
		if (!cow_epoch_add(origin, store->next_epoch))
			return -ENOMEM;
		cow_log_close_segment(&origin->log);
		origin->epoch = store->next_epoch++;
	}
	return 0;
}

/* Dead blocks, and the bits of what the current epoch has. */
static void sweep_all(struct cow_store *store)
{
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list) {
		origin->sweep_chunk = 0;
		while (cow_sweep(origin, 1024))
			cond_resched();
	}
}

/*
 * What a log's end was found by is made so for good. A header there that was torn, or
 * is whole in front of data that is not, would be valid after all if the next write to
 * the place were torn as well, the other way round, or had the same data and lost its
 * header: then a batch would come back that an earlier activation did without.
 */
static int blank_log_end(struct cow_loader *loader, const struct cow_log *log)
{
	struct cow_store *store = loader->store;
	u64 block;

	if (log->segment == COW_NONE_SEGMENT || log->fill >= cow_log_usable_blocks(store))
		return 0;
	block = cow_super_segment_block(&store->super, log->segment) + log->fill;
	if (!store->ops->read(store, block, 1, loader->image) &&
	    cow_all_zero(loader->image, COWSNAP_DISK_BLOCK_SIZE))
		return 0;
	memset(loader->image, 0, COWSNAP_DISK_BLOCK_SIZE);
	return store->ops->write(store, block, 1, loader->image);
}

static int blank_log_ends(struct cow_loader *loader)
{
	struct cow_store *store = loader->store;
	struct cow_snapshot *snapshot;
	struct cow_origin *origin;
	int r = 0;

	list_for_each_entry(origin, &store->origins, list) {
		if (!r)
			r = blank_log_end(loader, &origin->log);
		if (!r && cow_rollback_overlay(origin))
			r = blank_log_end(loader, &cow_rollback_overlay(origin)->log);
	}
	list_for_each_entry(snapshot, &store->snapshots, all)
		if (!r && snapshot->overlay)
			r = blank_log_end(loader, &snapshot->overlay->log);
	return r;
}

/*
 * On the store first: the activation, then what was cut off, then the ends of the logs.
 * Only then are segments free and may batches be written.
 */
static int make_durable(struct cow_loader *loader)
{
	struct cow_store *store = loader->store;
	struct cow_op op = {
		.op = COWSNAP_OP_COUNTERS,
		.epoch = store->next_epoch,
		.set = store->next_set,
		.activation = store->activation + 1ull,
	};
	struct cow_segment *segment, *next;
	int r = cow_supers_repair(store);

	if (!r)
		r = cow_control_commit(store, &op, 1);
	if (!r)
		r = cow_tables_write_all(store);
	if (!r)
		r = blank_log_ends(loader);
	if (r) {
		snprintf(loader->why, COW_WHY_BYTES, "the store cannot be written (%d)", r);
		return r;
	}
	store->activation++;
	list_for_each_entry_safe(segment, next, &loader->discarded, list)
		cow_segment_release(store, cow_segment_number(store, segment));
	return 0;
}

static int open_with(struct cow_loader *loader)
{
	struct cow_store *store = loader->store;
	int r = cow_segments_make(store);

	if (!r)
		r = cow_control_load(store, loader->why);
	if (!r)
		r = start_epochs(store);
	if (!r)
		r = load_tables(loader);
	if (!r)
		r = sort_segments(loader);
	if (!r)
		r = cow_recover_logs(loader);
	if (!r)
		r = leave_incomplete_epochs(store);
	if (!r)
		r = make_durable(loader);
	if (!r)
		sweep_all(store);
	return r;
}

int cow_store_open(struct cow_store *store, char *why)
{
	struct cow_loader loader = { .store = store, .why = why };
	u64 bytes = (u64)store->super.segment_blocks * COWSNAP_DISK_BLOCK_SIZE;
	int r = -ENOMEM;

	why[0] = 0;
	INIT_LIST_HEAD(&loader.discarded);
	loader.image = cow_alloc(max_t(u64, bytes, 2 * COWSNAP_DISK_BLOCK_SIZE));
	loader.records = cow_alloc(256 * sizeof(*loader.records));
	loader.crc = cow_alloc(256 * sizeof(*loader.crc));
	if (loader.image && loader.records && loader.crc)
		r = open_with(&loader);
	if (r && !why[0])
		snprintf(why, COW_WHY_BYTES, "%s",
			 r == -ENOMEM ? "no memory" : "a log of the store is damaged");
	cow_free(loader.image);
	cow_free(loader.records);
	cow_free(loader.crc);
	cow_free(loader.found);
	return r;
}
