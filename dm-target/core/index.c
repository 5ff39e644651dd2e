// SPDX-License-Identifier: GPL-2.0-only
/*
 * The index of exceptions, see index.h: a B+ tree of 512-byte nodes whose leaves
 * are linked. It knows nothing of the disk format or of where nodes are kept.
 *
 * Keys may repeat, also across the border of two nodes: all keys under child i of
 * an inner node are <= separator i, all under child i + 1 are >= separator i. A
 * search descends to the leftmost place where a key can be and goes on along the
 * leaves. Entries of one key have different bases.
 */
#include "index.h"

#define LEAF_ENTRIES 31u
#define INNER_CHILDREN 29u
/* Two neighbours are made one when this much is in them: some room is left. */
#define LEAF_FOLD 24u
#define INNER_FOLD 22u

/*
 * With nodes half full a tree of height 8 holds 10^9 entries; the rest is for trees that
 * removals made thin. Higher ones are refused, so cow_index_worst_nodes() is a true bound.
 */
#define MAX_HEIGHT 12u

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
	struct cow_entry entry[LEAF_ENTRIES];
};

struct cow_inner {
	u64 high[INNER_CHILDREN - 1]; /* separators: high and low part of the key */
	struct cow_node *child[INNER_CHILDREN];
	u8 low[INNER_CHILDREN - 1];
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
	struct cow_node *node[MAX_HEIGHT];
	u16 slot[MAX_HEIGHT];
};

/* -------------------------------------------------------------- entries --- */

static struct cow_key make_key(u64 chunk, u64 epoch)
{
	struct cow_key key = {
		.high = chunk << CHUNK_SHIFT | epoch >> EPOCH_LOW_BITS,
		.low = epoch & ((1u << EPOCH_LOW_BITS) - 1),
	};

	return key;
}

static struct cow_entry make_entry(struct cow_key key, u16 bits, u64 base)
{
	struct cow_entry entry = {
		.high = key.high,
		.low = (u64)key.low << EPOCH_SHIFT | (u64)bits << BITS_SHIFT | base,
	};

	return entry;
}

static struct cow_key entry_key(const struct cow_entry *entry)
{
	struct cow_key key = {
		.high = entry->high,
		.low = entry->low >> EPOCH_SHIFT,
	};

	return key;
}

static u64 entry_chunk(const struct cow_entry *entry)
{
	return entry->high >> CHUNK_SHIFT;
}

static u64 entry_epoch(const struct cow_entry *entry)
{
	return (entry->high & EPOCH_HIGH_MASK) << EPOCH_LOW_BITS | entry->low >> EPOCH_SHIFT;
}

static u16 entry_bits(const struct cow_entry *entry)
{
	return entry->low >> BITS_SHIFT;
}

static u64 entry_base(const struct cow_entry *entry)
{
	return entry->low & BASE_MASK;
}

static void entry_set_bits(struct cow_entry *entry, u16 bits)
{
	entry->low = (entry->low & ~(0xffffull << BITS_SHIFT)) | (u64)bits << BITS_SHIFT;
}

static bool key_less(struct cow_key a, struct cow_key b)
{
	return a.high != b.high ? a.high < b.high : a.low < b.low;
}

static bool key_equal(struct cow_key a, struct cow_key b)
{
	return a.high == b.high && a.low == b.low;
}

/* ----------------------------------------------------------------- pool --- */

void cow_pool_init(struct cow_node_pool *pool)
{
	memset(pool, 0, sizeof(*pool));
}

static void pool_put(struct cow_node_pool *pool, struct cow_node *node)
{
	node->next = pool->free_list;
	pool->free_list = node;
	pool->free++;
}

void cow_pool_destroy(struct cow_node_pool *pool)
{
	while (pool->free_list) {
		struct cow_node *node = pool->free_list;

		pool->free_list = node->next;
		pool->free--;
		pool->allocated--;
		cow_free(node);
	}
}

size_t cow_node_bytes(void)
{
	return sizeof(struct cow_node);
}

struct cow_node *cow_node_new(void)
{
	BUILD_BUG_ON(sizeof(struct cow_node) > 512);

	return cow_alloc(sizeof(struct cow_node));
}

