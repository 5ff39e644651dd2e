// SPDX-License-Identifier: GPL-2.0-only
/*
 * Very many entries into an empty index at once, see index.h: they are sorted by key, and
 * then the tree is made from its leaves up.
 *
 * The sort is a radix sort, of the digits in which keys differ, from the lowest one up. It
 * keeps the order of what has the same key, takes the same time for each entry whatever
 * the keys are, and moves entries from nodes to nodes: those that were emptied are used
 * again at once, so that it takes two nodes more for each value of a digit, and no more.
 */
#include "index_tree.h"

#define DIGIT_BITS 9u
#define DIGIT_VALUES (1u << DIGIT_BITS)

/*
 * So full are nodes made: a tree of full ones would have them all split, and be half empty,
 * as soon as a few entries more were in each.
 */
#define BULK_ENTRIES 26u
#define BULK_CHILDREN 24u

/* Fills the pool so that @nodes can be taken. */
static bool pool_fill(struct cow_node_pool *pool, u64 nodes)
{
	u64 missing = pool->reserved + nodes;

	missing -= min_t(u64, missing, pool->free);
	for (; missing; missing--) {
		struct cow_node *node = cow_node_new();

		if (!node)
			return false;
		cow_pool_give(pool, node);
		cond_resched();
	}
	return true;
}

/* A node more, with room for entries; there is one in the pool. */
static void list_extend(struct cow_node_list *list, struct cow_node_pool *pool)
{
	struct cow_node *node = cow_pool_take(pool, 0);

	node->count = COW_LEAF_ENTRIES;
	if (list->last)
		list->last->next = node;
	else
		list->first = node;
	list->last = node;
	list->at = node->leaf.entry;
	list->end = node->leaf.entry + COW_LEAF_ENTRIES;
}

/* No more comes: the last node has as many entries as it says then. */
static void list_end(struct cow_node_list *list)
{
	if (list->last)
		list->last->count -= list->end - list->at;
	list->at = list->end;
}

/* --------------------------------------------------------------- adding --- */

void cow_bulk_init(struct cow_bulk *bulk, struct cow_index *index)
{
	memset(bulk, 0, sizeof(*bulk));
	bulk->index = index;
}

void cow_bulk_drop(struct cow_bulk *bulk)
{
	struct cow_node *node, *next;

	for (node = bulk->list.first; node; node = next) {
		next = node->next;
		cow_pool_put(bulk->index->pool, node);
		cond_resched();
	}
	cow_bulk_init(bulk, bulk->index);
}

/* Kept apart, so that the usual way is short. */
static noinline int add_run(struct cow_bulk *bulk, struct cow_run run)
{
	struct cow_node_list *list = &bulk->list;

	while (run.length) {
		if (list->at == list->end) {
			if (!pool_fill(bulk->index->pool, 1))
				return -ENOMEM;
			list_extend(list, bulk->index->pool);
		}
		*list->at++ = run_take_entry(&run);
	}
	return 0;
}

int cow_bulk_add(struct cow_bulk *bulk, u64 block, u32 length, u64 epoch, u64 location)
{
	struct cow_run run = {
		.block = block, .length = length, .epoch = epoch, .location = location,
	};

	if (!run_valid(&run))
		return -EINVAL;
	bulk->blocks += length;
	/* nearly always: one entry, and there is a place for it */
	if (block % COW_CHUNK_BLOCKS + length <= COW_CHUNK_BLOCKS &&
	    bulk->list.at != bulk->list.end) {
		*bulk->list.at++ = run_take_entry(&run);
		return 0;
	}
	return add_run(bulk, run);
}

/* -------------------------------------------------------------- sorting --- */

/* A digit of the key: what is from bit @shift on in entry->low, or else in entry->high. */
struct digit {
	bool of_low;
	u32 shift;
};

static void node_spread(const struct cow_node *from, struct digit digit,
			struct cow_node_list *buckets, struct cow_node_pool *pool)
{
	const struct cow_entry *entry = from->leaf.entry, *end = entry + from->count;

