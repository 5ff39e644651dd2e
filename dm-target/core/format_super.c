// SPDX-License-Identifier: GPL-2.0-only
/*
 * The superblock, and the layout of a store that it describes: where its areas,
 * tables and segments are.
 */
#include "format_private.h"

#define MIN_STORE_BLOCKS (COWSNAP_STORE_MIN_SECTORS / COWSNAP_BLOCK_SECTORS)
#define FIRST_CONTROL_BLOCK (2 * COWSNAP_SUPER_COPY_BLOCK)
/* Smaller stores do not spend blocks on aligning their segments. */
#define ALIGNED_STORE_BLOCKS (64 * 1024 / 4)
#define MIN_JOURNAL_BLOCKS (2 * COWSNAP_TRANSACTION_MAX_BLOCKS)

/* What the decoder believes of the sizes of areas: more than the planner ever gives. */
#define MAX_CHECKPOINT_BLOCKS 65536u
#define MAX_JOURNAL_BLOCKS 65536u
#define MAX_SLOT_BLOCKS 0x100000u

static bool segment_blocks_valid(u32 blocks)
{
	return blocks >= 16 && blocks <= 256 && !(blocks & (blocks - 1));
}

/* --------------------------------------------------------------- layout --- */

static u64 power_of_two_below(u64 value)
{
	while (value & (value - 1))
		value &= value - 1;
	return value;
}

static u32 share_of(u64 store_blocks, u32 divisor, u32 least, u32 most)
{
	u64 blocks = power_of_two_below(store_blocks / divisor);

	return max_t(u64, least, min_t(u64, blocks, most));
}

static u64 align_up(u64 block, u32 blocks)
{
	return (block + blocks - 1) & ~((u64)blocks - 1);
}

