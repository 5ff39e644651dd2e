// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control record: which origins and snapshots there are. Changes are
 * transactions in a journal, each block of which is written twice; when the
 * journal is full, the whole state goes into two checkpoints, one after the other,
 * and the journal starts again. Control context.
 */
#include "store.h"

/* No set comes to have this number. */
#define MAX_SET (1ull << 63)

static u64 checkpoint_block(const struct cow_store *store, u32 slot)
{
	return store->super.control_block + (u64)slot * store->super.checkpoint_blocks;
}

static u64 journal_block(const struct cow_store *store, u32 position)
{
	return store->super.control_block + 2ull * store->super.checkpoint_blocks + position;
}

static u64 checkpoint_capacity(const struct cow_store *store)
{
	return (store->super.checkpoint_blocks - 1ull) *
	       (COWSNAP_DISK_BLOCK_SIZE / sizeof(struct cowsnap_disk_op));
}

/* ---------------------------------------------------------- checkpoints --- */

static u64 count_ops(const struct cow_store *store)
{
	u64 ops = 1 + store->nr_origins + store->nr_snapshots;
	const struct cow_snapshot *snapshot;
	const struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list)
		ops += (origin->front.state != COW_FRONT_UNKNOWN) + origin->nr_places +
		       (origin->rollback.state != COW_ROLLBACK_NONE);
	list_for_each_entry(snapshot, &store->snapshots, all)
		ops += snapshot->lost;
	return ops;
}

void cow_op_of_snapshot(struct cow_op *op, const struct cow_snapshot *snapshot)
{
	op->op = COWSNAP_OP_CREATE;
	op->snapshot = snapshot->id;
	op->origin = snapshot->origin->id;
	op->epoch = snapshot->epoch;
	op->sequence = snapshot->sequence;
	op->created = snapshot->created;
	op->set = snapshot->set;
	op->flags = snapshot->stale ? COWSNAP_OP_FLAG_STALE : 0;
}

/* The state as ops, @ops zeroed and large enough. Snapshots rise in epoch per origin. */
static void collect_ops(const struct cow_store *store, struct cow_op *ops)
{
	const struct cow_snapshot *snapshot;
	const struct cow_origin *origin;
	struct cow_op *op = ops;

	op->op = COWSNAP_OP_COUNTERS;
	op->epoch = store->next_epoch;
	op->set = store->next_set;
	op->activation = store->activation;
	op++;
	list_for_each_entry(origin, &store->origins, list) {
		op->op = COWSNAP_OP_ORIGIN;
		op->origin = origin->id;
		op->size_sectors = origin->size_sectors;
		op++;
		cow_front_place_ops(op, origin);
		op += origin->nr_places;
		if (cow_front_op(op, origin))
			op++;
		list_for_each_entry(snapshot, &origin->snapshots, list) {
			cow_op_of_snapshot(op++, snapshot);
			if (snapshot->lost) {
				op->op = COWSNAP_OP_LOST;
				op->snapshot = snapshot->id;
				op++;
			}
		}
		if (origin->rollback.state != COW_ROLLBACK_NONE)
			cow_rollback_op(op++, origin);
	}
}

static int write_checkpoint_slot(struct cow_store *store, u32 slot, void *image, u32 op_blocks)
{
	int r = store->ops->write(store, checkpoint_block(store, slot) + 1, op_blocks,
				  (char *)image + COWSNAP_DISK_BLOCK_SIZE);

	return r ?: store->ops->write(store, checkpoint_block(store, slot), 1, image);
}

/*
 * Into both slots, the one with the older state first: the journal that follows is
 * written over the transactions that would lead from an old checkpoint to here.
 */
