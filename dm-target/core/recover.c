// SPDX-License-Identifier: GPL-2.0-only
/*
 * Activation: from what is on the store to a running engine, after a clean stop
 * or a crash at any instant.
 *
 * Each log is read segment by segment in the order of allocation. A segment with
 * a valid summary was published whole. Another one is scanned for batches, which
 * must carry consecutive sequence numbers from the first scanned segment on (what
 * is missing in front of that was freed). Where the expected one is not found,
 *
 *   - and nothing says that it was ever durable: the log ends there. Batches
 *     behind it were never published, so the origin was not overwritten for
 *     them; their segments are freed, durably, before anything is appended;
 *   - and a header or the control record proves that it was durable: damage. The
 *     epoch is incomplete: what is not found in older epochs is EIO. What follows
 *     is kept.
 *
 * Control context, before the store is live; no lock is needed.
 */
#include "store.h"

/* One segment of a log, in the order of generations. */
struct found {
	struct cow_log *log;
	u64 generation;
	u64 segment;
	u64 first_sequence; /* 0: nothing valid in it */
	bool unreadable; /* a block of it could not be read, at one time or another */
};

struct loader {
	struct cow_store *store;
	char *image; /* one segment */
	struct found *found; /* all live segments, by log, then generation */
	u64 nr_found;
	struct cow_record *records;
	u32 *crc;
	struct list_head discarded; /* segments behind the end of a log */
	/* of the log being read */
	u64 first, end; /* its part of found[] */
	u64 expected; /* sequence; 0: any */
	u64 proof; /* all up to here were durable */
	bool proof_known;
	u64 first_scanned; /* of found[] */
	u32 activation; /* of the last batch taken */
	char *why;
};

/* ------------------------------------------------------- segment owners --- */

static int load_table(struct loader *loader, struct cow_table_block *table, char *images)
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

static int load_tables(struct loader *loader)
{
	u64 i;
	int r = 0;

	for (i = 0; i < loader->store->nr_tables && !r; i++)
		r = load_table(loader, &loader->store->tables[i], loader->image);
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
	const struct found *a = left, *b = right;

	if (a->log != b->log)
		return compare_logs(a->log, b->log);
	if (a->generation != b->generation)
		return a->generation < b->generation ? -1 : 1;
	return 0;
}

/* Give every segment to its owner; those with a live one go into found[]. */
static int sort_segments(struct loader *loader)
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
		struct found *found = &loader->found[loader->nr_found];
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

/* -------------------------------------------------------------- records --- */

static int enter_record(struct loader *loader, struct cow_log *log, u64 number,
			struct cow_record record)
{
	struct cow_store *store = loader->store;
	u32 left = record.length;

	if (record.block + record.length > log->origin->blocks)
		return -EUCLEAN;
	while (left) {
		u32 nodes;

		record.length = min_t(u32, left, COW_WINDOW_BLOCKS);
		nodes = cow_index_worst_nodes(cow_index_run_entries(record.block, record.length));
		if (!cow_nodes_reserve(store, nodes))
			return -ENOMEM;
		cow_log_enter(log, store->segments[number].owner.epoch, number, &record, nodes);
		record.block += record.length;
		record.position += record.length;
		left -= record.length;
	}
	return 0;
}

/* Records that were found in a segment: checksums, then the index. */
static int enter_records(struct loader *loader, struct cow_log *log, u64 number, u32 records)
{
	struct cow_sums *sums = loader->store->segments[number].sums;
	u32 i, b, done = 0;
	int r = 0;

	for (i = 0; i < records && !r; i++) {
		const struct cow_record *record = &loader->records[i];

		for (b = record->position; b < (u32)record->position + record->length; b++) {
			sums->crc[b] = loader->crc[done++];
			if (record->flags & COWSNAP_RECORD_UNREADABLE)
				sums->unreadable[b / 64] |= 1ull << (b % 64);
		}
		r = enter_record(loader, log, number, *record);
	}
	return r;
}

