// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reading the logs at activation.
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
 *     is kept. What is missing may have been in the segments that follow, too, up to
 *     the first in which there is anything: so are their epochs.
 */
#include "recover.h"

/* -------------------------------------------------------------- records --- */

/* Of an overlay: what a block had before is dead, so that one goes in after the other. */
static int enter_overlay(struct cow_loader *loader, struct cow_log *log, u64 number,
			 struct cow_record record)
{
	struct cow_store *store = loader->store;
	u32 left = record.length;

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

static void enter_sums(struct cow_sums *sums, const struct cow_record *record, const u32 *crc)
{
	u32 b, end = (u32)record->position + record->length;

	for (b = record->position; b < end; b++)
		sums->crc[b] = *crc++;
	if (!(record->flags & COWSNAP_RECORD_UNREADABLE))
		return;
	for (b = record->position; b < end; b++)
		sums->unreadable[b / 64] |= 1ull << (b % 64);
}

/*
 * Records that were found in a segment: checksums, then the index. Those of an origin's log
 * go in at once, when all of the log was read.
 */
static int enter_records(struct cow_loader *loader, struct cow_log *log, u64 number, u32 records)
{
	struct cow_segment *segment = &loader->store->segments[number];
	u64 first_block = cow_super_segment_block(&loader->store->super, number);
	const struct cow_record *record = loader->records, *end = record + records;
	u64 epoch = segment->owner.epoch, origin_blocks = log->origin->blocks;
	const u32 *crc = loader->crc;
	int r = 0;

	for (; record < end && !r; record++) {
		enter_sums(segment->sums, record, crc);
		crc += record->length;
		if (record->block + record->length > origin_blocks)
			r = -EUCLEAN;
		else if (log->overlay)
			r = enter_overlay(loader, log, number, *record);
		else
			r = cow_bulk_add(&loader->bulk, record->block, record->length, epoch,
					 first_block + record->position);
	}
	if (!log->overlay) {
		segment->live += crc - loader->crc;
		cow_epoch_find(log->origin, epoch)->live += crc - loader->crc;
	}
	return r;
}

static void damaged(struct cow_loader *loader, struct cow_log *log, u64 number)
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

#define COW_SUMMARIES_AHEAD 64u

static u64 summary_block(const struct cow_loader *loader, u64 i)
{
	const struct cow_store *store = loader->store;

	return cow_super_segment_block(&store->super, loader->found[i].segment) +
	       cow_log_usable_blocks(store);
}

/* Those that are read next. */
static void summaries_ahead(struct cow_loader *loader, u64 i)
{
	struct cow_store *store = loader->store;

	for (; loader->ahead < min(loader->nr_found, i + COW_SUMMARIES_AHEAD); loader->ahead++)
		cow_store_read_ahead(store, summary_block(loader, loader->ahead),
				     COWSNAP_SUMMARY_BLOCKS(store->super.segment_blocks));
}

/* The summary of found[@i], if it is valid and of this allocation. */
static bool read_summary(struct cow_loader *loader, u64 i, struct cow_summary_info *info)
{
	struct cow_store *store = loader->store;
	const struct cow_found *found = &loader->found[i];
	const struct cow_owner *owner = &store->segments[found->segment].owner;
	u32 blocks = COWSNAP_SUMMARY_BLOCKS(store->super.segment_blocks);

	summaries_ahead(loader, i);
	if (store->ops->read(store, summary_block(loader, i), blocks, loader->image))
		return false;
	if (cow_summary_decode(loader->image, store->super.segment_blocks, store->super.uuid, info,
			       loader->records, loader->crc))
		return false;
	return info->segment == found->segment && info->generation == owner->generation &&
	       info->epoch == owner->epoch && info->origin == owner->origin;
}

static int load_summary(struct cow_loader *loader, u64 i, const struct cow_summary_info *info)
{
	struct cow_found *found = &loader->found[i];
	int r = enter_records(loader, found->log, found->segment, info->records);

	if (r)
		return r;
	loader->store->segments[found->segment].summarized = !found->log->incomplete;
	found->first_sequence = info->segment_sequence;
	loader->expected = info->sequence + 1;
	loader->lost = false;
	loader->proof = max(loader->proof, info->durable_sequence);
	found->log->durable_sequence = info->sequence;
	return 0;
}

/* ------------------------------------------------------------- scanning --- */

/* The whole of found[@found_index] into loader->image; what cannot be read is zero. */
static void read_segment(struct cow_loader *loader, u64 found_index)
{
	struct cow_found *found = &loader->found[found_index];
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
static bool read_header(const struct cow_loader *loader, u64 i, u32 position,
			struct cow_batch_info *info)
{
	const struct cow_store *store = loader->store;
	const struct cow_found *found = &loader->found[i];
	const struct cow_owner *owner = &store->segments[found->segment].owner;

	return !cow_batch_decode(loader->image + (u64)position * COWSNAP_DISK_BLOCK_SIZE,
				 store->super.uuid, store->super.segment_blocks, info) &&
	       info->segment == found->segment && info->generation == owner->generation &&
	       info->position == position && info->epoch == owner->epoch &&
	       info->origin == owner->origin;
}

static bool data_valid(const struct cow_loader *loader, const struct cow_batch_info *info)
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
static void find_proof(struct cow_loader *loader, u64 from)
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
static u64 next_first_sequence(const struct cow_loader *loader, u64 i)
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
static bool stale(const struct cow_loader *loader, u64 i, const struct cow_batch_info *info)
{
	u64 next = next_first_sequence(loader, i);

	return next && info->sequence >= next;
}

/*
 * Behind damage at @position: the batch to go on with, the one with the smallest
 * sequence, of the latest activation. False when there is none.
 */
static bool find_next_header(const struct cow_loader *loader, u64 i, u32 position,
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

/*
 * The log ends in found[@i] as far as it can be read. What cannot be read may belong to
 * it: nothing of that may be cut off, nor its sequence used again.
 */
static int end_readable(struct cow_loader *loader, u64 i)
{
	const u64 segment = loader->found[i].segment;

	for (; i < loader->end; i++) {
		if (!loader->found[i].unreadable)
			continue;
		snprintf(loader->why, COW_WHY_BYTES,
			 "the end of a log in segment %llu cannot be read",
			 (unsigned long long)segment);
		return -EIO;
	}
	return 0;
}

struct scan {
	struct cow_summary_data *summary;
	u32 position;
	bool incomplete;
	bool ended; /* the log ends in this segment */
};

static int take_batch(struct cow_loader *loader, u64 i, const struct cow_batch_info *info,
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
	loader->lost = false;
	log->durable_sequence = info->sequence;
	if (info->records)
		log->data_sequence = info->sequence;
	return enter_records(loader, log, loader->found[i].segment, info->records);
}

/* May the batch be taken as the next one of the log? */
static bool acceptable(const struct cow_loader *loader, u64 i, const struct cow_batch_info *info)
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
static bool never_used(const struct cow_loader *loader, u64 i)
{
	return i == loader->first_scanned && !loader->found[i].first_sequence &&
	       !next_first_sequence(loader, i);
}

/*
 * The next batch is not there. Decide what that means: 1 go on scanning (at
 * scan->position), 0 this segment is done, negative an error.
 */
static int scan_gap(struct cow_loader *loader, u64 i, struct scan *scan)
{
	u64 next = next_first_sequence(loader, i);
	struct cow_batch_info info = { 0 };

	if (loader->lost && !loader->found[i].first_sequence) {
		scan->incomplete = true;
		return 0;
	}
	if (next && next == loader->expected)
		return 0;
	if (loader->expected > loader->proof || never_used(loader, i)) {
		scan->ended = true;
		return 0;
	}
	scan->incomplete = true;
	if (find_next_header(loader, i, scan->position, &info)) {
		scan->position = info.position;
		loader->expected = info.sequence;
		return 1;
	}
	loader->lost = true;
	if (next > loader->expected)
		loader->expected = next;
	else
		loader->expected = loader->proof + 1;
	return 0;
}

static int scan_segment(struct cow_loader *loader, u64 i, struct scan *scan)
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
static void end_of_log(struct cow_loader *loader, struct cow_log *log, u64 number,
		       struct scan *scan)
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
static void discard(struct cow_loader *loader, u64 i)
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

static int load_scanned(struct cow_loader *loader, u64 i, bool *ended)
{
	struct cow_found *found = &loader->found[i];
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
	if (!r && (scan.ended || !next_first_sequence(loader, i)))
		r = end_readable(loader, i);
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
		*ended = scan.ended || !loader->lost;
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

static int load_log(struct cow_loader *loader)
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
	loader->lost = false;
	cow_bulk_init(&loader->bulk, &log->origin->index);
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
	if (!r && !log->overlay)
		r = cow_bulk_build(&loader->bulk);
	cow_bulk_drop(&loader->bulk);
	return r;
}

int cow_recover_logs(struct cow_loader *loader)
{
	u64 i;
	int r = 0;

	loader->ahead = 0;
	for (i = 0; i < loader->nr_found && !r; i = loader->end) {
		loader->first = i;
		for (loader->end = i; loader->end < loader->nr_found; loader->end++)
			if (loader->found[loader->end].log != loader->found[i].log)
				break;
		r = load_log(loader);
	}
	cow_pool_trim(&loader->store->pool);
	return r;
}