static int write_checkpoint(struct cow_store *store)
{
	u64 nr_ops = count_ops(store);
	u32 op_blocks = DIV_ROUND_UP(nr_ops * sizeof(struct cowsnap_disk_op),
				     (u64)COWSNAP_DISK_BLOCK_SIZE);
	u32 slot = !store->checkpoint_slot;
	struct cow_op *ops;
	void *image;
	int r = -ENOMEM;

	if (nr_ops > checkpoint_capacity(store))
		return -ENOSPC;
	ops = cow_alloc(nr_ops * sizeof(*ops));
	image = cow_alloc((1ull + op_blocks) * COWSNAP_DISK_BLOCK_SIZE);
	if (ops && image) {
		void *body = (char *)image + COWSNAP_DISK_BLOCK_SIZE;

		collect_ops(store, ops);
		cow_checkpoint_encode_ops(body, ops, nr_ops);
		cow_checkpoint_encode(image, store->super.uuid, store->transaction, nr_ops, body);
		r = write_checkpoint_slot(store, slot, image, op_blocks);
		if (!r) {
			/* whatever becomes of the other one */
			store->checkpoint_slot = slot;
			r = write_checkpoint_slot(store, !slot, image, op_blocks);
		}
	}
	cow_free(ops);
	cow_free(image);
	if (!r)
		store->journal_fill = 0;
	return r;
}

/* -------------------------------------------------------------- journal --- */

/* Room for a transaction of @ops ops, so that committing it is one write. */
int cow_control_room(struct cow_store *store, u32 ops)
{
	u32 blocks = DIV_ROUND_UP(ops, COWSNAP_OPS_PER_BLOCK);

	BUILD_BUG_ON(DIV_ROUND_UP(COWSNAP_SET_MAX, COWSNAP_OPS_PER_BLOCK) >
		     COWSNAP_TRANSACTION_MAX_BLOCKS);
	BUILD_BUG_ON(DIV_ROUND_UP(COWSNAP_DELETE_MAX, COWSNAP_OPS_PER_BLOCK) >
		     COWSNAP_TRANSACTION_MAX_BLOCKS);
	if (blocks > COWSNAP_TRANSACTION_MAX_BLOCKS)
		return -E2BIG;
	if (store->journal_fill + 2 * blocks <= store->super.journal_blocks)
		return 0;
	return write_checkpoint(store);
}

/* Each origin may come to need a FRONT op as well, each snapshot a LOST op. */
static u32 growth(struct cow_store *store, const struct cow_op *op)
{
	switch (op->op) {
	case COWSNAP_OP_CREATE:
	case COWSNAP_OP_ORIGIN:
		return 2;
	case COWSNAP_OP_WATCH:
		return 1;
	case COWSNAP_OP_ROLLBACK:
		return cow_origin_find(store, op->origin)->rollback.state == COW_ROLLBACK_NONE;
	default:
		return 0;
	}
}

/* True when so many more ops fit into a checkpoint. */
static bool capacity_left(const struct cow_store *store, u32 more)
{
	u64 ops = 1 + 2ull * store->nr_origins + 2ull * store->nr_snapshots + more;
	const struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list)
		ops += origin->nr_places + (origin->rollback.state != COW_ROLLBACK_NONE);
	return ops <= checkpoint_capacity(store);
}

/* Into the journal, where there must be room. */
static int write_transaction(struct cow_store *store, const struct cow_op *ops, u32 count)
{
	u32 blocks = max_t(u32, 1, DIV_ROUND_UP(count, COWSNAP_OPS_PER_BLOCK));
	char *image = cow_alloc(2ull * blocks * COWSNAP_DISK_BLOCK_SIZE);
	u32 i;
	int r;

	if (!image)
		return -ENOMEM;
	for (i = 0; i < blocks; i++) {
		char *block = image + 2ull * i * COWSNAP_DISK_BLOCK_SIZE;
		u32 first = i * COWSNAP_OPS_PER_BLOCK;

		cow_journal_encode(block, store->super.uuid, store->transaction + 1, i, blocks,
				   ops + first, min_t(u32, COWSNAP_OPS_PER_BLOCK, count - first));
		memcpy(block + COWSNAP_DISK_BLOCK_SIZE, block, COWSNAP_DISK_BLOCK_SIZE);
	}
	r = store->ops->write(store, journal_block(store, store->journal_fill), 2 * blocks, image);
	cow_free(image);
	store->failed_blocks = r ? blocks : 0;
	if (r)
		return r;
	store->journal_fill += 2 * blocks;
	store->transaction++;
	return 0;
}

/*
 * Make the ops durable, all or none. When the journal cannot be written it is not
 * known whether they are: the store is broken then.
 */