static void damaged(struct loader *loader, struct cow_log *log, u64 number)
{
	struct cow_store *store = loader->store;
	struct cow_snapshot *snapshot;
	struct cow_epoch *epoch;

	store->damaged_blocks++;
	/* what proves the loss must stay as long as what was lost matters */
	log->incomplete = true;
	if (log->overlay) {
		log->overlay->incomplete = true;
		log->overlay->snapshot->damaged = true;
	} else {
		epoch = cow_epoch_find(log->origin, store->segments[number].owner.epoch);
		log->origin->nr_incomplete += !epoch->incomplete;
		epoch->incomplete = true;
		list_for_each_entry(snapshot, &log->origin->snapshots, list)
			if (snapshot->epoch <= epoch->number)
				snapshot->damaged = true;
	}
	store->ops->event(store, COWSNAP_EVENT_DAMAGE, log->origin->id);
}

/* ------------------------------------------------------------ summaries --- */

/* The summary of found[@i], if it is valid and of this allocation. */
static bool read_summary(struct loader *loader, u64 i, struct cow_summary_info *info)
{
	struct cow_store *store = loader->store;
	const struct found *found = &loader->found[i];
	const struct cow_owner *owner = &store->segments[found->segment].owner;
	u32 blocks = COWSNAP_SUMMARY_BLOCKS(store->super.segment_blocks);
	u64 block = cow_super_segment_block(&store->super, found->segment) +
		    cow_log_usable_blocks(store);

	if (store->ops->read(store, block, blocks, loader->image))
		return false;
	if (cow_summary_decode(loader->image, store->super.segment_blocks, store->super.uuid, info,
			       loader->records, loader->crc))
		return false;
	return info->segment == found->segment && info->generation == owner->generation &&
	       info->epoch == owner->epoch && info->origin == owner->origin;
}

static int load_summary(struct loader *loader, u64 i, const struct cow_summary_info *info)
{
	struct found *found = &loader->found[i];
	int r = enter_records(loader, found->log, found->segment, info->records);

	if (r)
		return r;
	loader->store->segments[found->segment].summarized = !found->log->incomplete;
	found->first_sequence = info->segment_sequence;
	loader->expected = info->sequence + 1;
	loader->proof = max(loader->proof, info->durable_sequence);
	found->log->durable_sequence = info->sequence;
	return 0;
}

/* ------------------------------------------------------------- scanning --- */

/* The whole of found[@found_index] into loader->image; what cannot be read is zero. */
static void read_segment(struct loader *loader, u64 found_index)
{
	struct found *found = &loader->found[found_index];
	struct cow_store *store = loader->store;
	u64 block = cow_super_segment_block(&store->super, found->segment);
	u32 blocks = store->super.segment_blocks;
	u32 i;

	if (!store->ops->read(store, block, blocks, loader->image))
		return;
	for (i = 0; i < blocks; i++) {
		char *at = loader->image + (u64)i * COWSNAP_DISK_BLOCK_SIZE;

		if (store->ops->read(store, block + i, 1, at)) {
			memset(at, 0, COWSNAP_DISK_BLOCK_SIZE);
			found->unreadable = true;
		}
	}
}

/* Is there a header of this very segment, allocation and place at @position? */
static bool read_header(const struct loader *loader, u64 i, u32 position,
			struct cow_batch_info *info)
{
	const struct cow_store *store = loader->store;
	const struct found *found = &loader->found[i];
	const struct cow_owner *owner = &store->segments[found->segment].owner;

	return !cow_batch_decode(loader->image + (u64)position * COWSNAP_DISK_BLOCK_SIZE,
				 store->super.uuid, store->super.segment_blocks, info) &&
	       info->segment == found->segment && info->generation == owner->generation &&
	       info->position == position && info->epoch == owner->epoch &&
	       info->origin == owner->origin;
}