void cow_pool_give(struct cow_node_pool *pool, struct cow_node *node)
{
	pool_put(pool, node);
	pool->allocated++;
}

u32 cow_index_worst_nodes(u32 entries)
{
	/* Each level is split and a root is put on top, but not above MAX_HEIGHT. */
	return min_t(u64, (u64)entries * MAX_HEIGHT, ~0u);
}

u32 cow_index_run_entries(u64 block, u32 length)
{
	if (!length)
		return 0;
	return (block % COW_CHUNK_BLOCKS + length - 1) / COW_CHUNK_BLOCKS + 1;
}

bool cow_pool_reserve(struct cow_node_pool *pool, u32 nodes)
{
	if (cow_pool_missing(pool, nodes))
		return false;
	pool->reserved += nodes;
	return true;
}

void cow_pool_unreserve(struct cow_node_pool *pool, u32 nodes)
{
	pool->reserved -= nodes;
}

u32 cow_pool_missing(const struct cow_node_pool *pool, u32 nodes)
{
	u64 wanted = (u64)pool->reserved + nodes;

	return wanted > pool->free ? min_t(u64, wanted - pool->free, ~0u) : 0;
}

static struct cow_node *node_get(struct cow_index *index, u16 level)
{
	struct cow_node *node = index->pool->free_list;

	index->pool->free_list = node->next;
	index->pool->free--;
	index->nodes++;
	node->next = NULL;
	node->count = 0;
	node->level = level;
	return node;
}

static void node_put(struct cow_index *index, struct cow_node *node)
{
	index->nodes--;
	pool_put(index->pool, node);
}

void cow_index_init(struct cow_index *index, struct cow_node_pool *pool)
{
	memset(index, 0, sizeof(*index));
	index->pool = pool;
}

void cow_index_destroy(struct cow_index *index)
{
	struct cow_node *node, *stack = index->root;

	/* The next pointers of nodes yet to be given back hold the stack together. */
	if (stack)
		stack->next = NULL;
	while (stack) {
		u32 i;

		node = stack;
		stack = node->next;
		for (i = 0; node->level && i < node->count; i++) {
			node->inner.child[i]->next = stack;
			stack = node->inner.child[i];
		}
		node_put(index, node);
	}
	cow_index_init(index, index->pool);
}

/* --------------------------------------------------------------- search --- */