int cow_control_commit(struct cow_store *store, const struct cow_op *ops, u32 count)
{
	u32 i, grows = 0;
	int r;

	if (store->broken)
		return -EIO;
	for (i = 0; i < count; i++) {
		/* what an activation would refuse must not get into the record */
		if (!cow_op_valid(&ops[i]))
			return -EINVAL;
		grows += growth(store, &ops[i]);
	}
	if (grows && !capacity_left(store, grows))
		return -ENOSPC;
	r = cow_control_room(store, count);
	if (r)
		return r;
	r = write_transaction(store, ops, count);
	if (r && r != -ENOMEM) {
		store->ops->engine_enter(store);
		cow_store_fail(store);
		store->ops->engine_leave(store);
	}
	return r;
}

/*
 * All snapshots are lost in memory already, and a checkpoint says so. Its number
 * skips one: a transaction whose write failed may be in the journal nevertheless,
 * and must not be replayed on top.
 */
static int checkpoint_loss(struct cow_store *store)
{
	int r;

	store->transaction++;
	r = write_checkpoint(store);
	if (r)
		store->transaction--;
	return r;
}

/*
 * The same in the journal; over the transaction whose write failed, if one did. It
 * has the same number, and another length, so that blocks of both cannot be taken
 * for one: it is said as often as that needs.
 */
static int journal_loss(struct cow_store *store)
{
	u32 left = min_t(u32, (store->super.journal_blocks - store->journal_fill) / 2,
			 COWSNAP_TRANSACTION_MAX_BLOCKS);
	u32 blocks = DIV_ROUND_UP(store->nr_snapshots, COWSNAP_OPS_PER_BLOCK);
	struct cow_snapshot *snapshot;
	struct cow_op *ops;
	u32 count = 0, i;
	int r;

	if (blocks > 1 && blocks == store->failed_blocks)
		blocks++;
	if (blocks > left)
		return -ENOSPC;
	ops = cow_alloc(((u64)blocks * COWSNAP_OPS_PER_BLOCK + 1) * sizeof(*ops));
	if (!ops)
		return -ENOMEM;
	list_for_each_entry(snapshot, &store->snapshots, all) {
		ops[count].op = COWSNAP_OP_LOST;
		ops[count].snapshot = snapshot->id;
		count++;
	}
	if (blocks > DIV_ROUND_UP(count, COWSNAP_OPS_PER_BLOCK)) {
		for (i = count; i < blocks * COWSNAP_OPS_PER_BLOCK; i++)
			ops[i] = ops[i - count];
		count = i;
	}
	r = write_transaction(store, ops, count);
	cow_free(ops);
	return r;
}

void cow_store_let_go(struct cow_store *store)
{
	struct cow_origin *origin;

	store->ops->engine_enter(store);
	store->failed = true;
	list_for_each_entry(origin, &store->origins, list)
		cow_rollback_give_back(origin);
	store->retry = true; /* once: those who need nothing any more pass */
	cow_store_wake_logs(store);
	store->ops->engine_leave(store);
}

int cow_store_record_loss(struct cow_store *store)
{
	int r = checkpoint_loss(store);

	if (r)
		r = journal_loss(store);
	if (!r)
		cow_store_let_go(store);
	return r;
}

/* A create whose record was being written when the store failed counts, too. */
u64 cow_store_last_set(const struct cow_store *store)
{
	return store->next_set;
}

/* Does a rollback run whose undo snapshot is of that set? */
static bool began_with(struct cow_store *store, const struct cow_origin *origin, u64 set)
{
	const struct cow_snapshot *undo = cow_snapshot_find(store, origin->rollback.undo);

	return origin->rollback.state == COW_ROLLBACK_RUNNING && undo && undo->set == set;
}

/*
 * Rollbacks that began with the last set: what could not be recorded was their beginning.
 * Later sets have greater numbers: it was not a failure later.
 */
static u32 never_began(struct cow_store *store, u64 last_set, struct cow_op *ops)
{
	struct cow_origin *origin;
	u32 count = 0;

	list_for_each_entry(origin, &store->origins, list) {
		if (!began_with(store, origin, last_set))
			continue;
		ops[count].op = COWSNAP_OP_ROLLBACK_END;
		ops[count].origin = origin->id;
		count++;
		cow_rollback_end(origin);
	}
	return count;
}