static bool data_valid(const struct loader *loader, const struct cow_batch_info *info)
{
	const char *header = loader->image + (u64)info->position * COWSNAP_DISK_BLOCK_SIZE;
	u32 b;

	for (b = 0; b < info->blocks; b++)
		if (cow_crc32c(0, header + (1ull + b) * COWSNAP_DISK_BLOCK_SIZE,
			       COWSNAP_DISK_BLOCK_SIZE) != cow_batch_crc(header, b))
			return false;
	return true;
}

/*
 * What is provably durable, from found[@from] to the log's last segment, and the
 * first sequence of each of them.
 */
static void find_proof(struct loader *loader, u64 from)
{
	struct cow_store *store = loader->store;
	struct cow_log *log = loader->found[from].log;
	u64 i;
	u32 p;

	if (!log->overlay && !list_empty(&log->origin->snapshots))
		loader->proof = max(loader->proof,
				    list_last_entry(&log->origin->snapshots, struct cow_snapshot,
						    list)->sequence - 1);
	for (i = from; i < loader->end; i++) {
		struct cow_summary_info summary;
		struct cow_batch_info info;

		if (read_summary(loader, i, &summary)) {
			loader->found[i].first_sequence = summary.segment_sequence;
			loader->proof = max(loader->proof, summary.durable_sequence);
			continue;
		}
		read_segment(loader, i);
		for (p = 0; p < cow_log_usable_blocks(store); p++) {
			if (!read_header(loader, i, p, &info))
				continue;
			loader->found[i].first_sequence = info.segment_sequence;
			loader->proof = max(loader->proof, info.durable_sequence);
		}
	}
	loader->proof_known = true;
	loader->first_scanned = from;
}

/* First sequence in the next segment of the log that has anything; 0: none. */
static u64 next_first_sequence(const struct loader *loader, u64 i)
{
	for (i++; i < loader->end; i++)
		if (loader->found[i].first_sequence)
			return loader->found[i].first_sequence;
	return 0;
}

/*
 * What was cut off behind the log's end once, and never written over, because the log
 * went on in the next segment: its sequence was used again there.
 */
static bool stale(const struct loader *loader, u64 i, const struct cow_batch_info *info)
{
	u64 next = next_first_sequence(loader, i);

	return next && info->sequence >= next;
}

/*
 * Behind damage at @position: the batch to go on with, the one with the smallest
 * sequence, of the latest activation. False when there is none.
 */
static bool find_next_header(const struct loader *loader, u64 i, u32 position,
			     struct cow_batch_info *best)
{
	struct cow_batch_info info;
	bool any = false;
	u32 p;

	for (p = position + 1; p < cow_log_usable_blocks(loader->store); p++) {
		if (!read_header(loader, i, p, &info) || info.sequence <= loader->expected ||
		    info.activation < loader->activation || stale(loader, i, &info))
			continue;
		if (any && (info.sequence > best->sequence ||
			    (info.sequence == best->sequence &&
			     info.activation < best->activation)))
			continue;
		*best = info;
		any = true;
	}
	return any;
}

/* Something could not be read from found[@i] on that may belong to the log. */
static bool end_unreadable(const struct loader *loader, u64 i)
{
	for (; i < loader->end; i++)
		if (loader->found[i].unreadable)
			return true;
	return false;
}

struct scan {
	struct cow_summary_data *summary;
	u32 position;
	bool incomplete;
	bool ended; /* the log ends in this segment */
};

static int take_batch(struct loader *loader, u64 i, const struct cow_batch_info *info,
		      struct scan *scan)
{
	struct cow_log *log = loader->found[i].log;
	const char *header = loader->image + (u64)info->position * COWSNAP_DISK_BLOCK_SIZE;
	struct cow_summary_data *summary = scan->summary;

