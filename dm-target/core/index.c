// SPDX-License-Identifier: GPL-2.0-only
/*
 * The index of exceptions, see index.h: what the entries of the tree mean, lookups
 * from an epoch on, insertion and removal of runs. It knows nothing of how the
 * tree is kept in order, of the disk format or of where nodes are kept.
 */
#include "index_tree.h"

/* --------------------------------------------------------------- lookup --- */

/* A place in a leaf, for reading. leaf is NULL behind the last entry. */
struct cow_cursor {
	const struct cow_node *leaf;
	u32 slot;
};

static const struct cow_entry *cursor_entry(struct cow_cursor *cursor)
{
	while (cursor->leaf && cursor->slot == cursor->leaf->count) {
		cursor->leaf = cursor->leaf->next;
		cursor->slot = 0;
	}
	return cursor->leaf ? &cursor->leaf->leaf.entry[cursor->slot] : NULL;
}

static void cursor_find(struct cow_cursor *cursor, const struct cow_index *index,
			struct cow_key key)
{
	cursor->slot = 0;
	cursor->leaf = cow_tree_leaf(index, key, &cursor->slot);
}

u64 cow_index_lookup(const struct cow_index *index, u64 block, u64 from_epoch, u64 *epoch)
{
	u64 chunk = block / COW_CHUNK_BLOCKS;
	u32 i = block % COW_CHUNK_BLOCKS;
	const struct cow_entry *entry;
	struct cow_cursor cursor;

	if (block > COW_INDEX_MAX_BLOCK || from_epoch > COW_INDEX_MAX_EPOCH)
		return COW_NOT_FOUND;
	cursor_find(&cursor, index, make_key(chunk, from_epoch));
	while ((entry = cursor_entry(&cursor)) && entry_chunk(entry) == chunk) {
		if (entry_bits(entry) >> i & 1) {
			if (epoch)
				*epoch = entry_epoch(entry);
			return entry_base(entry) + i;
		}
		cursor.slot++;
	}
	return COW_NOT_FOUND;
}

struct run_answer {
	u64 location; /* of the run's first block */
	u64 epoch;
};

/* How many bits from bit i on are set. */
static u32 ones_from(u32 bits, u32 i)
{
	u32 count = 0;

	while (i + count < COW_CHUNK_BLOCKS && bits >> (i + count) & 1)
		count++;
	return count;
}

/*
 * How many blocks from block i of the chunk on have one answer, and which. The
 * cursor is at the first entry that counts, and goes no further than needed.
 */
static u32 chunk_run(struct cow_cursor *cursor, u64 chunk, u32 i, struct run_answer *answer)
{
	const struct cow_entry *entry;
	u16 taken = 0;

	while ((entry = cursor_entry(cursor)) && entry_chunk(entry) == chunk) {
		u16 bits = entry_bits(entry);

		cursor->slot++;
		if (bits >> i & 1) {
			answer->location = entry_base(entry) + i;
			answer->epoch = entry_epoch(entry);
			return ones_from(bits & ~taken, i);
		}
		taken |= bits;
	}
	answer->location = COW_NOT_FOUND;
	answer->epoch = 0;
	return ones_from((u16)~taken, i);
}

/* Moves the cursor to the first entry that counts for the chunk behind @chunk. */
static void cursor_next_chunk(struct cow_cursor *cursor, const struct cow_index *index, u64 chunk,
			      u64 from_epoch)
{
	const struct cow_entry *entry = cursor_entry(cursor);

	if (!entry || entry_chunk(entry) > chunk + 1)
		return;
	if (entry_chunk(entry) == chunk + 1 && entry_epoch(entry) >= from_epoch)
		return;
	cursor_find(cursor, index, make_key(chunk + 1, from_epoch));
}

u32 cow_index_lookup_run(const struct cow_index *index, u64 block, u32 length, u64 from_epoch,
			 u64 *location, u64 *epoch)
{
	u64 chunk = block / COW_CHUNK_BLOCKS;
	u32 i = block % COW_CHUNK_BLOCKS;
	struct run_answer first, more;
	struct cow_cursor cursor;
	u32 run;

	*location = COW_NOT_FOUND;
	if (block > COW_INDEX_MAX_BLOCK || from_epoch > COW_INDEX_MAX_EPOCH)
		return length;
	length = min_t(u64, length, COW_INDEX_MAX_BLOCK - block + 1);

	cursor_find(&cursor, index, make_key(chunk, from_epoch));
	run = chunk_run(&cursor, chunk, i, &first);
	while (run < length && (i + run) % COW_CHUNK_BLOCKS == 0) {
		u32 found;

		cursor_next_chunk(&cursor, index, chunk, from_epoch);
		chunk++;
		found = chunk_run(&cursor, chunk, 0, &more);
		if (first.location == COW_NOT_FOUND) {
			if (more.location != COW_NOT_FOUND)
				break;
		} else if (more.epoch != first.epoch || more.location != first.location + run) {
			break;
		}
		run += found;
		if (found < COW_CHUNK_BLOCKS)
			break;
	}

	*location = first.location;
	if (epoch && first.location != COW_NOT_FOUND)
		*epoch = first.epoch;
	return min(run, length);
}

/* ------------------------------------------------------------ insertion --- */

u32 cow_index_run_entries(u64 block, u32 length)
{
	if (!length)
		return 0;
	return (block % COW_CHUNK_BLOCKS + length - 1) / COW_CHUNK_BLOCKS + 1;
}

/*
 * Adds the bits to an entry with this key and base if there is one at the path or behind
 * it. Leaves the path behind the entries of this key in its leaf.
 */