/* The snapshots up to @last_set that are not lost yet become so, in memory. */
static u32 lose_in_memory(struct cow_store *store, u64 last_set, struct cow_op *ops)
{
	struct cow_snapshot *snapshot;
	u32 count = 0;

	store->ops->view_lock(store);
	list_for_each_entry(snapshot, &store->snapshots, all) {
		if (snapshot->lost || snapshot->set > last_set)
			continue;
		snapshot->lost = true;
		ops[count].op = COWSNAP_OP_LOST;
		ops[count].snapshot = snapshot->id;
		count++;
	}
	store->ops->view_unlock(store);
	return count;
}

/* Of which never_began() would end a rollback under those who copy for it. */
static struct cow_origin *rolls_back_attached(struct cow_store *store, u64 last_set)
{
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list)
		if (origin->shell && began_with(store, origin, last_set))
			return origin;
	return NULL;
}

/*
 * In memory first: a checkpoint that is written between two of the transactions
 * must not lose what the first one said. The counter comes last: what is cut off
 * before it is done again as a whole.
 */
int cow_store_lose(struct cow_store *store, u64 last_set, char *why)
{
	const u32 most = COWSNAP_TRANSACTION_MAX_BLOCKS * COWSNAP_OPS_PER_BLOCK;
	struct cow_origin *origin;
	struct cow_op *ops;
	u32 count, done, part;
	int r = 0;

	if (last_set >= MAX_SET) {
		snprintf(why, COW_WHY_BYTES, "no set has the number %llu",
			 (unsigned long long)last_set);
		return -EINVAL;
	}
	origin = rolls_back_attached(store, last_set);
	if (origin) {
		snprintf(why, COW_WHY_BYTES,
			 "a rollback that began with it runs in origin %u: remove its cow-origin first",
			 origin->id);
		return -EBUSY;
	}
	ops = cow_alloc((store->nr_snapshots + store->nr_origins + 1ull) * sizeof(*ops));
	if (!ops) {
		snprintf(why, COW_WHY_BYTES, "no memory");
		return -ENOMEM;
	}
	count = lose_in_memory(store, last_set, ops);
	store->ops->engine_enter(store);
	count += never_began(store, last_set, ops + count);
	store->ops->engine_leave(store);
	if (count || store->next_set <= last_set) {
		store->next_set = max(store->next_set, last_set + 1);
		ops[count].op = COWSNAP_OP_COUNTERS;
		ops[count].set = store->next_set;
		count++;
	}
	for (done = 0; done < count && !r; done += part) {
		part = min_t(u32, count - done, most);
		r = cow_control_commit(store, ops + done, part);
	}
	if (r)
		snprintf(why, COW_WHY_BYTES, "the loss of snapshots cannot be recorded (%d)", r);
	cow_free(ops);
	return r;
}

/* --------------------------------------------------------------- replay --- */

static int replay_create(struct cow_store *store, const struct cow_op *op)
{
	struct cow_origin *origin = cow_origin_find(store, op->origin);
	struct cow_snapshot *snapshot;

	if (!origin || cow_snapshot_find(store, op->snapshot) ||
	    op->epoch <= cow_origin_newest_epoch(origin))
		return -EUCLEAN;
	snapshot = cow_snapshot_new(op->snapshot);
	if (!snapshot)
		return -ENOMEM;
	snapshot->epoch = op->epoch;
	snapshot->sequence = op->sequence;
	snapshot->created = op->created;
	snapshot->set = op->set;
	snapshot->stale = op->flags & COWSNAP_OP_FLAG_STALE;
	cow_snapshot_link(origin, snapshot);
	store->next_epoch = max(store->next_epoch, op->epoch + 1);
	store->next_set = max(store->next_set, op->set + 1);
	origin->log.next_sequence = max(origin->log.next_sequence, op->sequence);
	return 0;
}

