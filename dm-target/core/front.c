// SPDX-License-Identifier: GPL-2.0-only
/*
 * Who is in front of an origin, and how a later activation finds out that it was
 * written while nobody was: such writes are not preserved, and the snapshots from
 * before them are not exact any more (stale).
 *
 * What is compared
 *
 *   written   The kernel counts the sectors that are written to a device since it
 *             appeared. The same count on the same instance of it: nothing was
 *             written. Zero: not since it appeared, in this boot for a disk.
 *   wide      When nobody is in front any more, the first and last sectors of the
 *             origin are remembered: what mounts a file system or repairs it
 *             changes something there. That tells of boots in between.
 *   narrow    While somebody is in front the machine may stop at any moment, and
 *             what was written last may be there or not. So only such fields count
 *             as change when a file system is mounted, repaired or unmounted. A
 *             write that changes them is let go when both values are recorded; the
 *             next one only when the one before it is durable, so that two
 *             are enough.
 *
 *   Each half of the narrow fingerprint is of one sector, which is there wholly or
 *   not at all: after a crash each half for itself is the old one or the new one.
 *
 *   watched   What is mounted or repaired may begin in the middle of the origin: in a
 *             partition of a disk, in a volume of an LVM PV. User space says where; the
 *             same is done there. One fingerprint is of all these places: after
 *             a crash it is the old one or the new one as well, when the write that was
 *             let go last changes one sector that counts. For one that changes more,
 *             COWSNAP_NONE is recorded: the places may be whatever they are until that
 *             has ended and is recorded.
 */
#include "store.h"

/* Of an ext2, ext3 or ext4 superblock. */
#define EXT_BLOCKS_COUNT 4
#define EXT_MTIME 44
#define EXT_MNT_COUNT 52
#define EXT_MAGIC 56
#define EXT_LASTCHECK 64
#define EXT_FEATURE_INCOMPAT 96
#define EXT_NEEDS_RECOVERY 0x04
#define EXT_UUID 104

/* ---------------------------------------------------------- fingerprints --- */

/* 0 is for no file system. */
static u32 not_zero(u32 crc)
{
	return crc ?: 1;
}

u64 cow_front_print_xfs(const void *sector)
{
	if (memcmp(sector, "XFSB", 4))
		return 0;
	return (u64)not_zero(cow_crc32c(0, sector, 512)) << 32;
}

u64 cow_front_print_ext(const void *sector)
{
	const u8 *super = sector;
	u8 recovery;
	u32 crc = 0;

	if (super[EXT_MAGIC] != 0x53 || super[EXT_MAGIC + 1] != 0xef)
		return 0;
	recovery = super[EXT_FEATURE_INCOMPAT] & EXT_NEEDS_RECOVERY;
	crc = cow_crc32c(crc, super + EXT_BLOCKS_COUNT, 4);
	crc = cow_crc32c(crc, super + EXT_MTIME, 4);
	crc = cow_crc32c(crc, super + EXT_MNT_COUNT, 2);
	crc = cow_crc32c(crc, super + EXT_LASTCHECK, 4);
	crc = cow_crc32c(crc, &recovery, 1);
	crc = cow_crc32c(crc, super + EXT_UUID, 16);
	return not_zero(crc);
}

u64 cow_front_print_place(const void *bytes, u32 sector, bool raw)
{
	bool xfs = sector == COW_PRINT_XFS_SECTOR;
	u64 crc;

	if (!raw)
		return xfs ? cow_front_print_xfs(bytes) : cow_front_print_ext(bytes);
	crc = cow_all_zero(bytes, 512) ? 0 : not_zero(cow_crc32c(0, bytes, 512));
	return xfs ? crc << 32 : crc;
}

static u32 fold_half(u32 fold, u64 sector, u32 half)
{
	__le64 place = cpu_to_le64(sector);
	__le32 print = cpu_to_le32(half);

	return cow_crc32c(cow_crc32c(fold, &place, sizeof(place)), &print, sizeof(print));
}

u64 cow_front_fold(u64 fold, u64 sector, u64 print)
{
	fold = (u64)fold_half(fold >> 32, sector, print >> 32) << 32 |
	       fold_half((u32)fold, sector, (u32)print);
	return fold == COWSNAP_NONE ? COWSNAP_NONE - 1 : fold;
}

