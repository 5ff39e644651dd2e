/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The tree under the index of exceptions: a B+ tree of 512-byte nodes whose
 * leaves are linked. Only index*.c include this. What the entries mean (chunks,
 * epochs, runs) is index.c's business; the tree knows keys.
 *
 * Keys may repeat, also across the border of two nodes: all keys under child i of
 * an inner node are <= separator i, all under child i + 1 are >= separator i. A
 * search descends to the leftmost place where a key can be and goes on along the
 * leaves. Entries of one key have different bases.
 */
#ifndef COW_INDEX_TREE_H
#define COW_INDEX_TREE_H

#include "index.h"

#define COW_LEAF_ENTRIES 31u
#define COW_INNER_CHILDREN 29u

/*
 * With nodes half full a tree of height 8 holds 10^9 entries; the rest is for trees that
 * removals made thin. Higher ones are refused, so cow_index_worst_nodes() is a true bound.
 */
#define COW_INDEX_MAX_HEIGHT 12u

/*
 * high: chunk (36 bits), upper 28 bits of the epoch
 * low: lower 4 bits of the epoch, bits (16 bits), base (44 bits)
 */
struct cow_entry {
	u64 high;
	u64 low;
};

#define CHUNK_SHIFT 28
#define EPOCH_LOW_BITS 4
#define EPOCH_SHIFT 60
#define BITS_SHIFT 44
#define EPOCH_HIGH_MASK ((1ull << CHUNK_SHIFT) - 1)
#define BASE_MASK ((1ull << BITS_SHIFT) - 1)

struct cow_key {
	u64 high;
	u8 low;
};

struct cow_leaf {
	struct cow_entry entry[COW_LEAF_ENTRIES];
};

struct cow_inner {
	u64 high[COW_INNER_CHILDREN - 1]; /* separators: high and low part of the key */
	struct cow_node *child[COW_INNER_CHILDREN];
	u8 low[COW_INNER_CHILDREN - 1];
};

struct cow_node {
	u16 count; /* entries of a leaf, children of an inner node; never 0 in a tree */
	u16 level; /* 0: leaf */
	struct cow_node *next; /* of a leaf: the leaf behind it; of a free node: the next one */
	union {
		struct cow_leaf leaf;
		struct cow_inner inner;
	};
};

/* From the root to a place in a leaf. By level; the leaf is node[0]. */
struct cow_path {
	struct cow_node *node[COW_INDEX_MAX_HEIGHT];
	u16 slot[COW_INDEX_MAX_HEIGHT];
};

/* -------------------------------------------------------------- entries --- */

static inline struct cow_key make_key(u64 chunk, u64 epoch)
{
	struct cow_key key = {
		.high = chunk << CHUNK_SHIFT | epoch >> EPOCH_LOW_BITS,
		.low = epoch & ((1u << EPOCH_LOW_BITS) - 1),
	};

	return key;
}

static inline struct cow_entry make_entry(struct cow_key key, u16 bits, u64 base)
{
	struct cow_entry entry = {
		.high = key.high,
		.low = (u64)key.low << EPOCH_SHIFT | (u64)bits << BITS_SHIFT | base,
	};

	return entry;
}

static inline struct cow_key entry_key(const struct cow_entry *entry)
{
	struct cow_key key = {
		.high = entry->high,
		.low = entry->low >> EPOCH_SHIFT,
	};

	return key;
}

static inline u64 entry_chunk(const struct cow_entry *entry)
{
	return entry->high >> CHUNK_SHIFT;
}

static inline u64 entry_epoch(const struct cow_entry *entry)
{
	return (entry->high & EPOCH_HIGH_MASK) << EPOCH_LOW_BITS | entry->low >> EPOCH_SHIFT;
}

static inline u16 entry_bits(const struct cow_entry *entry)
{
	return entry->low >> BITS_SHIFT;
}

static inline u64 entry_base(const struct cow_entry *entry)
{
	return entry->low & BASE_MASK;
}

static inline void entry_set_bits(struct cow_entry *entry, u16 bits)
{
	entry->low = (entry->low & ~(0xffffull << BITS_SHIFT)) | (u64)bits << BITS_SHIFT;
}

static inline bool key_less(struct cow_key a, struct cow_key b)
{
	return a.high != b.high ? a.high < b.high : a.low < b.low;
}

static inline bool key_equal(struct cow_key a, struct cow_key b)
{
	return a.high == b.high && a.low == b.low;
}

/* ----------------------------------------------------------------- runs --- */

/* Of blocks that were preserved in one epoch and are one behind the other in the store. */
struct cow_run {
	u64 block;
	u64 epoch;
	u64 location;
	u32 length;
};

/* Can entries hold it? */
static inline bool run_valid(const struct cow_run *run)
{
	return run->length && run->block <= COW_INDEX_MAX_BLOCK &&
	       run->block + run->length - 1 <= COW_INDEX_MAX_BLOCK &&
	       run->location >= COW_CHUNK_BLOCKS && run->location <= COW_INDEX_MAX_LOCATION &&
	       run->location + run->length - 1 <= COW_INDEX_MAX_LOCATION &&
	       run->epoch <= COW_INDEX_MAX_EPOCH;
}

/* Takes what is in the first chunk off the run, which is not empty. */
static inline struct cow_entry run_take_entry(struct cow_run *run)
{
	u32 i = run->block % COW_CHUNK_BLOCKS;
	u32 count = min(run->length, COW_CHUNK_BLOCKS - i);
	struct cow_entry entry = make_entry(make_key(run->block / COW_CHUNK_BLOCKS, run->epoch),
					    ((1u << count) - 1) << i, run->location - i);

	run->block += count;
	run->location += count;
	run->length -= count;
	return entry;
}

/* ---------------------------------------------------------------- nodes --- */

/* The pool has a free node. */
static inline struct cow_node *cow_pool_take(struct cow_node_pool *pool, u16 level)
{
	struct cow_node *node = pool->free_list;

	pool->free_list = node->next;
	pool->free--;
	node->next = NULL;
	node->count = 0;
	node->level = level;
	return node;
}

static inline void cow_pool_put(struct cow_node_pool *pool, struct cow_node *node)
{
	node->next = pool->free_list;
	pool->free_list = node;
	pool->free++;
}

/* ----------------------------------------------------------------- tree --- */

/*
 * The leaf and the slot where the key's first entry is or would be; *slot may be
 * one behind the leaf's last. NULL: the tree is empty.
 */
const struct cow_node *cow_tree_leaf(const struct cow_index *index, struct cow_key key, u32 *slot);
/* The same with the way to it, in a tree that is not empty. */
void cow_tree_find(struct cow_path *path, const struct cow_index *index, struct cow_key key);
/* Moves the path to the next leaf; false if there is none. */
bool cow_tree_next_leaf(struct cow_path *path, const struct cow_index *index);
/*
 * Inserts at the path, which is of no use afterwards. -ENOSPC, nothing changed:
 * the pool has too few nodes, or the tree would be too high.
 */
int cow_tree_insert(struct cow_index *index, const struct cow_path *path, struct cow_entry entry);
/* Makes the first leaf; false without a node. */
bool cow_tree_plant(struct cow_index *index);
void cow_leaf_remove(struct cow_node *leaf, u32 slot);
/*
 * After entries were taken out of the path's leaf: frees it when it is empty, folds it
 * and the nodes above it that got small. Moves the path to the next leaf; false if there
 * is none.
 */
bool cow_tree_tidy(struct cow_index *index, struct cow_path *path);

#endif