	if (summary->info.records + info->records > COW_SUMMARY_MAX_RECORDS)
		return -EUCLEAN;
	cow_batch_unpack(header, loader->records, loader->crc);
	memcpy(&summary->records[summary->info.records], loader->records,
	       info->records * sizeof(*loader->records));
	summary->info.records += info->records;
	summary->info.blocks += info->blocks;
	summary->info.segment_sequence = info->segment_sequence;
	summary->info.sequence = info->sequence;
	scan->position = info->position + 1 + info->blocks;
	loader->activation = info->activation;
	loader->expected = info->sequence + 1;
	log->durable_sequence = info->sequence;
	if (info->records)
		log->data_sequence = info->sequence;
	return enter_records(loader, log, loader->found[i].segment, info->records);
}

/* May the batch be taken as the next one of the log? */
static bool acceptable(const struct loader *loader, u64 i, const struct cow_batch_info *info)
{
	if (info->sequence != loader->expected || stale(loader, i, info))
		return false;
	if (info->activation < loader->activation)
		return false;
	return info->sequence <= loader->proof || data_valid(loader, info);
}

/*
 * Nothing is in it, nor behind it, and what is proven may have been in segments
 * before it that were freed. Had it been used, it would have a mark or a summary
 * as well.
 */
static bool never_used(const struct loader *loader, u64 i)
{
	return i == loader->first_scanned && !loader->found[i].first_sequence &&
	       !next_first_sequence(loader, i);
}

/*
 * The next batch is not there. Decide what that means: 1 go on scanning (at
 * scan->position), 0 this segment is done, negative an error.
 */
static int scan_gap(struct loader *loader, u64 i, struct scan *scan)
{
	u64 next = next_first_sequence(loader, i);
	struct cow_batch_info info = { 0 };

	if (next && next == loader->expected)
		return 0;
	if (loader->expected > loader->proof || never_used(loader, i)) {
		if (end_unreadable(loader, i)) {
			snprintf(loader->why, COW_WHY_BYTES,
				 "the end of a log in segment %llu cannot be read",
				 (unsigned long long)loader->found[i].segment);
			return -EIO;
		}
		scan->ended = true;
		return 0;
	}
	scan->incomplete = true;
	if (find_next_header(loader, i, scan->position, &info)) {
		scan->position = info.position;
		loader->expected = info.sequence;
		return 1;
	}
	if (next > loader->expected)
		loader->expected = next;
	else
		loader->expected = loader->proof + 1;
	return 0;
}

static int scan_segment(struct loader *loader, u64 i, struct scan *scan)
{
	u32 usable = cow_log_usable_blocks(loader->store);
	struct cow_batch_info info;
	int r;

	read_segment(loader, i);
	for (;;) {
		if (scan->position < usable && read_header(loader, i, scan->position, &info) &&
		    acceptable(loader, i, &info)) {
			r = take_batch(loader, i, &info, scan);
			if (r)
				return r;
			continue;
		}
		r = scan_gap(loader, i, scan);
		if (r <= 0)
			return r;
	}
}

/* -------------------------------------------------------- log by log --- */

/* The log goes on where it ended, or its last segment is closed. */
static void end_of_log(struct loader *loader, struct cow_log *log, u64 number, struct scan *scan)
{
	struct cow_segment *segment = &loader->store->segments[number];
	u64 epoch = log->overlay ? log->overlay->snapshot->epoch :
				   cow_origin_newest_epoch(log->origin);

	if (scan->incomplete)
		return;
	log->segment = number;
	log->fill = scan->position;
	log->segment_sequence = scan->summary->info.segment_sequence;
	log->segment_epoch = segment->owner.epoch;
	log->summary = scan->summary;
	segment->state = COW_SEGMENT_OPEN;
	scan->summary = NULL;
	if (segment->owner.epoch != epoch)
		cow_log_close_segment(log);
}

/* Behind the end: forget it, on the store too. */
static void discard(struct loader *loader, u64 i)
{
	struct cow_store *store = loader->store;
	u64 number = loader->found[i].segment;
	struct cow_segment *segment = &store->segments[number];

	segment->owner.kind = COWSNAP_OWNER_FREE;
	segment->orphan = true;
	cow_table_change(store, number);
	list_move_tail(&segment->list, &loader->discarded);
}