static bool half_allowed(const u64 *recorded, u64 print, u64 mask)
{
	return !((print ^ recorded[0]) & mask) || !((print ^ recorded[1]) & mask);
}

bool cow_front_allows(const u64 *recorded, u64 print, u64 mask)
{
	return half_allowed(recorded, print, mask & COW_PRINT_XFS) &&
	       half_allowed(recorded, print, mask & COW_PRINT_EXT);
}

/* --------------------------------------------------------------- verdict --- */

/* By the count alone; where the kernel does not count, nothing can be said. */
static bool was_written(const struct cow_front *front, const struct cow_sight *sight)
{
	if (!sight->written || sight->written == COWSNAP_NONE)
		return false;
	if (front->state != COW_FRONT_LEFT || front->instance != sight->instance)
		return true;
	return front->written != COWSNAP_NONE && front->written != sight->written;
}

static bool watched_allowed(const struct cow_front *front, u64 watched)
{
	if (front->watched[0] == COWSNAP_NONE || front->watched[1] == COWSNAP_NONE)
		return true;
	return watched == front->watched[0] ||
	       (front->state == COW_FRONT_IN && watched == front->watched[1]);
}

const char *cow_front_verdict(const struct cow_front *front, const struct cow_sight *sight)
{
	if (front->state == COW_FRONT_UNKNOWN)
		return NULL;
	if (was_written(front, sight))
		return "it was written since its device appeared";
	if (front->state == COW_FRONT_LEFT && front->wide != sight->wide)
		return "it begins or ends with something else than when it was left";
	if (front->state == COW_FRONT_IN && !cow_front_allows(front->print, sight->print, ~0ull))
		return "its file system was mounted, repaired or replaced";
	if (!watched_allowed(front, sight->watched))
		return "a partition or volume in it was mounted, repaired or replaced";
	return NULL;
}

/* ---------------------------------------------------------------- record --- */

static void op_of(struct cow_op *op, u32 origin, const struct cow_front *front)
{
	op->op = COWSNAP_OP_FRONT;
	op->origin = origin;
	if (front->state == COW_FRONT_IN) {
		op->flags = COWSNAP_OP_FLAG_IN_FRONT;
		op->epoch = front->print[0];
		op->sequence = front->print[1];
		op->created = front->watched[0];
		op->set = front->watched[1];
	} else if (front->state == COW_FRONT_LEFT) {
		op->flags = COWSNAP_OP_FLAG_LEFT;
		op->epoch = front->wide;
		op->sequence = front->instance;
		op->size_sectors = front->written;
		op->created = front->watched[0];
	}
}

static void op_of_place(struct cow_op *op, u32 origin, const struct cow_place *place, u32 index)
{
	op->op = COWSNAP_OP_WATCH;
	op->origin = origin;
	op->flags = place->raw ? COWSNAP_OP_FLAG_RAW : 0;
	op->epoch = place->sector;
	op->sequence = index;
}

void cow_front_place_ops(struct cow_op *ops, const struct cow_origin *origin)
{
	u32 i;

	for (i = 0; i < origin->nr_places; i++)
		op_of_place(&ops[i], origin->id, &origin->places[i], i);
}

/* The op that a checkpoint needs; false: none. */
bool cow_front_op(struct cow_op *op, const struct cow_origin *origin)
{
	if (origin->front.state == COW_FRONT_UNKNOWN)
		return false;
	op_of(op, origin->id, &origin->front);
	return true;
}

void cow_front_replay(struct cow_origin *origin, const struct cow_op *op)
{
	struct cow_front *front = &origin->front;

	memset(front, 0, sizeof(*front));
	if (op->flags & COWSNAP_OP_FLAG_IN_FRONT) {
		front->state = COW_FRONT_IN;
		front->print[0] = op->epoch;
		front->print[1] = op->sequence;
		front->watched[0] = op->created;
		front->watched[1] = op->set;
	} else if (op->flags & COWSNAP_OP_FLAG_LEFT) {
		front->state = COW_FRONT_LEFT;
		front->wide = op->epoch;
		front->instance = op->sequence;
		front->written = op->size_sectors;
		front->watched[0] = op->created;
	}
}

