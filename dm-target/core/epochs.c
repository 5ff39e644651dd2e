// SPDX-License-Identifier: GPL-2.0-only
/*
 * Origins, epochs, snapshots and overlays: making, deleting, and the sweeping of
 * the index after a deletion.
 *
 * An epoch belongs to the newest snapshot that is not newer than it. When a
 * snapshot is deleted, its epochs thereby come to belong to the next older one,
 * and exceptions that one has already (from its own time) are dead: sweeping
 * finds them. Without an older one, nobody can see the epochs any more, and their
 * segments are freed whole. None of this needs a record beside the deletion's.
 */
#include "store.h"

/* -------------------------------------------------------------- finding --- */

struct cow_origin *cow_origin_find(struct cow_store *store, u32 id)
{
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list)
		if (origin->id == id)
			return origin;
	return NULL;
}

struct cow_snapshot *cow_snapshot_find(struct cow_store *store, u32 id)
{
	struct cow_snapshot *snapshot;

	/* newest ids are looked for most: at the end */
	list_for_each_entry_reverse(snapshot, &store->snapshots, all)
		if (snapshot->id == id)
			return snapshot;
	return NULL;
}

/* Epoch of the oldest snapshot; COW_NONE_SEGMENT-like huge when there is none. */
u64 cow_origin_oldest_epoch(const struct cow_origin *origin)
{
	if (list_empty(&origin->snapshots))
		return COWSNAP_NONE;
	return list_first_entry(&origin->snapshots, struct cow_snapshot, list)->epoch;
}

u64 cow_origin_newest_epoch(const struct cow_origin *origin)
{
	if (list_empty(&origin->snapshots))
		return COW_NO_EPOCH;
	return list_last_entry(&origin->snapshots, struct cow_snapshot, list)->epoch;
}

struct cow_epoch *cow_epoch_find(const struct cow_origin *origin, u64 number)
{
	struct cow_epoch *epoch;

	list_for_each_entry_reverse(epoch, &origin->epochs, list)
		if (epoch->number == number)
			return epoch;
	return NULL;
}

/* ------------------------------------------------------ making, freeing --- */

struct cow_origin *cow_origin_new(struct cow_store *store, u32 id, u64 size_sectors)
{
	struct cow_origin *origin = cow_alloc(sizeof(*origin));

	if (!origin)
		return NULL;
	origin->store = store;
	origin->id = id;
	origin->size_sectors = size_sectors;
	origin->blocks = DIV_ROUND_UP(size_sectors, (u64)COWSNAP_BLOCK_SECTORS);
	origin->sweep_chunk = COW_NOT_FOUND;
	INIT_LIST_HEAD(&origin->list);
	INIT_LIST_HEAD(&origin->snapshots);
	INIT_LIST_HEAD(&origin->epochs);
	cow_index_init(&origin->index, &store->pool);
	cow_log_init(&origin->log, store, origin, NULL);
	cow_rollback_init(origin);
	return origin;
}

void cow_origin_link(struct cow_origin *origin)
{
	struct cow_store *store = origin->store;
	struct cow_origin *after;

	list_for_each_entry(after, &store->origins, list)
		if (after->id > origin->id)
			break;
	list_add_tail(&origin->list, &after->list);
	store->nr_origins++;
}

void cow_origin_free(struct cow_origin *origin)
{
	struct cow_epoch *epoch, *next;

	list_for_each_entry_safe(epoch, next, &origin->epochs, list)
		cow_free(epoch);
	list_del_init(&origin->log.active);
	list_del(&origin->list);
	origin->store->nr_origins--;
	cow_index_destroy(&origin->index);
	cow_bitmap_destroy(origin->bitmap);
	cow_free(origin->log.summary);
	cow_free(origin->places);
	if (origin->rollback.shown.overlay)
		cow_overlay_free(origin->rollback.shown.overlay);
	cow_free(origin);
}

struct cow_snapshot *cow_snapshot_new(u32 id)
{
	struct cow_snapshot *snapshot = cow_alloc(sizeof(*snapshot));

	if (!snapshot)
		return NULL;
	snapshot->id = id;
	INIT_LIST_HEAD(&snapshot->list);
	INIT_LIST_HEAD(&snapshot->all);
	return snapshot;
}

