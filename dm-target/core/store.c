// SPDX-License-Identifier: GPL-2.0-only
/*
 * A store as a whole: finding out what is on a device, formatting, extending,
 * letting go. Control context.
 */
#include "store.h"

void cow_store_init(struct cow_store *store, const struct cow_ops *ops, void *shell)
{
	memset(store, 0, sizeof(*store));
	store->ops = ops;
	store->shell = shell;
	store->checkpoint_slot = 0;
	store->next_epoch = 1;
	store->next_set = 1;
	store->next_generation = 1;
	INIT_LIST_HEAD(&store->origins);
	INIT_LIST_HEAD(&store->snapshots);
	INIT_LIST_HEAD(&store->free_segments);
	INIT_LIST_HEAD(&store->zombies);
	INIT_LIST_HEAD(&store->tables_dirty);
	INIT_LIST_HEAD(&store->starved);
	INIT_LIST_HEAD(&store->active);
	INIT_LIST_HEAD(&store->dying_overlays);
	cow_pool_init(&store->pool);
}

/* Decode both copies of the superblock; take the newer valid one. */
static int choose_super(struct cow_store *store, const char *image, u64 device_blocks, char *why)
{
	struct cow_super *super = cow_alloc(2 * sizeof(*super));
	enum cow_check check[2];
	int best;

	if (!super)
		return -ENOMEM;
	check[0] = cow_super_decode(image, device_blocks, &super[0]);
	check[1] = cow_super_decode(image + COWSNAP_SUPER_COPY_BLOCK * COWSNAP_DISK_BLOCK_SIZE,
				    device_blocks, &super[1]);
	best = check[0] != COW_VALID ||
	       (check[1] == COW_VALID && super[1].generation > super[0].generation);
	if (check[best] == COW_VALID)
		store->super = super[best];
	cow_free(super);
	if (check[best] == COW_VALID)
		return 0;
	if (check[0] == COW_VERSION || check[0] == COW_FEATURE) {
		snprintf(why, COW_WHY_BYTES, "the store is of a version not known here (%s)",
			 cow_check_name(check[0]));
		return -EPROTONOSUPPORT;
	}
	if (check[0] == COW_RANGE || check[1] == COW_RANGE) {
		snprintf(why, COW_WHY_BYTES,
			 "the device has %llu blocks of 4 KiB: fewer than the store on it uses",
			 (unsigned long long)device_blocks);
		return -ERANGE;
	}
	if (check[0] == COW_CORRUPT || check[1] == COW_CORRUPT) {
		snprintf(why, COW_WHY_BYTES,
			 "both superblocks of the store are damaged (%s, %s)",
			 cow_check_name(check[0]), cow_check_name(check[1]));
		return -EUCLEAN;
	}
	snprintf(why, COW_WHY_BYTES,
		 "the device holds something that is not a store; wipe it (wipefs, blkdiscard -z) to use it");
	return -EINVAL;
}

/* The first blocks one by one; those that cannot be read are zero. */
static void read_singly(struct cow_store *store, char *image, u32 blocks)
{
	u32 i;

	for (i = 0; i < blocks; i++) {
		char *at = image + (u64)i * COWSNAP_DISK_BLOCK_SIZE;

		if (store->ops->read(store, i, 1, at))
			memset(at, 0, COWSNAP_DISK_BLOCK_SIZE);
	}
}

int cow_store_probe(struct cow_store *store, u64 device_blocks, char *why)
{
	u32 blocks = COWSNAP_STORE_BLANK_SECTORS / COWSNAP_BLOCK_SECTORS;
	int r, error;
	char *image;

	if (device_blocks < COWSNAP_STORE_MIN_SECTORS / COWSNAP_BLOCK_SECTORS) {
		snprintf(why, COW_WHY_BYTES, "%llu blocks of 4 KiB are too small for a store",
			 (unsigned long long)device_blocks);
		return -ENOSPC;
	}
	image = cow_alloc((u64)blocks * COWSNAP_DISK_BLOCK_SIZE);
	if (!image)
		return -ENOMEM;
	error = store->ops->read(store, 0, blocks, image);
	if (error)
		read_singly(store, image, blocks);
	/* where something cannot be read nobody knows that it is blank */
	if (!error && cow_all_zero(image, (u64)blocks * COWSNAP_DISK_BLOCK_SIZE))
		r = 1;
	else
		r = choose_super(store, image, device_blocks, why);
	if (error && (r == -EINVAL || r == -EUCLEAN)) {
		snprintf(why, COW_WHY_BYTES, "the device cannot be read (%d)", error);
		r = error;
	}
	cow_free(image);
	return r;
}

#define ZERO_CHUNK 64u

static int write_zeros(struct cow_store *store, u64 block, u64 blocks)
{
	char *zero = cow_alloc(ZERO_CHUNK * COWSNAP_DISK_BLOCK_SIZE);
	int r = 0;

	if (!zero)
		return -ENOMEM;
	while (blocks && !r) {
		u32 n = min_t(u64, blocks, ZERO_CHUNK);

		r = store->ops->write(store, block, n, zero);
		block += n;
		blocks -= n;
	}
	cow_free(zero);
	return r;
}

/* An empty table for the region. */
static int format_region(struct cow_store *store, u32 region)
{
	const struct cow_region *r = &store->super.region[region];

	return write_zeros(store, r->table_block,
			   2 * DIV_ROUND_UP(r->segments, COWSNAP_SEGMENTS_PER_TABLE_BLOCK));
}