static int replay_op(struct cow_store *store, const struct cow_op *op)
{
	struct cow_snapshot *snapshot;
	struct cow_origin *origin;

	switch (op->op) {
	case COWSNAP_OP_ORIGIN:
		if (cow_origin_find(store, op->origin))
			return -EUCLEAN;
		origin = cow_origin_new(store, op->origin, op->size_sectors);
		if (!origin)
			return -ENOMEM;
		cow_origin_link(origin);
		return 0;
	case COWSNAP_OP_FORGET:
		origin = cow_origin_find(store, op->origin);
		if (!origin || origin->nr_snapshots)
			return -EUCLEAN;
		cow_origin_free(origin);
		return 0;
	case COWSNAP_OP_CREATE:
		return replay_create(store, op);
	case COWSNAP_OP_DELETE:
		snapshot = cow_snapshot_find(store, op->snapshot);
		if (!snapshot || cow_rollback_needs(snapshot))
			return -EUCLEAN;
		cow_rollback_forget_target(snapshot);
		cow_snapshot_unlink(snapshot);
		cow_snapshot_free(snapshot);
		return 0;
	case COWSNAP_OP_LOST:
		snapshot = cow_snapshot_find(store, op->snapshot);
		if (!snapshot)
			return -EUCLEAN;
		snapshot->lost = true;
		return 0;
	case COWSNAP_OP_FRONT:
	case COWSNAP_OP_STALE:
	case COWSNAP_OP_WATCH:
		origin = cow_origin_find(store, op->origin);
		if (!origin)
			return -EUCLEAN;
		if (op->op == COWSNAP_OP_WATCH)
			return cow_front_replay_place(origin, op);
		if (op->op == COWSNAP_OP_FRONT)
			cow_front_replay(origin, op);
		else
			cow_front_replay_stale(origin);
		return 0;
	case COWSNAP_OP_ROLLBACK:
	case COWSNAP_OP_ROLLBACK_END:
		origin = cow_origin_find(store, op->origin);
		return origin ? cow_rollback_replay(origin, op) : -EUCLEAN;
	case COWSNAP_OP_COUNTERS:
		store->next_epoch = max(store->next_epoch, op->epoch);
		store->next_set = max(store->next_set, op->set);
		store->activation = max_t(u32, store->activation, op->activation);
		return 0;
	}
	return -EUCLEAN;
}

static int replay_ops(struct cow_store *store, const struct cow_op *ops, u64 count)
{
	u64 i;
	int r = 0;

	for (i = 0; i < count && !r; i++)
		r = replay_op(store, &ops[i]);
	return r;
}

/* The state of one checkpoint slot; COW_VALID header, transaction and ops. */
static int load_checkpoint(struct cow_store *store, u32 slot, u64 *transaction,
			   struct cow_op **ops, u64 *nr_ops)
{
	u32 blocks = store->super.checkpoint_blocks;
	char *image = cow_alloc((u64)blocks * COWSNAP_DISK_BLOCK_SIZE);
	int r;

	*ops = NULL;
	if (!image)
		return -ENOMEM;
	r = store->ops->read(store, checkpoint_block(store, slot), blocks, image);
	if (r)
		goto out;
	r = -EUCLEAN;
	if (cow_checkpoint_decode(image, store->super.uuid, blocks, transaction, nr_ops))
		goto out;
	*ops = cow_alloc(*nr_ops * sizeof(**ops));
	r = -ENOMEM;
	if (!*ops)
		goto out;
	r = 0;
	if (cow_checkpoint_decode_ops(image, image + COWSNAP_DISK_BLOCK_SIZE, *ops))
		r = -EUCLEAN;
out:
	cow_free(image);
	return r;
}

/* @both: the other one says the same. */
static int load_newest_checkpoint(struct cow_store *store, bool *both)
{
	struct cow_op *ops[2] = {NULL, NULL};
	u64 transaction[2] = {0, 0}, nr_ops[2] = {0, 0};
	int r[2];
	int best, error;
	u32 slot;

	for (slot = 0; slot < 2; slot++)
		r[slot] = load_checkpoint(store, slot, &transaction[slot], &ops[slot],
					  &nr_ops[slot]);
	if (!r[0] && !r[1])
		best = transaction[1] > transaction[0];
	else
		best = !r[1];
	error = r[best];
	*both = !r[0] && !r[1] && transaction[0] == transaction[1];
	if (!error) {
		store->checkpoint_slot = best;
		store->transaction = transaction[best];
		error = replay_ops(store, ops[best], nr_ops[best]);
	}
	cow_free(ops[0]);
	cow_free(ops[1]);
	return error;
}

struct journal_reader {
	struct cow_store *store;
	char *image; /* the whole journal */
	struct cow_op *ops; /* of one transaction */
	u32 nr_ops;
};

/*
 * One block of a transaction: from the first copy or the second. Ops go behind
 * those already in reader->ops.
 */