static bool path_merge(struct cow_index *index, struct cow_path *path, struct cow_key key,
		       u16 bits, u64 base)
{
	struct cow_node *leaf = path->node[0];
	u32 slot = path->slot[0];

	while (leaf) {
		for (; slot < leaf->count; slot++) {
			struct cow_entry *entry = &leaf->leaf.entry[slot];
			u16 old = entry_bits(entry);

			if (!key_equal(entry_key(entry), key))
				return false;
			if (entry_base(entry) == base) {
				entry_set_bits(entry, old | bits);
				index->blocks += hweight16(bits & ~old);
				return true;
			}
			if (leaf == path->node[0])
				path->slot[0]++;
		}
		leaf = leaf->next;
		slot = 0;
	}
	return false;
}

static int insert_entry(struct cow_index *index, struct cow_entry entry)
{
	struct cow_key key = entry_key(&entry);
	struct cow_path path;

	if (!index->root && !cow_tree_plant(index))
		return -ENOSPC;
	cow_tree_find(&path, index, key);
	if (path_merge(index, &path, key, entry_bits(&entry), entry_base(&entry)))
		return 0;
	return cow_tree_insert(index, &path, entry);
}

int cow_index_insert(struct cow_index *index, u64 block, u32 length, u64 epoch, u64 location)
{
	struct cow_run run = {
		.block = block, .length = length, .epoch = epoch, .location = location,
	};
	int r;

	if (!run_valid(&run))
		return -EINVAL;
	while (run.length) {
		r = insert_entry(index, run_take_entry(&run));
		if (r)
			return r;
	}
	return 0;
}

/* -------------------------------------------------------------- removal --- */

u64 cow_index_remove(struct cow_index *index, u64 block, u64 epoch, u64 location)
{
	struct cow_key key = make_key(block / COW_CHUNK_BLOCKS, epoch);
	u32 i = block % COW_CHUNK_BLOCKS;
	struct cow_path path;

	if (!index->root || block > COW_INDEX_MAX_BLOCK || epoch > COW_INDEX_MAX_EPOCH)
		return COW_NOT_FOUND;
	cow_tree_find(&path, index, key);
	do {
		struct cow_node *leaf = path.node[0];

		for (; path.slot[0] < leaf->count; path.slot[0]++) {
			struct cow_entry *entry = &leaf->leaf.entry[path.slot[0]];
			u16 bits = entry_bits(entry);
			u64 found = entry_base(entry) + i;

			if (!key_equal(entry_key(entry), key))
				return COW_NOT_FOUND;
			if (!(bits >> i & 1) || (location != COW_NOT_FOUND && found != location))
				continue;
			bits &= ~(1u << i);
			entry_set_bits(entry, bits);
			index->blocks--;
			if (!bits) {
				cow_leaf_remove(leaf, path.slot[0]);
				index->entries--;
				cow_tree_tidy(index, &path);
			}
			return found;
		}
	} while (cow_tree_next_leaf(&path, index));
	return COW_NOT_FOUND;
}

/* What a walk of cow_index_filter() has done, and where it ends. */
struct filter_walk {
	cow_index_visitor visitor;
	void *context;
	u32 budget; /* that is left */
	u64 chunk; /* last one visited */
	u64 stop_chunk; /* to go on with; COW_NOT_FOUND: not stopped */
};

/* Visits the entries of a leaf from @slot on and closes the gaps; true when some went. */
static bool filter_leaf(struct cow_index *index, struct cow_node *leaf, u32 slot,
			struct filter_walk *walk)
{
	u32 kept = slot;

	for (; slot < leaf->count; slot++) {
		struct cow_entry *entry = &leaf->leaf.entry[slot];
		u64 chunk = entry_chunk(entry);
		u16 bits = entry_bits(entry), stay;

		if (!walk->budget && chunk != walk->chunk) {
			walk->stop_chunk = chunk;
			break;
		}
		walk->chunk = chunk;
		if (walk->budget)
			walk->budget--;
		stay = bits & walk->visitor(walk->context, chunk, entry_epoch(entry),
					    entry_base(entry), bits);
		if (stay != bits) {
			index->blocks -= hweight16(bits & ~stay);
			if (!stay) {
				index->entries--;
				continue;
			}
			entry_set_bits(entry, stay);
		}
		if (kept != slot)
			leaf->leaf.entry[kept] = *entry;
		kept++;
	}
	if (kept == slot)
		return false;
	memmove(&leaf->leaf.entry[kept], &leaf->leaf.entry[slot],
		(leaf->count - slot) * sizeof(leaf->leaf.entry[0]));
	leaf->count -= slot - kept;
	return true;
}

u64 cow_index_filter(struct cow_index *index, u64 chunk, u32 budget, cow_index_visitor visitor,
		     void *context)
{
	struct filter_walk walk = {
		.visitor = visitor,
		.context = context,
		.budget = max(budget, 1u),
		.chunk = COW_NOT_FOUND,
		.stop_chunk = COW_NOT_FOUND,
	};
	struct cow_path path;
	bool more;

	if (!index->root || chunk > COW_INDEX_MAX_BLOCK / COW_CHUNK_BLOCKS)
		return COW_NOT_FOUND;
	cow_tree_find(&path, index, make_key(chunk, 0));
	do {
		if (filter_leaf(index, path.node[0], path.slot[0], &walk))
			more = cow_tree_tidy(index, &path);
		else
			more = cow_tree_next_leaf(&path, index);
	} while (more && walk.stop_chunk == COW_NOT_FOUND);
	return walk.stop_chunk;
}