	for (; entry < end; entry++) {
		u64 word = digit.of_low ? entry->low : entry->high;
		struct cow_node_list *bucket =
			&buckets[word >> digit.shift & (DIGIT_VALUES - 1)];

		if (bucket->at == bucket->end)
			list_extend(bucket, pool);
		*bucket->at++ = *entry;
	}
}

/* @buckets: one for each value of the digit. */
static void sort_by(struct cow_bulk *bulk, struct digit digit, struct cow_node_list *buckets)
{
	struct cow_node_list *sorted = &bulk->list;
	struct cow_node *node, *next;
	u32 i;

	memset(buckets, 0, DIGIT_VALUES * sizeof(*buckets));
	for (node = sorted->first; node; node = next) {
		next = node->next;
		node_spread(node, digit, buckets, bulk->index->pool);
		cow_pool_put(bulk->index->pool, node);
		cond_resched();
	}
	memset(sorted, 0, sizeof(*sorted));
	for (i = 0; i < DIGIT_VALUES; i++) {
		if (!buckets[i].first)
			continue;
		list_end(&buckets[i]);
		if (sorted->last)
			sorted->last->next = buckets[i].first;
		else
			sorted->first = buckets[i].first;
		sorted->last = buckets[i].last;
	}
}

/* How many entries there are, and the bits of them that are not the same in all. */
static u64 entries_differ(const struct cow_bulk *bulk, struct cow_entry *differ)
{
	struct cow_entry any = { 0, 0 }, all = { ~0ull, ~0ull };
	const struct cow_node *node;
	u64 entries = 0;
	u32 i;

	for (node = bulk->list.first; node; node = node->next) {
		for (i = 0; i < node->count; i++) {
			const struct cow_entry *entry = &node->leaf.entry[i];

			any.high |= entry->high;
			any.low |= entry->low;
			all.high &= entry->high;
			all.low &= entry->low;
		}
		entries += node->count;
		cond_resched();
	}
	differ->high = any.high & ~all.high;
	differ->low = any.low & ~all.low;
	return entries;
}

/* By key; what has the same key stays in the order in which it came. */
static void sort_entries(struct cow_bulk *bulk, struct cow_entry differ,
			 struct cow_node_list *buckets)
{
	struct digit digit = { .of_low = true, .shift = EPOCH_SHIFT };

	if (differ.low >> EPOCH_SHIFT)
		sort_by(bulk, digit, buckets);
	digit.of_low = false;
	while (differ.high) {
		digit.shift = __builtin_ctzll(differ.high);
		sort_by(bulk, digit, buckets);
		differ.high &= ~((u64)(DIGIT_VALUES - 1) << digit.shift);
	}
}

/* ------------------------------------------------------------- building --- */

/* The right edge of the tree, and where the entries of the last one's key begin. */
struct builder {
	struct cow_index *index;
	struct cow_node *edge[COW_INDEX_MAX_HEIGHT]; /* by level */
	struct cow_key key;
	struct cow_node *key_leaf;
	u32 key_slot;
};

static struct cow_node *builder_node(struct builder *builder, u32 level)
{
	struct cow_node *node = cow_pool_take(builder->index->pool, level);

	builder->index->nodes++;
	builder->edge[level] = node;
	return node;
}

/* A leaf behind all others, for entries from @key on. */
static void append_leaf(struct builder *builder, struct cow_key key)
{
	struct cow_index *index = builder->index;
	struct cow_node *left = builder->edge[0], *child = builder_node(builder, 0), *node;
	u32 level;

	if (!index->root) {
		index->root = child;
		index->height = 1;
		return;
	}
	left->next = child;
	for (level = 1;; level++) {
		if (level == index->height) {
			node = builder_node(builder, level);
			node->inner.child[0] = index->root;
			node->count = 1;
			index->root = node;
			index->height++;
		}
		node = builder->edge[level];
		if (node->count < BULK_CHILDREN)
			break;
		node = builder_node(builder, level);
		node->inner.child[0] = child;
		node->count = 1;
		child = node;
	}
	node->inner.high[node->count - 1] = key.high;
	node->inner.low[node->count - 1] = key.low;
	node->inner.child[node->count++] = child;
}

