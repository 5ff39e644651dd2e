// SPDX-License-Identifier: GPL-2.0-only
/*
 * The mechanics of the tree, see index_tree.h: nodes and their pool, ways through
 * the tree, insertion with splits, removal with folds, and the check of it all.
 */
#include "index_tree.h"

/* Two neighbours are made one when this much is in them: some room is left. */
#define LEAF_FOLD 24u
#define INNER_FOLD 22u

/* ----------------------------------------------------------------- pool --- */

void cow_pool_init(struct cow_node_pool *pool)
{
	memset(pool, 0, sizeof(*pool));
}

static void free_nodes(struct cow_node_pool *pool, u32 keep)
{
	while (pool->free > keep) {
		pool->allocated--;
		cow_free(cow_pool_take(pool, 0));
		cond_resched();
	}
}

void cow_pool_destroy(struct cow_node_pool *pool)
{
	free_nodes(pool, 0);
}

void cow_pool_trim(struct cow_node_pool *pool)
{
	free_nodes(pool, pool->reserved);
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
	cow_pool_put(pool, node);
	pool->allocated++;
}

u32 cow_index_worst_nodes(u32 entries)
{
	/* Each level is split and a root is put on top, but not above COW_INDEX_MAX_HEIGHT. */
	return min_t(u64, (u64)entries * COW_INDEX_MAX_HEIGHT, ~0u);
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
	index->nodes++;
	return cow_pool_take(index->pool, level);
}

static void node_put(struct cow_index *index, struct cow_node *node)
{
	index->nodes--;
	cow_pool_put(index->pool, node);
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

const struct cow_node *cow_tree_leaf(const struct cow_index *index, struct cow_key key, u32 *slot)
{
	const struct cow_node *node = index->root;

	if (!node)
		return NULL;
	while (node->level)
		node = node->inner.child[inner_find(node, key)];
	*slot = leaf_find(node, key);
	return node;
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

void cow_tree_find(struct cow_path *path, const struct cow_index *index, struct cow_key key)
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

bool cow_tree_next_leaf(struct cow_path *path, const struct cow_index *index)
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
	u32 keep = at_end ? COW_LEAF_ENTRIES : (COW_LEAF_ENTRIES + 1) / 2;
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
	const u32 keep = (COW_INNER_CHILDREN + 1) / 2;
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

	if (path->node[0]->count < COW_LEAF_ENTRIES)
		return 0;
	for (level = 1; level < index->height; level++)
		if (path->node[level]->count < COW_INNER_CHILDREN)
			return level;
	return index->height < COW_INDEX_MAX_HEIGHT ? index->height + 1 : ~0u;
}

int cow_tree_insert(struct cow_index *index, const struct cow_path *path, struct cow_entry entry)
{
	struct cow_node *leaf = path->node[0], *child;
	bool right_edge = !leaf->next;
	struct cow_key key;
	u32 level;

	if (insert_needs(index, path) > index->pool->free)
		return -ENOSPC;
	index->entries++;
	index->blocks += hweight16(entry_bits(&entry));
	if (leaf->count < COW_LEAF_ENTRIES) {
		leaf_insert(leaf, path->slot[0], entry);
		return 0;
	}

	child = leaf_split(index, leaf, path->slot[0], entry);
	key = entry_key(&child->leaf.entry[0]);
	for (level = 1; level < index->height; level++) {
		struct cow_node *node = path->node[level];

		if (node->count < COW_INNER_CHILDREN) {
			inner_insert(node, path->slot[level], key, child);
			return 0;
		}
		child = inner_split(index, node, path->slot[level], &key, child, right_edge);
	}
	root_grow(index, key, child);
	return 0;
}

bool cow_tree_plant(struct cow_index *index)
{
	if (!index->pool->free)
		return false;
	index->root = node_get(index, 0);
	index->height = 1;
	return true;
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

bool cow_tree_tidy(struct cow_index *index, struct cow_path *path)
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

void cow_leaf_remove(struct cow_node *leaf, u32 slot)
{
	struct cow_entry *at = &leaf->leaf.entry[slot];

	memmove(at, at + 1, (leaf->count - slot - 1) * sizeof(*at));
	leaf->count--;
}

/* ---------------------------------------------------------------- check --- */

static bool check_leaf(const struct cow_node *leaf, struct cow_key *previous, u64 *blocks)
{
	u32 i;

	if (!leaf->count || leaf->count > COW_LEAF_ENTRIES || leaf->level)
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

		if (node->level != level || !node->count || node->count > COW_INNER_CHILDREN)
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
	if (index->root->level + 1u != index->height || index->height > COW_INDEX_MAX_HEIGHT ||
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
	} while (cow_tree_next_leaf(&path, index));
	return !expected && entries == index->entries && blocks == index->blocks &&
	       nodes == index->nodes;
}