/* Newest of the origin; the view lock is held, or nobody looks yet. */
void cow_snapshot_link(struct cow_origin *origin, struct cow_snapshot *snapshot)
{
	struct cow_store *store = origin->store;
	struct cow_snapshot *before;

	snapshot->origin = origin;
	list_add_tail(&snapshot->list, &origin->snapshots);
	list_for_each_entry_reverse(before, &store->snapshots, all)
		if (before->id < snapshot->id)
			break;
	list_add(&snapshot->all, &before->all);
	origin->nr_snapshots++;
	store->nr_snapshots++;
}

void cow_snapshot_unlink(struct cow_snapshot *snapshot)
{
	list_del_init(&snapshot->list);
	list_del_init(&snapshot->all);
	snapshot->origin->nr_snapshots--;
	snapshot->origin->store->nr_snapshots--;
}

void cow_snapshot_free(struct cow_snapshot *snapshot)
{
	cow_free(snapshot);
}

struct cow_epoch *cow_epoch_add(struct cow_origin *origin, u64 number)
{
	struct cow_epoch *epoch = cow_alloc(sizeof(*epoch));
	struct cow_epoch *before;

	if (!epoch)
		return NULL;
	epoch->number = number;
	INIT_LIST_HEAD(&epoch->segments);
	list_for_each_entry_reverse(before, &origin->epochs, list)
		if (before->number < number)
			break;
	list_add(&epoch->list, &before->list);
	return epoch;
}

int cow_origin_register(struct cow_store *store, u32 id, u64 size_sectors,
			struct cow_origin **origin, char *why)
{
	struct cow_op op = {
		.op = COWSNAP_OP_ORIGIN, .origin = id, .size_sectors = size_sectors,
	};
	struct cow_origin *made;
	int r;

	*origin = cow_origin_find(store, id);
	if (*origin) {
		if ((*origin)->size_sectors == size_sectors)
			return 0;
		snprintf(why, COW_WHY_BYTES,
			 "origin %u has %llu sectors in this store, the device has %llu", id,
			 (unsigned long long)(*origin)->size_sectors,
			 (unsigned long long)size_sectors);
		return -ERANGE;
	}
	if (!size_sectors || size_sectors > COW_MAX_ORIGIN_SECTORS) {
		snprintf(why, COW_WHY_BYTES, "an origin has 1 to %llu sectors, the device has %llu",
			 (unsigned long long)COW_MAX_ORIGIN_SECTORS,
			 (unsigned long long)size_sectors);
		return -EFBIG;
	}
	/* before it is durable: what the store has must be known here, or it is made twice */
	made = cow_origin_new(store, id, size_sectors);
	if (!made) {
		snprintf(why, COW_WHY_BYTES, "no memory for origin %u", id);
		return -ENOMEM;
	}
	r = cow_control_commit(store, &op, 1);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "origin %u cannot be recorded in the store (%d)", id,
			 r);
		cow_free(made);
		return r;
	}
	store->ops->engine_enter(store);
	cow_origin_link(made);
	store->ops->engine_leave(store);
	*origin = made;
	return 0;
}

/* Does any I/O of an origin without snapshots go on? */
static bool in_flight(struct cow_origin *origin)
{
	struct cow_store *store = origin->store;
	struct cow_overlay *overlay;
	bool busy;

	store->ops->engine_enter(store);
	busy = !cow_log_idle(&origin->log);
	list_for_each_entry(overlay, &store->dying_overlays, dying)
		busy |= overlay->log.origin == origin;
	store->ops->engine_leave(store);
	return busy;
}

int cow_origin_forget(struct cow_store *store, u32 id, char *why)
{
	struct cow_op op = { .op = COWSNAP_OP_FORGET, .origin = id };
	struct cow_origin *origin = cow_origin_find(store, id);
	int r;

	if (!origin) {
		snprintf(why, COW_WHY_BYTES, "there is no origin %u", id);
		return -ENOENT;
	}
	if (origin->nr_snapshots || origin->shell) {
		snprintf(why, COW_WHY_BYTES, "origin %u %s", id,
			 origin->shell ? "has a cow-origin" : "has snapshots: delete them first");
		return -EBUSY;
	}
	if (origin->users) {
		snprintf(why, COW_WHY_BYTES,
			 "a snapshot of origin %u was dropped, but has a cow-snap still", id);
		return -EBUSY;
	}
	if (in_flight(origin)) {
		snprintf(why, COW_WHY_BYTES,
			 "what origin %u has written last is on its way: try again", id);
		return -EBUSY;
	}
	r = cow_control_commit(store, &op, 1);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "the store's control record cannot be written (%d)",
			 r);
		return r;
	}
	store->ops->engine_enter(store);
	store->ops->view_lock(store);
	cow_origin_free(origin);
	store->ops->view_unlock(store);
	store->ops->engine_leave(store);
	return 0;
}