/* First entry of the leaf that is not less than the key. */
static u32 leaf_find(const struct cow_node *leaf, struct cow_key key)
{
	u32 first = 0, count = leaf->count;

	while (count) {
		u32 half = count / 2;

		if (key_less(entry_key(&leaf->leaf.entry[first + half]), key)) {
			first += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return first;
}

static struct cow_key separator(const struct cow_node *node, u32 i)
{
	struct cow_key key = {
		.high = node->inner.high[i],
		.low = node->inner.low[i],
	};

	return key;
}

/* Leftmost child that the key can be under. */
static u32 inner_find(const struct cow_node *node, struct cow_key key)
{
	u32 first = 0, count = node->count - 1;

	while (count) {
		u32 half = count / 2;

		if (key_less(separator(node, first + half), key)) {
			first += half + 1;
			count -= half + 1;
		} else {
			count = half;
		}
	}
	return first;
}

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
	const struct cow_node *node = index->root;

	cursor->leaf = NULL;
	cursor->slot = 0;
	if (!node)
		return;
	while (node->level)
		node = node->inner.child[inner_find(node, key)];
	cursor->leaf = node;
	cursor->slot = leaf_find(node, key);
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

/* ---------------------------------------------------------------- paths --- */

/* From @node down to the leftmost entry under it. */
static void path_leftmost(struct cow_path *path, struct cow_node *node)
{
	while (node->level) {
		path->node[node->level] = node;
		path->slot[node->level] = 0;
		node = node->inner.child[0];
	}
	path->node[0] = node;
	path->slot[0] = 0;
}

/* As path_leftmost(), under the child that the slot at @level says. */
static void path_descend(struct cow_path *path, u32 level)
{
	path_leftmost(path, path->node[level]->inner.child[path->slot[level]]);
}

static void path_find(struct cow_path *path, const struct cow_index *index, struct cow_key key)
{
	struct cow_node *node = index->root;

	while (node->level) {
		u32 slot = inner_find(node, key);

		path->node[node->level] = node;
		path->slot[node->level] = slot;
		node = node->inner.child[slot];
	}
	path->node[0] = node;
	path->slot[0] = leaf_find(node, key);
}

/*
 * Makes a path whose slot at @level may be one behind the node's last child one of the
 * next leaf; false if there is none.
 */
static bool path_settle(struct cow_path *path, const struct cow_index *index, u32 level)
{
	while (level < index->height && path->slot[level] >= path->node[level]->count) {
		level++;
		if (level < index->height)
			path->slot[level]++;
	}
	if (level >= index->height)
		return false;
	path_descend(path, level);
	return true;
}

static bool path_next_leaf(struct cow_path *path, const struct cow_index *index)
{
	if (index->height < 2)
		return false;
	path->slot[1]++;
	return path_settle(path, index, 1);
}

/* Leaf in front of the path's; NULL: it is the first. */
static struct cow_node *path_previous_leaf(const struct cow_path *path,
					   const struct cow_index *index)
{
	struct cow_node *node;
	u32 level = 1;

	while (level < index->height && !path->slot[level])
		level++;
	if (level >= index->height)
		return NULL;
	node = path->node[level]->inner.child[path->slot[level] - 1];
	while (node->level)
		node = node->inner.child[node->count - 1];
	return node;
}

/* ------------------------------------------------------------ insertion --- */

static void leaf_insert(struct cow_node *leaf, u32 slot, struct cow_entry entry)
{
	struct cow_entry *at = &leaf->leaf.entry[slot];

	memmove(at + 1, at, (leaf->count - slot) * sizeof(*at));
	*at = entry;
	leaf->count++;
}

/* Puts @child behind child number @slot, @key between them. */
static void inner_insert(struct cow_node *node, u32 slot, struct cow_key key,
			 struct cow_node *child)
{
	struct cow_inner *inner = &node->inner;
	u32 behind = node->count - 1 - slot;

	memmove(&inner->high[slot + 1], &inner->high[slot], behind * sizeof(inner->high[0]));
	memmove(&inner->low[slot + 1], &inner->low[slot], behind * sizeof(inner->low[0]));
	memmove(&inner->child[slot + 2], &inner->child[slot + 1],
		behind * sizeof(inner->child[0]));
	inner->high[slot] = key.high;
	inner->low[slot] = key.low;
	inner->child[slot + 1] = child;
	node->count++;
}

/*
 * Splits a full leaf and inserts; returns the new leaf behind it. At the right edge
 * the leaf stays full, because ascending keys never come back to it.
 */
static struct cow_node *leaf_split(struct cow_index *index, struct cow_node *leaf, u32 slot,
				   struct cow_entry entry)
{
	bool at_end = !leaf->next && slot == leaf->count;
	u32 keep = at_end ? LEAF_ENTRIES : (LEAF_ENTRIES + 1) / 2;
	struct cow_node *right = node_get(index, 0);

	right->count = leaf->count - keep;
	memcpy(right->leaf.entry, &leaf->leaf.entry[keep], right->count * sizeof(entry));
	leaf->count = keep;
	right->next = leaf->next;
	leaf->next = right;
	if (at_end || slot > keep)
		leaf_insert(right, slot - keep, entry);
	else
		leaf_insert(leaf, slot, entry);
	return right;
}

/* As leaf_split(), for an inner node; *key becomes what separates the two halves. */
static struct cow_node *inner_split(struct cow_index *index, struct cow_node *node, u32 slot,
				    struct cow_key *key, struct cow_node *child, bool right_edge)
{
	struct cow_node *right = node_get(index, node->level);
	const u32 keep = (INNER_CHILDREN + 1) / 2;
	struct cow_key middle;
	u32 moved;

	if (right_edge && slot == node->count - 1u) {
		right->inner.child[0] = child;
		right->count = 1;
		return right;
	}

	middle = separator(node, keep - 1);
	moved = node->count - keep;
	memcpy(right->inner.child, &node->inner.child[keep], moved * sizeof(child));
	memcpy(right->inner.high, &node->inner.high[keep],
	       (moved - 1) * sizeof(node->inner.high[0]));
	memcpy(right->inner.low, &node->inner.low[keep], (moved - 1) * sizeof(node->inner.low[0]));
	right->count = moved;
	node->count = keep;
	if (slot < keep)
		inner_insert(node, slot, *key, child);
	else
		inner_insert(right, slot - keep, *key, child);
	*key = middle;
	return right;
}

static void root_grow(struct cow_index *index, struct cow_key key, struct cow_node *right)
{
	struct cow_node *root = node_get(index, index->height);

	root->inner.child[0] = index->root;
	root->count = 1;
	inner_insert(root, 0, key, right);
	index->root = root;
	index->height++;
}

/* Nodes that inserting at this path takes; more than any pool has: it must not be done. */
static u32 insert_needs(const struct cow_index *index, const struct cow_path *path)
{
	u32 level;

	if (path->node[0]->count < LEAF_ENTRIES)
		return 0;
	for (level = 1; level < index->height; level++)
		if (path->node[level]->count < INNER_CHILDREN)
			return level;
	return index->height < MAX_HEIGHT ? index->height + 1 : ~0u;
}

static int path_insert(struct cow_index *index, const struct cow_path *path,
		       struct cow_entry entry)
{
	struct cow_node *leaf = path->node[0], *child;
	bool right_edge = !leaf->next;
	struct cow_key key;
	u32 level;

	if (insert_needs(index, path) > index->pool->free)
		return -ENOSPC;
	index->entries++;
	index->blocks += hweight16(entry_bits(&entry));
	if (leaf->count < LEAF_ENTRIES) {
		leaf_insert(leaf, path->slot[0], entry);
		return 0;
	}

	child = leaf_split(index, leaf, path->slot[0], entry);
	key = entry_key(&child->leaf.entry[0]);
	for (level = 1; level < index->height; level++) {
		struct cow_node *node = path->node[level];

		if (node->count < INNER_CHILDREN) {
			inner_insert(node, path->slot[level], key, child);
			return 0;
		}
		child = inner_split(index, node, path->slot[level], &key, child, right_edge);
	}
	root_grow(index, key, child);
	return 0;
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

static int insert_entry(struct cow_index *index, struct cow_key key, u16 bits, u64 base)
{
	struct cow_path path;

	if (!index->root) {
		if (!index->pool->free)
			return -ENOSPC;
		index->root = node_get(index, 0);
		index->height = 1;
	}
	path_find(&path, index, key);
	if (path_merge(index, &path, key, bits, base))
		return 0;
	return path_insert(index, &path, make_entry(key, bits, base));
}

int cow_index_insert(struct cow_index *index, u64 block, u32 length, u64 epoch, u64 location)
{
	if (!length || block > COW_INDEX_MAX_BLOCK || length - 1 > COW_INDEX_MAX_BLOCK - block)
		return -EINVAL;
	if (location < COW_CHUNK_BLOCKS || location > COW_INDEX_MAX_LOCATION ||
	    length - 1 > COW_INDEX_MAX_LOCATION - location)
		return -EINVAL;
	if (epoch > COW_INDEX_MAX_EPOCH)
		return -EINVAL;

	while (length) {
		u32 i = block % COW_CHUNK_BLOCKS;
		u32 count = min(length, COW_CHUNK_BLOCKS - i);
		u16 bits = ((1u << count) - 1) << i;
		int r;

		r = insert_entry(index, make_key(block / COW_CHUNK_BLOCKS, epoch), bits,
				 location - i);
		if (r)
			return r;
		block += count;
		location += count;
		length -= count;
	}
	return 0;
}

/* -------------------------------------------------------------- removal --- */

static void inner_remove(struct cow_node *node, u32 slot)
{
	struct cow_inner *inner = &node->inner;
	u32 key = slot ? slot - 1 : 0;

	memmove(&inner->child[slot], &inner->child[slot + 1],
		(node->count - slot - 1) * sizeof(inner->child[0]));
	if (node->count > 1) {
		u32 behind = node->count - 2 - key;

		memmove(&inner->high[key], &inner->high[key + 1],
			behind * sizeof(inner->high[0]));
		memmove(&inner->low[key], &inner->low[key + 1], behind * sizeof(inner->low[0]));
	}
	node->count--;
}

static void root_shrink(struct cow_index *index)
{
	while (index->height > 1 && index->root->count == 1) {
		struct cow_node *root = index->root;

		index->root = root->inner.child[0];
		index->height--;
		node_put(index, root);
	}
}

/*
 * Takes the path's node at @level, and what gets empty above it, out of the tree.
 * Returns the level at which the path's slot is that of the next child, if there is one;
 * index->height when the tree is empty.
 */
static u32 path_detach(struct cow_index *index, struct cow_path *path, u32 level)
{
	node_put(index, path->node[level]);
	for (level++; level < index->height; level++) {
		inner_remove(path->node[level], path->slot[level]);
		if (path->node[level]->count)
			return level;
		node_put(index, path->node[level]);
	}
	index->root = NULL;
	index->height = 0;
	return 0;
}

/* Appends what is in @right to @left; @key is what separated them. */
static void node_append(struct cow_node *left, const struct cow_node *right, struct cow_key key)
{
	u32 at = left->count;

	if (left->level) {
		left->inner.high[at - 1] = key.high;
		left->inner.low[at - 1] = key.low;
		memcpy(&left->inner.child[at], right->inner.child,
		       right->count * sizeof(right->inner.child[0]));
		memcpy(&left->inner.high[at], right->inner.high,
		       (right->count - 1) * sizeof(right->inner.high[0]));
		memcpy(&left->inner.low[at], right->inner.low,
		       (right->count - 1) * sizeof(right->inner.low[0]));
	} else {
		memcpy(&left->leaf.entry[at], right->leaf.entry,
		       right->count * sizeof(right->leaf.entry[0]));
		left->next = right->next;
	}
	left->count += right->count;
}

/* Moves the path's node at @level into its left neighbour under the same parent, if it fits. */
static bool path_fold(struct cow_index *index, struct cow_path *path, u32 level)
{
	struct cow_node *node = path->node[level], *parent, *left;
	u32 slot;

	if (level + 1 >= index->height || !path->slot[level + 1])
		return false;
	parent = path->node[level + 1];
	slot = path->slot[level + 1] - 1;
	left = parent->inner.child[slot];
	if (left->count + node->count > (level ? INNER_FOLD : LEAF_FOLD))
		return false;
	node_append(left, node, separator(parent, slot));
	path_detach(index, path, level);
	return true;
}

/*
 * After entries were taken out of the path's leaf: frees it when it is empty, folds it
 * and the nodes above it that got small. Moves the path to the next leaf; false if there
 * is none.
 */
static bool path_tidy_and_next(struct cow_index *index, struct cow_path *path)
{
	struct cow_node *leaf = path->node[0];
	u32 level = 1;

	if (!leaf->count) {
		struct cow_node *previous = path_previous_leaf(path, index);

		if (previous)
			previous->next = leaf->next;
		level = path_detach(index, path, 0);
		if (!index->root)
			return false;
	} else if (index->height < 2) {
		return false;
	} else if (!path_fold(index, path, 0)) {
		path->slot[1]++;
	}

	/* The nodes above the leaf are done once their last child is. */
	while (level < index->height && path->slot[level] >= path->node[level]->count) {
		bool folded = path_fold(index, path, level);

		level++;
		if (!folded && level < index->height)
			path->slot[level]++;
	}
	if (level >= index->height) {
		root_shrink(index);
		return false;
	}
	path_descend(path, level);
	root_shrink(index);
	return true;
}

static void leaf_remove(struct cow_node *leaf, u32 slot)
{
	struct cow_entry *at = &leaf->leaf.entry[slot];

	memmove(at, at + 1, (leaf->count - slot - 1) * sizeof(*at));
	leaf->count--;
}

u64 cow_index_remove(struct cow_index *index, u64 block, u64 epoch, u64 location)
{
	struct cow_key key = make_key(block / COW_CHUNK_BLOCKS, epoch);
	u32 i = block % COW_CHUNK_BLOCKS;
	struct cow_path path;

	if (!index->root || block > COW_INDEX_MAX_BLOCK || epoch > COW_INDEX_MAX_EPOCH)
		return COW_NOT_FOUND;
	path_find(&path, index, key);
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
				leaf_remove(leaf, path.slot[0]);
				index->entries--;
				path_tidy_and_next(index, &path);
			}
			return found;
		}
	} while (path_next_leaf(&path, index));
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
	bool removed;

	for (; slot < leaf->count; slot++) {
		struct cow_entry entry = leaf->leaf.entry[slot];
		u64 chunk = entry_chunk(&entry);
		u16 bits = entry_bits(&entry), stay;

		if (!walk->budget && chunk != walk->chunk) {
			walk->stop_chunk = chunk;
			break;
		}
		walk->chunk = chunk;
		if (walk->budget)
			walk->budget--;
		stay = bits & walk->visitor(walk->context, chunk, entry_epoch(&entry),
					    entry_base(&entry), bits);
		index->blocks -= hweight16(bits & ~stay);
		if (!stay) {
			index->entries--;
			continue;
		}
		entry_set_bits(&entry, stay);
		leaf->leaf.entry[kept++] = entry;
	}
	removed = kept != slot;
	memmove(&leaf->leaf.entry[kept], &leaf->leaf.entry[slot],
		(leaf->count - slot) * sizeof(leaf->leaf.entry[0]));
	leaf->count -= slot - kept;
	return removed;
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
	path_find(&path, index, make_key(chunk, 0));
	do {
		if (filter_leaf(index, path.node[0], path.slot[0], &walk))
			more = path_tidy_and_next(index, &path);
		else
			more = path_next_leaf(&path, index);
	} while (more && walk.stop_chunk == COW_NOT_FOUND);
	return walk.stop_chunk;
}

