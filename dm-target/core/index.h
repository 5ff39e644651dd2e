/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The index of exceptions: a B+ tree in memory from (chunk, epoch) to where
 * the blocks of the chunk that were preserved in that epoch are in the store.
 *
 * A chunk is 16 aligned blocks of the origin. An entry holds a run of blocks of
 * one chunk: 16 bits say which of the chunk's blocks it (still) holds, block
 * (chunk * 16 + i) is at "base + i" in the store. There may be several entries
 * with one key. Because the epoch is the low part of the key, one descent finds
 * the oldest exception that a snapshot must see, however many snapshots there
 * are. 16 bytes an entry, leaves at least half full after random insertion and
 * full after insertion in ascending order.
 *
 * No locking here: the caller serializes changes against everything, lookups
 * against changes. Nodes come from a pool that is filled beforehand, so that
 * insertion never allocates (but for what is inserted many at once).
 */
#ifndef COW_INDEX_H
#define COW_INDEX_H

#include "platform.h"

#define COW_CHUNK_BLOCKS 16u
#define COW_INDEX_MAX_BLOCK ((1ull << 40) - 1) /* 4 PiB */
#define COW_INDEX_MAX_EPOCH 0xffffffffull
#define COW_INDEX_MAX_LOCATION ((1ull << 44) - 1)
#define COW_NOT_FOUND (~0ull)

struct cow_node;
struct cow_entry;

/*
 * Nodes that are free, and how many of them are promised. Shared by all the
 * indexes of a store.
 */
struct cow_node_pool {
	struct cow_node *free_list;
	u32 free;
	u32 reserved;
	u64 allocated; /* all nodes, in use and free; for accounting */
};

struct cow_index {
	struct cow_node_pool *pool;
	struct cow_node *root; /* NULL: empty */
	u32 height;
	u64 entries;
	u64 blocks; /* bits set in all entries */
	u64 nodes;
};

void cow_pool_init(struct cow_node_pool *pool);
/* Frees the free nodes; all indexes that use the pool must be destroyed. */
void cow_pool_destroy(struct cow_node_pool *pool);
/* Bytes of one node, for accounting. */
size_t cow_node_bytes(void);
/*
 * Allocation, kept apart from the pool so that it can be done without a lock:
 * cow_node_new() may sleep; cow_pool_give() puts the node in.
 */
struct cow_node *cow_node_new(void);
void cow_pool_give(struct cow_node_pool *pool, struct cow_node *node);
/*
 * How many nodes the insertion of any @entries entries can use at most, in an
 * index of any present or future height up to the highest possible.
 */
u32 cow_index_worst_nodes(u32 entries);
/* Number of entries that a run becomes: one for each chunk it touches. */
u32 cow_index_run_entries(u64 block, u32 length);
/*
 * Promise @nodes of the pool: true when there are so many free that are not
 * promised. cow_pool_unreserve() takes the promise back, after the insertions.
 */
bool cow_pool_reserve(struct cow_node_pool *pool, u32 nodes);
void cow_pool_unreserve(struct cow_node_pool *pool, u32 nodes);
/* How many nodes cow_node_new() must supply so that reserving @nodes works. */
u32 cow_pool_missing(const struct cow_node_pool *pool, u32 nodes);
/* Frees the nodes that are neither in use nor promised. */
void cow_pool_trim(struct cow_node_pool *pool);

void cow_index_init(struct cow_index *index, struct cow_node_pool *pool);
/*
 * Give all nodes back to the pool. With a large index this takes long: call it
 * when nobody waits.
 */
void cow_index_destroy(struct cow_index *index);

/*
 * Insert the run of @length blocks from @block in @epoch, at @location in the
 * store (location >= 16). Blocks that follow others of their chunk there join
 * their entry; inserting what is there already changes nothing. The nodes must
 * have been reserved. -EINVAL (nothing
 * changed) when a value is out of range, -ENOSPC when the pool ran dry (a bug of
 * the caller; what was inserted before stays).
 */
int cow_index_insert(struct cow_index *index, u64 block, u32 length, u64 epoch, u64 location);

/*
 * The oldest exception of @block in an epoch >= @from_epoch: its store block and,
 * if @epoch is not NULL, the epoch; COW_NOT_FOUND if there is none.
 */
u64 cow_index_lookup(const struct cow_index *index, u64 block, u64 from_epoch, u64 *epoch);

/*
 * The same for a run: how many blocks (1 to @length) from @block on have one
 * answer: either all not found (*location = COW_NOT_FOUND) or found in one epoch
 * (*epoch, unless it is NULL) at consecutive store blocks from *location.
 */
u32 cow_index_lookup_run(const struct cow_index *index, u64 block, u32 length, u64 from_epoch,
			 u64 *location, u64 *epoch);

/*
 * Take @block out of @epoch if it is at @location there (COW_NOT_FOUND: wherever
 * it is). Returns where it was, or COW_NOT_FOUND.
 */
u64 cow_index_remove(struct cow_index *index, u64 block, u64 epoch, u64 location);

/*
 * Visit entries in the order of chunk, then epoch, from @chunk on; stops behind a
 * whole chunk once at least @budget entries were visited. The visitor returns
 * the bits that stay (a subset of @bits); an entry with no bits left is removed.
 * It must not touch the index.
 * Returns the chunk to go on with, or COW_NOT_FOUND at the end.
 */
typedef u16 (*cow_index_visitor)(void *context, u64 chunk, u64 epoch, u64 base, u16 bits);
u64 cow_index_filter(struct cow_index *index, u64 chunk, u32 budget, cow_index_visitor visitor,
		     void *context);

/* Checks order, fill and counts of the whole tree; false when something is off. */
bool cow_index_check(const struct cow_index *index);

/* --------------------------------------------------------- many at once --- */

/* Nodes full of entries, but for the last one. */
struct cow_node_list {
	struct cow_entry *at, *end; /* where the next entry goes, and behind the last one's place */
	struct cow_node *first, *last;
};

/*
 * Very many runs for an index that is empty, in any order: it is then as if they had
 * been inserted one after the other, for a fraction of the time. They are kept in
 * nodes until then, in less memory than the index will take. These functions allocate
 * and may sleep: nobody else may use the index or the pool meanwhile.
 */
struct cow_bulk {
	struct cow_index *index;
	struct cow_node_list list; /* what was added, in the order in which it came */
	u64 blocks; /* bits set in all entries */
};

void cow_bulk_init(struct cow_bulk *bulk, struct cow_index *index);
/*
 * As cow_index_insert(). -ENOMEM: a part of the run may have been added, so that all that
 * can be done is to drop it.
 */
int cow_bulk_add(struct cow_bulk *bulk, u64 block, u32 length, u64 epoch, u64 location);
/*
 * Makes the index of all that was added; @bulk is empty then. -ENOMEM, -EINVAL (the index
 * is not empty): nothing has changed. cow_pool_trim() then gives back what it took for
 * the time.
 */
int cow_bulk_build(struct cow_bulk *bulk);
/* Forgets what was added. */
void cow_bulk_drop(struct cow_bulk *bulk);

#endif