/* No batch of this epoch has a smaller sequence: the control record says so. */
static u64 epoch_sequence(const struct cow_log *log, u64 epoch)
{
	const struct cow_snapshot *snapshot;

	if (log->overlay)
		return 0;
	list_for_each_entry_reverse(snapshot, &log->origin->snapshots, list)
		if (snapshot->epoch <= epoch)
			return snapshot->sequence;
	return 0;
}

static int load_scanned(struct loader *loader, u64 i, bool *ended)
{
	struct found *found = &loader->found[i];
	struct cow_log *log = found->log;
	const struct cow_owner *owner;
	struct scan scan = { .summary = cow_alloc(sizeof(*scan.summary)) };
	int r;

	if (!scan.summary)
		return -ENOMEM;
	if (!loader->proof_known) {
		find_proof(loader, i);
		/* segments between those with summaries and this one were freed */
		if (found->first_sequence)
			loader->expected = found->first_sequence;
		else if (!loader->expected)
			loader->expected = max_t(u64, 1, next_first_sequence(loader, i)) - 1;
		owner = &loader->store->segments[found->segment].owner;
		loader->expected = max(loader->expected, epoch_sequence(log, owner->epoch));
	}
	r = scan_segment(loader, i, &scan);
	if (r)
		goto out;
	log->next_sequence = max(log->next_sequence, loader->expected);
	if (scan.incomplete)
		damaged(loader, log, found->segment);
	*ended = scan.ended;
	if (!scan.position && !scan.incomplete) {
		/* unused: never written to, or nothing of it was durable */
		discard(loader, i);
	} else if (scan.ended || !next_first_sequence(loader, i)) {
		*ended = true;
		end_of_log(loader, log, found->segment, &scan);
	} else if (!scan.incomplete) {
		/* closed, but its summary did not make it: the engine writes it */
		log->next_sequence = loader->expected;
		end_of_log(loader, log, found->segment, &scan);
		cow_log_close_segment(log);
	}
out:
	cow_free(scan.summary);
	return r;
}

static int load_log(struct loader *loader)
{
	struct cow_log *log = loader->found[loader->first].log;
	struct cow_summary_info info;
	bool ended = false;
	u64 i;
	int r = 0;

	loader->expected = 0;
	loader->proof = 0;
	loader->activation = 0;
	loader->proof_known = false;
	for (i = loader->first; i < loader->end && !r; i++) {
		if (ended)
			discard(loader, i);
		else if (read_summary(loader, i, &info))
			r = load_summary(loader, i, &info);
		else
			r = load_scanned(loader, i, &ended);
	}
	log->next_sequence = max3(log->next_sequence, loader->expected, loader->proof + 1);
	if (log->next_sequence > 1)
		log->durable_sequence = log->next_sequence - 1;
	return r;
}

static int load_logs(struct loader *loader)
{
	u64 i;
	int r = 0;

	for (i = 0; i < loader->nr_found && !r; i = loader->end) {
		loader->first = i;
		for (loader->end = i; loader->end < loader->nr_found; loader->end++)
			if (loader->found[loader->end].log != loader->found[i].log)
				break;
		r = load_log(loader);
	}
	return r;
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
			;
	}
}

/* On the store first: the activation, then what was cut off. Then they are free. */
static int make_durable(struct loader *loader)
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
	if (r) {
		snprintf(loader->why, COW_WHY_BYTES, "the store cannot be written (%d)", r);
		return r;
	}
	store->activation++;
	list_for_each_entry_safe(segment, next, &loader->discarded, list)
		cow_segment_release(store, cow_segment_number(store, segment));
	return 0;
}

static int open_with(struct loader *loader)
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
		r = load_logs(loader);
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
	struct loader loader = { .store = store, .why = why };
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