static const u64 super_block[2] = { 0, COWSNAP_SUPER_COPY_BLOCK };

static int write_super(struct cow_store *store, u32 copy, const char *image)
{
	int r = store->ops->write(store, super_block[copy], 1, image);

	store->super_torn[copy] = r != 0;
	return r;
}

/* At any moment one copy is whole: the one that a failed write may have torn comes first. */
static int write_supers(struct cow_store *store)
{
	char *image = cow_alloc(COWSNAP_DISK_BLOCK_SIZE);
	u32 first = store->super_torn[1];
	int r;

	if (!image)
		return -ENOMEM;
	cow_super_encode(&store->super, image);
	r = write_super(store, first, image);
	if (!r)
		r = write_super(store, !first, image);
	cow_free(image);
	return r;
}

/*
 * Both superblocks must be valid and equal before one is overwritten: write the
 * one that is not what store->super says. Before going live.
 */
int cow_supers_repair(struct cow_store *store)
{
	struct cow_super *found = cow_alloc(sizeof(*found));
	char *image = cow_alloc(COWSNAP_DISK_BLOCK_SIZE);
	int r = found && image ? 0 : -ENOMEM;
	u32 i;

	for (i = 0; i < 2; i++)
		cow_store_read_ahead(store, super_block[i], 1);
	for (i = 0; i < 2 && !r; i++) {
		if (!store->ops->read(store, super_block[i], 1, image) &&
		    !cow_super_decode(image, store->super.store_blocks, found) &&
		    found->generation == store->super.generation)
			continue;
		cow_super_encode(&store->super, image);
		r = write_super(store, i, image);
	}
	cow_free(found);
	cow_free(image);
	return r;
}

int cow_store_format(struct cow_store *store, u64 device_blocks, u32 segment_blocks,
		     const u8 *uuid, char *why)
{
	u32 slot;
	int r = cow_super_plan(&store->super, device_blocks, segment_blocks);

	if (r) {
		snprintf(why, COW_WHY_BYTES, "a store does not fit into %llu blocks of 4 KiB",
			 (unsigned long long)device_blocks);
		return r;
	}
	memcpy(store->super.uuid, uuid, COWSNAP_UUID_SIZE);
	store->super.generation = 1;
	r = cow_control_format(store);
	for (slot = 0; slot < 2 && !r; slot++)
		r = write_zeros(store,
				store->super.slot_block + (u64)slot * store->super.slot_blocks, 1);
	if (!r)
		r = format_region(store, 0);
	/* last, so that a device half formatted is blank still */
	if (!r)
		r = write_supers(store);
	if (r)
		snprintf(why, COW_WHY_BYTES, "the device cannot be written (%d)", r);
	return r;
}

int cow_store_extend(struct cow_store *store, u64 device_blocks, char *why)
{
	struct cow_super *old = cow_alloc(sizeof(*old));
	int r;

	if (!old)
		return -ENOMEM;
	*old = store->super;
	r = cow_super_extend(&store->super, device_blocks);
	if (r) {
		snprintf(why, COW_WHY_BYTES, r == -E2BIG ?
				 "the store has been extended as often as it can be" :
				 "the room that was added is too small for a segment");
		goto out;
	}
	store->super.generation++;
	r = format_region(store, store->super.regions - 1);
	if (!r)
		r = write_supers(store);
	if (!r)
		r = cow_segments_grow(store);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "the store cannot be extended (%d)", r);
		/* the new one may be on the disk: no other may ever have its generation */
		old->generation = store->super.generation;
		store->super = *old;
	}
out:
	cow_free(old);
	return r;
}

void cow_store_settle(struct cow_store *store)
{
	struct cow_snapshot *snapshot;
	struct cow_origin *origin;

	list_for_each_entry(origin, &store->origins, list) {
		cow_log_close_segment(&origin->log);
		if (cow_rollback_overlay(origin))
			cow_log_close_segment(&cow_rollback_overlay(origin)->log);
	}
	list_for_each_entry(snapshot, &store->snapshots, all)
		if (snapshot->overlay)
			cow_log_close_segment(&snapshot->overlay->log);
}

static void free_pending(struct cow_log *log)
{
	struct cow_summary_data *summary, *next;

	list_for_each_entry_safe(summary, next, &log->summaries, list)
		cow_free(summary);
	INIT_LIST_HEAD(&log->summaries);
}

void cow_store_destroy(struct cow_store *store)
{
	struct cow_snapshot *snapshot, *next_snapshot;
	struct cow_overlay *overlay, *next_overlay;
	struct cow_origin *origin, *next_origin;

	list_for_each_entry_safe(snapshot, next_snapshot, &store->snapshots, all) {
		if (snapshot->overlay) {
			free_pending(&snapshot->overlay->log);
			cow_overlay_free(snapshot->overlay);
		}
		cow_snapshot_unlink(snapshot);
		cow_snapshot_free(snapshot);
	}
	list_for_each_entry_safe(overlay, next_overlay, &store->dying_overlays, dying) {
		free_pending(&overlay->log);
		cow_overlay_free(overlay);
	}
	list_for_each_entry_safe(origin, next_origin, &store->origins, list) {
		free_pending(&origin->log);
		if (cow_rollback_overlay(origin))
			free_pending(&cow_rollback_overlay(origin)->log);
		cow_origin_free(origin);
	}
	cow_segments_free_all(store);
	cow_pool_destroy(&store->pool);
}