/* The entry with the last one's key and this base; NULL: there is none. */
static struct cow_entry *find_base(const struct builder *builder, u64 base)
{
	struct cow_node *leaf = builder->key_leaf;
	u32 slot = builder->key_slot;

	for (; leaf; leaf = leaf->next, slot = 0) {
		struct cow_entry *entry = &leaf->leaf.entry[slot];
		struct cow_entry *end = &leaf->leaf.entry[leaf->count];

		for (; entry < end; entry++)
			if (entry_base(entry) == base)
				return entry;
	}
	return NULL;
}

/* What is in the store behind others of its chunk is in their entry. */
static bool join(struct builder *builder, const struct cow_entry *entry)
{
	struct cow_entry *there = find_base(builder, entry_base(entry));
	u16 bits = entry_bits(entry);

	if (!there)
		return false;
	builder->index->entries--;
	builder->index->blocks -= hweight16(entry_bits(there) & bits);
	entry_set_bits(there, entry_bits(there) | bits);
	return true;
}

static void append_entry(struct builder *builder, const struct cow_entry *entry)
{
	struct cow_key key = entry_key(entry);
	struct cow_node *leaf = builder->edge[0];
	bool same = leaf && key_equal(builder->key, key);

	if (same && join(builder, entry))
		return;
	if (!leaf || leaf->count == BULK_ENTRIES) {
		append_leaf(builder, key);
		leaf = builder->edge[0];
	}
	if (!same) {
		builder->key = key;
		builder->key_leaf = leaf;
		builder->key_slot = leaf->count;
	}
	leaf->leaf.entry[leaf->count++] = *entry;
}

/* How many nodes a tree of this many entries has at most. */
static u64 tree_nodes(u64 entries)
{
	u64 nodes = DIV_ROUND_UP(entries, BULK_ENTRIES), all = nodes;

	while (nodes > 1) {
		nodes = DIV_ROUND_UP(nodes, BULK_CHILDREN);
		all += nodes;
	}
	return all;
}

/*
 * Nodes that must be free. What is sorted is in as many as when it was added, and in one more
 * for each value of a digit, that is not full: before a pass, and so behind it. The tree has
 * more nodes than what was added.
 */
static u64 nodes_wanted(u64 entries)
{
	u64 sort = min_t(u64, entries, DIGIT_VALUES) + 1;
	u64 tree = tree_nodes(entries) - entries / COW_LEAF_ENTRIES;

	return 2 * sort + tree + COW_INDEX_MAX_HEIGHT;
}

static void build_tree(struct cow_bulk *bulk, u64 entries)
{
	struct builder builder = { .index = bulk->index };
	struct cow_node *node, *next;
	u32 i;

	builder.index->entries = entries;
	builder.index->blocks = bulk->blocks;
	for (node = bulk->list.first; node; node = next) {
		next = node->next;
		for (i = 0; i < node->count; i++)
			append_entry(&builder, &node->leaf.entry[i]);
		cow_pool_put(builder.index->pool, node);
		cond_resched();
	}
	cow_bulk_init(bulk, bulk->index);
}

int cow_bulk_build(struct cow_bulk *bulk)
{
	struct cow_entry differ;
	struct cow_node_list *buckets;
	u64 entries;

	if (bulk->index->root)
		return -EINVAL;
	if (!bulk->list.first)
		return 0;
	list_end(&bulk->list);
	buckets = cow_alloc(DIGIT_VALUES * sizeof(*buckets));
	if (!buckets)
		return -ENOMEM;
	entries = entries_differ(bulk, &differ);
	if (!pool_fill(bulk->index->pool, nodes_wanted(entries))) {
		cow_free(buckets);
		return -ENOMEM;
	}
	sort_entries(bulk, differ, buckets);
	build_tree(bulk, entries);
	cow_free(buckets);
	return 0;
}