/* ------------------------------------------------------------- creating --- */

void cow_create_abort(struct cow_store *store, struct cow_member *members, u32 count)
{
	u32 i;

	(void)store;
	for (i = 0; i < count; i++) {
		cow_free(members[i].made);
		cow_free(members[i].epoch);
		cow_bitmap_destroy(members[i].bitmap);
		if (members[i].overlay)
			cow_overlay_free(members[i].overlay);
		members[i].made = NULL;
		members[i].epoch = NULL;
		members[i].bitmap = NULL;
		members[i].overlay = NULL;
	}
}

/* What is in the origin is not what it shows: no snapshot can be made of that. */
static bool is_mixture(const struct cow_origin *origin)
{
	return origin->rollback.state == COW_ROLLBACK_RUNNING;
}

static int check_member(struct cow_store *store, const struct cow_member *members, u32 i,
			char *why)
{
	const struct cow_origin *origin = cow_origin_find(store, members[i].origin);
	u32 j;

	if (!origin) {
		snprintf(why, COW_WHY_BYTES, "there is no origin %u", members[i].origin);
		return -ENOENT;
	}
	if (is_mixture(origin)) {
		snprintf(why, COW_WHY_BYTES, "a rollback of origin %u runs", members[i].origin);
		return -EBUSY;
	}
	if (cow_snapshot_find(store, members[i].snapshot)) {
		snprintf(why, COW_WHY_BYTES, "there is a snapshot %u already",
			 members[i].snapshot);
		return -EEXIST;
	}
	for (j = 0; j < i; j++) {
		if (members[j].snapshot != members[i].snapshot &&
		    members[j].origin != members[i].origin)
			continue;
		snprintf(why, COW_WHY_BYTES, "%s %u is named twice",
			 members[j].origin == members[i].origin ? "origin" : "snapshot",
			 members[j].origin == members[i].origin ? members[i].origin :
								   members[i].snapshot);
		return -EINVAL;
	}
	return members[i].target ? cow_rollback_check(store, &members[i], why) : 0;
}

static int prepare_member(struct cow_store *store, struct cow_member *member)
{
	struct cow_origin *origin = cow_origin_find(store, member->origin);

	member->made = cow_snapshot_new(member->snapshot);
	member->epoch = cow_alloc(sizeof(*member->epoch));
	member->bitmap = cow_bitmap_new(origin->blocks);
	if (!member->made || !member->epoch || !member->bitmap)
		return -ENOMEM;
	if (!member->target)
		return 0;
	member->overlay = cow_overlay_new(&origin->rollback.shown);
	return member->overlay ? 0 : -ENOMEM;
}

int cow_create_prepare(struct cow_store *store, struct cow_member *members, u32 count, char *why)
{
	u32 ops = count;
	u32 i;
	int r = 0;

	for (i = 0; i < count; i++) {
		members[i].made = NULL;
		members[i].epoch = NULL;
		members[i].bitmap = NULL;
		members[i].overlay = NULL;
		ops += !!members[i].target;
	}
	if (store->broken) {
		snprintf(why, COW_WHY_BYTES, "the store has failed");
		return -EIO;
	}
	if (store->next_epoch + ops > COW_INDEX_MAX_EPOCH) {
		snprintf(why, COW_WHY_BYTES, "the store has had its highest number of snapshots");
		return -ENOSPC;
	}
	for (i = 0; i < count && !r; i++)
		r = check_member(store, members, i, why);
	for (i = 0; i < count && !r; i++) {
		r = prepare_member(store, &members[i]);
		if (r)
			snprintf(why, COW_WHY_BYTES, "no memory");
	}
	if (!r) {
		r = cow_control_room(store, ops);
		if (r)
			snprintf(why, COW_WHY_BYTES,
				 "the store's control record has no room or cannot be written (%d)",
				 r);
	}
	if (r)
		cow_create_abort(store, members, count);
	return r;
}