static bool read_pair(struct journal_reader *reader, u32 position, u64 transaction, u16 index,
		      u16 *count)
{
	u32 copy;

	for (copy = 0; copy < 2; copy++) {
		const char *block =
			reader->image + (u64)(position + copy) * COWSNAP_DISK_BLOCK_SIZE;
		u64 found_transaction;
		u16 found_index, found_count;
		u32 nr_ops;

		if (cow_journal_decode(block, reader->store->super.uuid, &found_transaction,
				       &found_index, &found_count, reader->ops + reader->nr_ops,
				       &nr_ops))
			continue;
		if (found_transaction != transaction || found_index != index)
			continue;
		if (index && found_count != *count)
			continue;
		*count = found_count;
		reader->nr_ops += nr_ops;
		return true;
	}
	return false;
}

/* The next transaction is there, whole: its ops are in reader->ops. */
static bool read_transaction(struct journal_reader *reader, u32 *position)
{
	struct cow_store *store = reader->store;
	u16 count = 1;
	u16 i;

	reader->nr_ops = 0;
	for (i = 0; i < count; i++) {
		u32 at = *position + 2u * i;

		if (at + 2 > store->super.journal_blocks)
			return false;
		if (!read_pair(reader, at, store->transaction + 1, i, &count))
			return false;
	}
	*position += 2u * count;
	return true;
}

/* Something in the journal is newer than what could be replayed: a part is lost. */
static bool journal_damaged(const struct journal_reader *reader)
{
	const struct cow_store *store = reader->store;
	u32 i;

	for (i = 0; i < store->super.journal_blocks; i++) {
		const char *block = reader->image + (u64)i * COWSNAP_DISK_BLOCK_SIZE;
		u64 transaction;
		u16 index, count;
		u32 nr_ops;

		if (!cow_journal_decode(block, store->super.uuid, &transaction, &index, &count,
					reader->ops, &nr_ops) &&
		    transaction > store->transaction + 1)
			return true;
	}
	return false;
}

static int replay_journal(struct cow_store *store)
{
	struct journal_reader reader = { .store = store };
	u32 blocks = store->super.journal_blocks;
	u32 position = 0;
	int r = -ENOMEM;

	reader.image = cow_alloc((u64)blocks * COWSNAP_DISK_BLOCK_SIZE);
	reader.ops = cow_alloc((COWSNAP_TRANSACTION_MAX_BLOCKS + 1ull) * COWSNAP_OPS_PER_BLOCK *
			       sizeof(*reader.ops));
	if (!reader.image || !reader.ops)
		goto out;
	r = store->ops->read(store, journal_block(store, 0), blocks, reader.image);
	while (!r && read_transaction(&reader, &position)) {
		store->transaction++;
		store->journal_fill = position;
		r = replay_ops(store, reader.ops, reader.nr_ops);
	}
	if (!r && journal_damaged(&reader))
		r = -EUCLEAN;
out:
	cow_free(reader.image);
	cow_free(reader.ops);
	return r;
}

int cow_control_load(struct cow_store *store, char *why)
{
	bool both;
	int r = load_newest_checkpoint(store, &both);

	if (!r)
		r = replay_journal(store);
	/* one alone would be all there is: the next transaction makes two of it first */
	if (!r && !both)
		store->journal_fill = store->super.journal_blocks;
	if (r == -EUCLEAN)
		strscpy(why, "the store's control record is damaged; check it with cowsnap-store",
			COW_WHY_BYTES);
	else if (r)
		strscpy(why, "the store's control record cannot be read", COW_WHY_BYTES);
	return r;
}

/* Both slots and the journal of an empty store. */
int cow_control_format(struct cow_store *store)
{
	char *zero = cow_alloc(COWSNAP_DISK_BLOCK_SIZE);
	int r = 0;
	u32 i;

	if (!zero)
		return -ENOMEM;
	for (i = 0; !r && i < store->super.journal_blocks; i++)
		r = store->ops->write(store, journal_block(store, i), 1, zero);
	if (!r)
		r = store->ops->write(store, checkpoint_block(store, 0), 1, zero);
	if (!r)
		r = store->ops->write(store, checkpoint_block(store, 1), 1, zero);
	cow_free(zero);
	if (r)
		return r;
	store->checkpoint_slot = 1;
	return write_checkpoint(store);
}