/* ---------------------------------------------------------------- check --- */

static bool check_leaf(const struct cow_node *leaf, struct cow_key *previous, u64 *blocks)
{
	u32 i;

	if (!leaf->count || leaf->count > LEAF_ENTRIES || leaf->level)
		return false;
	for (i = 0; i < leaf->count; i++) {
		const struct cow_entry *entry = &leaf->leaf.entry[i];

		if (key_less(entry_key(entry), *previous) || !entry_bits(entry))
			return false;
		*previous = entry_key(entry);
		*blocks += hweight16(entry_bits(entry));
	}
	return true;
}

/* The nodes above the path's leaf; counts those that are seen for the first time. */
static bool check_above(const struct cow_index *index, const struct cow_path *path, u64 *nodes)
{
	const struct cow_node *leaf = path->node[0];
	bool first = true;
	u32 level;

	for (level = 1; level < index->height; level++) {
		const struct cow_node *node = path->node[level];
		u32 slot = path->slot[level];

		if (node->level != level || !node->count || node->count > INNER_CHILDREN)
			return false;
		if (slot && key_less(entry_key(&leaf->leaf.entry[0]), separator(node, slot - 1)))
			return false;
		if (slot + 1 < node->count &&
		    key_less(separator(node, slot), entry_key(&leaf->leaf.entry[leaf->count - 1])))
			return false;
		first = first && !slot;
		*nodes += first;
	}
	return true;
}

bool cow_index_check(const struct cow_index *index)
{
	u64 entries = 0, blocks = 0, nodes = 0;
	const struct cow_node *expected;
	struct cow_key previous = { 0 };
	struct cow_path path;

	if (!index->root)
		return !index->height && !index->entries && !index->blocks && !index->nodes;
	if (index->root->level + 1u != index->height || index->height > MAX_HEIGHT ||
	    (index->height > 1 && index->root->count < 2))
		return false;

	path_leftmost(&path, index->root);
	expected = path.node[0];
	do {
		const struct cow_node *leaf = path.node[0];

		if (leaf != expected || !check_leaf(leaf, &previous, &blocks) ||
		    !check_above(index, &path, &nodes))
			return false;
		entries += leaf->count;
		nodes++;
		expected = leaf->next;
	} while (path_next_leaf(&path, index));
	return !expected && entries == index->entries && blocks == index->blocks &&
	       nodes == index->nodes;
}