static void start_epoch(struct cow_member *member, struct cow_origin *origin)
{
	struct cow_bitmap *old = origin->bitmap;

	cow_log_close_segment(&origin->log);
	INIT_LIST_HEAD(&member->epoch->segments);
	member->epoch->number = member->made->epoch;
	list_add_tail(&member->epoch->list, &origin->epochs);
	/* it broke while the control record was written: no write is preserved for it */
	member->made->lost = origin->store->broken;
	cow_snapshot_link(origin, member->made);
	origin->bitmap = member->bitmap;
	/* a writer that sees the epoch sees its bitmap */
	smp_store_release(&origin->epoch, member->made->epoch);
	member->made = NULL;
	member->epoch = NULL;
	member->bitmap = old; /* nobody looks at it: the origin is drained */
}

/*
 * All batches before this one are durable. A mark may be on its way, though the origin is
 * drained: it counts as one of the new epoch. Said to be of the old one and not durable
 * when power fails, it would be missed there.
 */
static u64 first_sequence(struct cow_origin *origin)
{
	struct cow_store *store = origin->store;
	u64 sequence;

	store->ops->engine_enter(store);
	sequence = origin->log.durable_sequence + 1;
	store->ops->engine_leave(store);
	return sequence;
}

int cow_create_commit(struct cow_store *store, struct cow_member *members, u32 count,
		      u64 now_seconds, char *why)
{
	struct cow_op *ops = cow_alloc(2ull * count * sizeof(*ops));
	u32 nr_ops = count, i;
	int r = 0;

	if (!ops) {
		snprintf(why, COW_WHY_BYTES, "no memory");
		r = -ENOMEM;
	}
	/* since this was prepared a rollback may have begun, its target gone or come into use */
	for (i = 0; i < count && !r; i++)
		r = check_member(store, members, i, why);
	if (r) {
		cow_create_abort(store, members, count);
		cow_free(ops);
		return r;
	}
	for (i = 0; i < count; i++) {
		struct cow_origin *origin = cow_origin_find(store, members[i].origin);

		members[i].made->epoch = store->next_epoch + i;
		members[i].made->sequence = first_sequence(origin);
		members[i].made->created = now_seconds;
		members[i].made->set = store->next_set;
		members[i].made->origin = origin;
		cow_op_of_snapshot(&ops[i], members[i].made);
		if (!members[i].target)
			continue;
		/* both or neither, and with an epoch of its own */
		ops[nr_ops].op = COWSNAP_OP_ROLLBACK;
		ops[nr_ops].origin = members[i].origin;
		ops[nr_ops].snapshot = members[i].target;
		ops[nr_ops].set = members[i].snapshot;
		ops[nr_ops].epoch = store->next_epoch + nr_ops;
		ops[nr_ops].sequence = COWSNAP_MARKER_BLOCKS;
		nr_ops++;
	}
	r = cow_control_commit(store, ops, nr_ops);
	cow_free(ops);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "the store's control record cannot be written (%d)",
			 r);
		cow_create_abort(store, members, count);
		return r;
	}
	store->ops->engine_enter(store);
	store->ops->view_lock(store);
	for (i = 0, nr_ops = count; i < count; i++) {
		struct cow_origin *origin = cow_origin_find(store, members[i].origin);

		start_epoch(&members[i], origin);
		if (members[i].target)
			cow_rollback_begin(origin, &members[i], store->next_epoch + nr_ops++);
	}
	store->next_epoch += nr_ops;
	store->next_set++;
	store->ops->view_unlock(store);
	store->ops->engine_leave(store);
	cow_create_abort(store, members, count); /* the old bitmaps */
	return 0;
}

/* ------------------------------------------------------------- overlays --- */

struct cow_overlay *cow_overlay_new(struct cow_snapshot *snapshot)
{
	struct cow_origin *origin = snapshot->origin;
	struct cow_overlay *overlay = cow_alloc(sizeof(*overlay));