/* Blocks of the table of so many segments: each table block stands twice. */
static u64 table_blocks(u64 segments)
{
	return 2 * DIV_ROUND_UP(segments, COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
}

/* As many segments and their table as fit into the blocks from @first to before @end. */
static int plan_region(struct cow_region *region, u64 first, u64 end, u32 segment_blocks)
{
	u32 alignment = end >= ALIGNED_STORE_BLOCKS ? segment_blocks : 1;
	u32 group = 2 + COWSNAP_SEGMENTS_PER_TABLE_BLOCK * segment_blocks;
	u64 room, segments, start;

	if (end <= first)
		return -ENOSPC;
	room = end - first;
	segments = room / group * COWSNAP_SEGMENTS_PER_TABLE_BLOCK;
	if (room % group > 2)
		segments += (room % group - 2) / segment_blocks;

	for (; segments; segments--) {
		start = align_up(first + table_blocks(segments), alignment);
		if (start + segments * segment_blocks <= end) {
			region->table_block = first;
			region->segment_block = start;
			region->segments = segments;
			return 0;
		}
	}
	return -ENOSPC;
}

int cow_super_plan(struct cow_super *super, u64 store_blocks, u32 segment_blocks)
{
	struct cow_region region;
	u32 checkpoint, journal, slot;
	u64 slot_block;
	int r;

	if (!segment_blocks_valid(segment_blocks) || store_blocks > COW_MAX_STORE_BLOCKS)
		return -EINVAL;
	if (store_blocks < MIN_STORE_BLOCKS)
		return -ENOSPC;

	checkpoint = 1 + share_of(store_blocks, 1024, 16, 256);
	journal = share_of(store_blocks, 2048, MIN_JOURNAL_BLOCKS, 128);
	slot = share_of(store_blocks, 1024, 16, 1024);
	slot_block = FIRST_CONTROL_BLOCK + 2 * checkpoint + journal;
	r = plan_region(&region, slot_block + 2 * slot, store_blocks, segment_blocks);
	if (r)
		return r;

	super->generation = 1;
	super->store_blocks = store_blocks;
	super->control_block = FIRST_CONTROL_BLOCK;
	super->checkpoint_blocks = checkpoint;
	super->journal_blocks = journal;
	super->slot_block = slot_block;
	super->slot_blocks = slot;
	super->segment_blocks = segment_blocks;
	super->regions = 1;
	memset(super->region, 0, sizeof(super->region));
	super->region[0] = region;
	return 0;
}

int cow_super_extend(struct cow_super *super, u64 store_blocks)
{
	int r;

	if (store_blocks > COW_MAX_STORE_BLOCKS)
		return -EINVAL;
	if (super->regions >= COWSNAP_MAX_REGIONS)
		return -E2BIG;
	r = plan_region(&super->region[super->regions], super->store_blocks, store_blocks,
			super->segment_blocks);
	if (r)
		return r;
	super->regions++;
	super->store_blocks = store_blocks;
	return 0;
}

u64 cow_super_segments(const struct cow_super *super)
{
	u64 segments = 0;
	u32 i;

	for (i = 0; i < super->regions; i++)
		segments += super->region[i].segments;
	return segments;
}

/* The region that a segment lies in; *segment becomes its number there. */
static const struct cow_region *find_region(const struct cow_super *super, u64 *segment)
{
	const struct cow_region *region = super->region;

	while (*segment >= region->segments) {
		*segment -= region->segments;
		region++;
	}
	return region;
}

u64 cow_super_segment_block(const struct cow_super *super, u64 segment)
{
	const struct cow_region *region = find_region(super, &segment);

	return region->segment_block + segment * super->segment_blocks;
}

u64 cow_super_block_segment(const struct cow_super *super, u64 block)
{
	u64 before = 0;
	u32 i;

	for (i = 0; i < super->regions; i++) {
		const struct cow_region *region = &super->region[i];

		if (block < region->segment_block)
			break;
		if (block - region->segment_block < region->segments * super->segment_blocks)
			return before + (block - region->segment_block) / super->segment_blocks;
		before += region->segments;
	}
	return COW_NONE_SEGMENT;
}

u64 cow_super_table_block(const struct cow_super *super, u64 segment)
{
	const struct cow_region *region = find_region(super, &segment);

	return region->table_block + 2 * (segment / COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
}

u64 cow_super_table_first(const struct cow_super *super, u64 segment, u32 *count)
{
	u64 in_region = segment;
	const struct cow_region *region = find_region(super, &in_region);
	u64 in_table = in_region % COWSNAP_SEGMENTS_PER_TABLE_BLOCK;

	*count = min_t(u64, region->segments - (in_region - in_table),
		       COWSNAP_SEGMENTS_PER_TABLE_BLOCK);
	return segment - in_table;
}

/* ----------------------------------------------------------- superblock --- */

void cow_super_encode(const struct cow_super *super, void *block)
{
	struct cowsnap_disk_super *disk;
	u32 i;

	disk = cow_structure_begin(block, sizeof(*disk), COWSNAP_MAGIC_SUPER, super->uuid);
	disk->version = cpu_to_le32(COWSNAP_FORMAT_VERSION);
	disk->generation = cpu_to_le64(super->generation);
	disk->compatible = cpu_to_le64(super->compatible);
	disk->ro_compatible = cpu_to_le64(super->ro_compatible);
	disk->incompatible = cpu_to_le64(super->incompatible);
	disk->store_blocks = cpu_to_le64(super->store_blocks);
	disk->control_block = cpu_to_le64(super->control_block);
	disk->checkpoint_blocks = cpu_to_le32(super->checkpoint_blocks);
	disk->journal_blocks = cpu_to_le32(super->journal_blocks);
	disk->slot_block = cpu_to_le64(super->slot_block);
	disk->slot_blocks = cpu_to_le32(super->slot_blocks);
	disk->segment_blocks = cpu_to_le32(super->segment_blocks);
	disk->regions = cpu_to_le32(super->regions);
	for (i = 0; i < super->regions; i++) {
		disk->region[i].table_block = cpu_to_le64(super->region[i].table_block);
		disk->region[i].segment_block = cpu_to_le64(super->region[i].segment_block);
		disk->region[i].segments = cpu_to_le64(super->region[i].segments);
	}
	cow_structure_seal(disk, sizeof(*disk));
}

static void unpack_super(const struct cowsnap_disk_super *disk, struct cow_super *super)
{
	u32 i;

	memcpy(super->uuid, disk->uuid, sizeof(super->uuid));
	super->generation = le64_to_cpu(disk->generation);
	super->compatible = le64_to_cpu(disk->compatible);
	super->ro_compatible = le64_to_cpu(disk->ro_compatible);
	super->incompatible = le64_to_cpu(disk->incompatible);
	super->store_blocks = le64_to_cpu(disk->store_blocks);
	super->control_block = le64_to_cpu(disk->control_block);
	super->checkpoint_blocks = le32_to_cpu(disk->checkpoint_blocks);
	super->journal_blocks = le32_to_cpu(disk->journal_blocks);
	super->slot_block = le64_to_cpu(disk->slot_block);
	super->slot_blocks = le32_to_cpu(disk->slot_blocks);
	super->segment_blocks = le32_to_cpu(disk->segment_blocks);
	super->regions = le32_to_cpu(disk->regions);
	memset(super->region, 0, sizeof(super->region));
	for (i = 0; i < min_t(u32, super->regions, COWSNAP_MAX_REGIONS); i++) {
		super->region[i].table_block = le64_to_cpu(disk->region[i].table_block);
		super->region[i].segment_block = le64_to_cpu(disk->region[i].segment_block);
		super->region[i].segments = le64_to_cpu(disk->region[i].segments);
	}
}

/*
 * Is what the superblock says in order and inside the store? Blocks and numbers are
 * held against 2^44 first, so no sum or product below can overflow.
 */
static bool areas_valid(const struct cow_super *super)
{
	u64 end;

	if (super->control_block <= COWSNAP_SUPER_COPY_BLOCK ||
	    super->control_block > super->store_blocks)
		return false;
	if (super->checkpoint_blocks < 2 || super->checkpoint_blocks > MAX_CHECKPOINT_BLOCKS)
		return false;
	if (super->journal_blocks < MIN_JOURNAL_BLOCKS || super->journal_blocks % 2 ||
	    super->journal_blocks > MAX_JOURNAL_BLOCKS)
		return false;
	end = super->control_block + 2ull * super->checkpoint_blocks + super->journal_blocks;
	if (super->slot_block < end || super->slot_block > super->store_blocks)
		return false;
	if (super->slot_blocks < 1 || super->slot_blocks > MAX_SLOT_BLOCKS)
		return false;
	end = super->slot_block + 2ull * super->slot_blocks;
	return super->region[0].table_block >= end;
}

static bool region_valid(const struct cow_super *super, const struct cow_region *region,
			 u64 first_block)
{
	if (region->table_block < first_block || region->table_block > super->store_blocks ||
	    region->segment_block > super->store_blocks)
		return false;
	if (region->segments < 1 || region->segments > super->store_blocks)
		return false;
	if (region->segment_block < region->table_block + table_blocks(region->segments))
		return false;
	return region->segment_block + region->segments * super->segment_blocks <=
	       super->store_blocks;
}

static bool super_valid(const struct cow_super *super, u64 device_blocks)
{
	u64 end = 0;
	u32 i;

	if (super->store_blocks < MIN_STORE_BLOCKS || super->store_blocks > COW_MAX_STORE_BLOCKS ||
	    super->store_blocks > device_blocks)
		return false;
	if (!segment_blocks_valid(super->segment_blocks))
		return false;
	if (super->regions < 1 || super->regions > COWSNAP_MAX_REGIONS)
		return false;
	if (!areas_valid(super))
		return false;
	for (i = 0; i < super->regions; i++) {
		const struct cow_region *region = &super->region[i];

		if (!region_valid(super, region, end))
			return false;
		end = region->segment_block + region->segments * super->segment_blocks;
	}
	return true;
}

enum cow_check cow_super_decode(const void *block, u64 device_blocks, struct cow_super *super)
{
	const struct cowsnap_disk_super *disk = block;
	enum cow_check check;

	check = cow_structure_check(block, sizeof(*disk), COWSNAP_MAGIC_SUPER, NULL);
	if (check != COW_VALID)
		return check;
	if (le32_to_cpu(disk->version) != COWSNAP_FORMAT_VERSION)
		return COW_VERSION;
	if (le64_to_cpu(disk->incompatible) & ~COWSNAP_FEATURES_INCOMPATIBLE)
		return COW_FEATURE;
	unpack_super(disk, super);
	return super_valid(super, device_blocks) ? COW_VALID : COW_RANGE;
}