int cow_front_replay_place(struct cow_origin *origin, const struct cow_op *op)
{
	struct cow_place *place;

	if (!origin->places)
		origin->places = cow_alloc(COWSNAP_WATCH_MAX * sizeof(*origin->places));
	if (!origin->places)
		return -ENOMEM;
	if (!op->sequence)
		origin->nr_places = 0;
	if (op->sequence != origin->nr_places || op->epoch >= origin->size_sectors)
		return -EUCLEAN;
	place = &origin->places[origin->nr_places++];
	place->sector = op->epoch;
	place->raw = op->flags & COWSNAP_OP_FLAG_RAW;
	return 0;
}

void cow_front_replay_stale(struct cow_origin *origin)
{
	struct cow_snapshot *snapshot;

	list_for_each_entry(snapshot, &origin->snapshots, list)
		snapshot->stale = true;
}

bool cow_front_matters(const struct cow_origin *origin)
{
	const struct cow_snapshot *snapshot;

	list_for_each_entry(snapshot, &origin->snapshots, list)
		if (!snapshot->lost && !snapshot->stale)
			return true;
	return false;
}

/* It is recorded. */
static void spoil(struct cow_origin *origin)
{
	struct cow_store *store = origin->store;

	store->ops->engine_enter(store);
	cow_front_replay_stale(origin);
	store->ops->event(store, COWSNAP_EVENT_STALE, origin->id);
	store->ops->engine_leave(store);
}

/* A checkpoint that is written meanwhile says what was before. */
static int record(struct cow_origin *origin, const struct cow_front *front, bool stale)
{
	struct cow_store *store = origin->store;
	struct cow_op ops[2] = { { .op = COWSNAP_OP_STALE, .origin = origin->id } };
	int r;

	op_of(&ops[1], origin->id, front);
	r = stale ? cow_control_commit(store, ops, 2) : cow_control_commit(store, &ops[1], 1);
	if (r)
		return r;
	origin->front = *front;
	if (stale)
		spoil(origin);
	return 0;
}

int cow_front_enter(struct cow_origin *origin, u64 print, u64 watched, bool stale)
{
	struct cow_front front = {
		.state = COW_FRONT_IN,
		.print = { print, print },
		.watched = { watched, watched },
	};

	return record(origin, &front, stale && cow_front_matters(origin));
}

int cow_front_spoil(struct cow_origin *origin)
{
	struct cow_op op = { .op = COWSNAP_OP_STALE, .origin = origin->id };
	int r;

	if (!cow_front_matters(origin))
		return 0;
	r = cow_control_commit(origin->store, &op, 1);
	if (!r)
		spoil(origin);
	return r;
}

int cow_front_change(struct cow_origin *origin, const struct cow_front *front)
{
	return record(origin, front, false);
}

/* The list and what is recorded of it are one transaction. */
int cow_front_watch(struct cow_origin *origin, const struct cow_front *front,
		    const struct cow_place *places, u32 count)
{
	struct cow_place *copy = cow_alloc(COWSNAP_WATCH_MAX * sizeof(*copy));
	struct cow_op *ops = cow_alloc((COWSNAP_WATCH_MAX + 1) * sizeof(*ops));
	int r = -ENOMEM;
	u32 i;

	if (copy && ops) {
		memcpy(copy, places, count * sizeof(*copy));
		for (i = 0; i < count; i++)
			op_of_place(&ops[i], origin->id, &places[i], i);
		op_of(&ops[count], origin->id, front);
		r = cow_control_commit(origin->store, ops, count + 1);
	}
	if (!r) {
		origin->front = *front;
		origin->nr_places = count;
		swap(origin->places, copy);
	}
	cow_free(ops);
	cow_free(copy);
	return r;
}

int cow_front_leave(struct cow_origin *origin, const struct cow_sight *sight)
{
	struct cow_front front = {
		.state = COW_FRONT_LEFT,
		.wide = sight->wide,
		.instance = sight->instance,
		.written = sight->written,
		.watched = { sight->watched },
	};

	return record(origin, &front, false);
}