	if (!overlay)
		return NULL;
	overlay->snapshot = snapshot;
	INIT_LIST_HEAD(&overlay->segments);
	INIT_LIST_HEAD(&overlay->dying);
	cow_index_init(&overlay->index, &origin->store->pool);
	cow_log_init(&overlay->log, origin->store, origin, overlay);
	return overlay;
}

int cow_overlay_make(struct cow_snapshot *snapshot)
{
	struct cow_store *store = snapshot->origin->store;
	struct cow_overlay *overlay;

	if (snapshot->overlay)
		return 0;
	overlay = cow_overlay_new(snapshot);
	if (!overlay)
		return -ENOMEM;
	store->ops->engine_enter(store);
	store->ops->view_lock(store);
	snapshot->overlay = overlay;
	store->ops->view_unlock(store);
	store->ops->engine_leave(store);
	return 0;
}

void cow_overlay_free(struct cow_overlay *overlay)
{
	list_del_init(&overlay->log.active);
	list_del_init(&overlay->dying);
	cow_index_destroy(&overlay->index);
	cow_free(overlay->log.summary);
	cow_free(overlay);
}

/* Free the overlays of deleted snapshots whose I/O has ended. Engine context. */
void cow_overlays_reap(struct cow_store *store)
{
	struct cow_overlay *overlay, *next;

	list_for_each_entry_safe(overlay, next, &store->dying_overlays, dying)
		if (cow_log_idle(&overlay->log) && list_empty(&overlay->segments))
			cow_overlay_free(overlay);
}

/* ------------------------------------------------------------- deleting --- */

/* Epochs that no snapshot can see: their segments are freed whole. */
static void drop_epochs(struct cow_origin *origin)
{
	struct cow_store *store = origin->store;
	u64 oldest = cow_origin_oldest_epoch(origin);
	struct cow_epoch *epoch, *next;

	if (!origin->nr_snapshots) {
		WRITE_ONCE(origin->epoch, COW_NO_EPOCH);
		cow_log_drop(&origin->log);
	}
	list_for_each_entry_safe(epoch, next, &origin->epochs, list) {
		if (epoch->number >= oldest)
			break;
		if (origin->log.spare != COW_NONE_SEGMENT &&
		    store->segments[origin->log.spare].owner.epoch == epoch->number)
			cow_log_drop_spare(&origin->log);
		cow_segment_orphan(store, &epoch->segments);
		store->ops->view_lock(store);
		list_del(&epoch->list);
		origin->nr_incomplete -= epoch->incomplete;
		store->ops->view_unlock(store);
		cow_free(epoch);
	}
}

/* The overlay goes with its snapshot; what is in flight ends first. */
void cow_overlay_drop(struct cow_overlay *overlay)
{
	struct cow_store *store = overlay->log.store;

	overlay->snapshot = NULL;
	cow_log_drop(&overlay->log);
	cow_segment_orphan(store, &overlay->segments);
	list_add_tail(&overlay->dying, &store->dying_overlays);
}

static void want_sweep(struct cow_origin *origin)
{
	if (origin->sweep_chunk == COW_NOT_FOUND)
		origin->sweep_chunk = 0;
	else
		origin->sweep_again = true;
}

static void delete_apply(struct cow_snapshot *snapshot, bool dropped)
{
	struct cow_origin *origin = snapshot->origin;
	struct cow_store *store = origin->store;
	struct cow_overlay *overlay = snapshot->overlay;

	store->ops->view_lock(store);
	cow_snapshot_unlink(snapshot);
	snapshot->overlay = NULL;
	snapshot->lost = true;
	cow_rollback_forget_target(snapshot);
	store->ops->view_unlock(store);
	if (overlay)
		cow_overlay_drop(overlay);
	drop_epochs(origin);
	want_sweep(origin);
	if (dropped)
		store->ops->event(store, COWSNAP_EVENT_DROPPED, snapshot->id);
	if (!snapshot->users)
		cow_snapshot_free(snapshot);
}

static bool is_scheduled(const struct cow_snapshot *snapshot)
{
	const struct cow_rollback *rollback = &snapshot->origin->rollback;

	return rollback->state == COW_ROLLBACK_SCHEDULED && rollback->target == snapshot;
}

static int check_delete(struct cow_store *store, const u32 *ids, u32 i, bool dropped, char *why)
{
	struct cow_snapshot *snapshot = cow_snapshot_find(store, ids[i]);
	u32 j;

	if (!snapshot) {
		snprintf(why, COW_WHY_BYTES, "there is no snapshot %u", ids[i]);
		return -ENOENT;
	}
	if (snapshot->users && !dropped) {
		snprintf(why, COW_WHY_BYTES, "snapshot %u has a cow-snap: remove that first",
			 ids[i]);
		return -EBUSY;
	}
	if (cow_rollback_needs(snapshot)) {
		snprintf(why, COW_WHY_BYTES, "the rollback of origin %u needs snapshot %u",
			 snapshot->origin->id, ids[i]);
		return -EBUSY;
	}
	if (is_scheduled(snapshot) && !dropped) {
		snprintf(why, COW_WHY_BYTES,
			 "a rollback of origin %u to snapshot %u is scheduled: cancel it first",
			 snapshot->origin->id, ids[i]);
		return -EBUSY;
	}
	for (j = 0; j < i; j++) {
		if (ids[j] == ids[i]) {
			snprintf(why, COW_WHY_BYTES, "snapshot %u is named twice", ids[i]);
			return -EINVAL;
		}
	}
	return 0;
}

int cow_delete(struct cow_store *store, const u32 *ids, u32 count, bool dropped, char *why)
{
	struct cow_op *ops;
	u32 i;
	int r = 0;

	for (i = 0; i < count && !r; i++)
		r = check_delete(store, ids, i, dropped, why);
	if (r)
		return r;
	ops = cow_alloc(count * sizeof(*ops));
	if (!ops) {
		snprintf(why, COW_WHY_BYTES, "no memory");
		return -ENOMEM;
	}
	for (i = 0; i < count; i++) {
		ops[i].op = COWSNAP_OP_DELETE;
		ops[i].snapshot = ids[i];
		ops[i].flags = dropped ? COWSNAP_OP_FLAG_DROPPED : 0;
	}
	r = cow_control_commit(store, ops, count);
	cow_free(ops);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "the store's control record cannot be written (%d)",
			 r);
		return r;
	}
	store->ops->engine_enter(store);
	for (i = 0; i < count; i++)
		delete_apply(cow_snapshot_find(store, ids[i]), dropped);
	store->ops->engine_leave(store);
	return 0;
}

struct cow_snapshot *cow_oldest_to_drop(const struct cow_origin *origin)
{
	struct cow_snapshot *snapshot;

	list_for_each_entry(snapshot, &origin->snapshots, list)
		if (!cow_rollback_needs(snapshot))
			return snapshot;
	return NULL;
}

/* ------------------------------------------------------------- sweeping --- */

#define SWEEP_MAX 256u

struct sweep {
	struct cow_origin *origin;
	bool full; /* dead blocks were left for another time */
	u64 newest; /* group of the current time */
	u64 chunk, epoch; /* of what is visited */
	u64 group; /* epoch of the snapshot that owns it */
	u16 seen; /* blocks of the chunk found in an older epoch of the group */
	u64 missing; /* first chunk whose page of the bitmap is not there; or COW_NOT_FOUND */
	u32 nr_emptied;
	u64 emptied[SWEEP_MAX]; /* segments without live blocks */
};

/* Epoch of the snapshot that @epoch belongs to, or COW_NO_EPOCH. */
static u64 group_of(const struct cow_origin *origin, u64 epoch)
{
	const struct cow_snapshot *snapshot;

	list_for_each_entry_reverse(snapshot, &origin->snapshots, list)
		if (snapshot->epoch <= epoch)
			return snapshot->epoch;
	return COW_NO_EPOCH;
}

/*
 * Behind a chunk. What is preserved in the current snapshot's time need not be again;
 * what is in the current epoch must not be.
 */
static void sweep_chunk_end(struct sweep *sweep)
{
	struct cow_bitmap *bitmap = sweep->origin->bitmap;

	if (!bitmap || !sweep->seen || sweep->group != sweep->newest)
		return;
	if (!cow_bitmap_set_chunk(bitmap, sweep->chunk, sweep->seen) &&
	    sweep->missing == COW_NOT_FOUND)
		sweep->missing = sweep->chunk;
}

/* The blocks of an entry that are in the same segment as the first of them. */
static u16 in_one_segment(const struct cow_store *store, u64 base, u16 bits)
{
	u64 first = base + __builtin_ctz(bits);
	u64 number = cow_super_block_segment(&store->super, first);
	u64 end = cow_super_segment_block(&store->super, number) + store->super.segment_blocks;

	return end - base >= COW_CHUNK_BLOCKS ? bits : bits & ((1u << (end - base)) - 1);
}

static void sweep_dead(struct sweep *sweep, u64 epoch_number, u64 base, u16 dead)
{
	struct cow_store *store = sweep->origin->store;
	struct cow_epoch *epoch = cow_epoch_find(sweep->origin, epoch_number);

	if (epoch)
		epoch->live -= hweight16(dead);
	while (dead) {
		u64 location = base + __builtin_ctz(dead);
		u64 segment = cow_super_block_segment(&store->super, location);
		u16 part = in_one_segment(store, base, dead);

		cow_segment_unlive(store, location, hweight16(part));
		if (!store->segments[segment].live)
			sweep->emptied[sweep->nr_emptied++] = segment;
		dead &= ~part;
	}
}

/* An entry of another chunk or epoch than the last one. */
static inline void sweep_turn(struct sweep *sweep, u64 chunk, u64 epoch)
{
	u64 group = epoch == sweep->epoch ? sweep->group : group_of(sweep->origin, epoch);

	if (chunk != sweep->chunk || group != sweep->group) {
		sweep_chunk_end(sweep);
		sweep->seen = 0;
	}
	sweep->chunk = chunk;
	sweep->epoch = epoch;
	sweep->group = group;
}

static noinline u16 sweep_without(struct sweep *sweep, u64 epoch, u64 base, u16 bits, u16 dead)
{
	/* an entry may end in one segment and go on in the next one */
	if (sweep->nr_emptied + 2 > SWEEP_MAX) {
		sweep->full = true;
		return bits;
	}
	sweep_dead(sweep, epoch, base, dead);
	return bits & ~dead;
}

static u16 sweep_visit(void *context, u64 chunk, u64 epoch, u64 base, u16 bits)
{
	struct sweep *sweep = context;
	u16 dead;

	if (chunk != sweep->chunk || epoch != sweep->epoch)
		sweep_turn(sweep, chunk, epoch);
	/* nobody sees it; its segment is freed already, perhaps used again */
	if (sweep->group == COW_NO_EPOCH)
		return 0;
	dead = bits & sweep->seen;
	sweep->seen |= bits;
	return dead ? sweep_without(sweep, epoch, base, bits, dead) : bits;
}

/* A page that the bitmap did not have. False without memory. */
static bool sweep_page(struct sweep *sweep)
{
	void *page = cow_alloc(COW_BITMAP_PAGE_BYTES);

	if (page)
		cow_bitmap_give(sweep->origin->bitmap, sweep->missing * COW_CHUNK_BLOCKS, page);
	return page;
}

bool cow_sweep(struct cow_origin *origin, u32 budget)
{
	struct cow_store *store = origin->store;
	u64 chunk = origin->sweep_chunk;
	struct sweep *sweep;
	u32 i;

	if (origin->sweep_chunk == COW_NOT_FOUND)
		return false;
	sweep = cow_alloc(sizeof(*sweep));
	if (!sweep)
		return true;
	sweep->origin = origin;
	sweep->chunk = COW_NOT_FOUND;
	sweep->missing = COW_NOT_FOUND;
	sweep->newest = cow_origin_newest_epoch(origin);
	store->ops->view_lock(store);
	origin->sweep_chunk = cow_index_filter(&origin->index, chunk, budget, sweep_visit, sweep);
	sweep_chunk_end(sweep);
	store->ops->view_unlock(store);
	for (i = 0; i < sweep->nr_emptied; i++)
		cow_segment_release(store, sweep->emptied[i]);
	origin->sweep_again |= sweep->full;
	/* again from there on, now that there is a place for the bits */
	if (sweep->missing != COW_NOT_FOUND)
		origin->sweep_chunk = sweep_page(sweep) ? sweep->missing : chunk;
	cow_free(sweep);
	if (origin->sweep_chunk == COW_NOT_FOUND && origin->sweep_again) {
		origin->sweep_again = false;
		origin->sweep_chunk = 0;
	}
	return origin->sweep_chunk != COW_NOT_FOUND;
}
