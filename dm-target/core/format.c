// SPDX-License-Identifier: GPL-2.0-only
/*
 * Packing and unpacking of what is on disk, see format.h, and the layout of a
 * store. Pure functions; nothing here does I/O or knows the log or the index.
 */
#include "format.h"

#define BLOCK_BYTES COWSNAP_DISK_BLOCK_SIZE
#define SECTORS_PER_BLOCK (COWSNAP_DISK_BLOCK_SIZE / 512)
/* What fits into the entries of the index. */
#define MAX_STORE_BLOCKS 0x100000000000ull
#define MAX_ORIGIN_BLOCKS 0x10000000000ull
#define MAX_EPOCH 0xffffffffull

#define MIN_STORE_BLOCKS (COWSNAP_STORE_MIN_SECTORS / SECTORS_PER_BLOCK)
#define FIRST_CONTROL_BLOCK (2 * COWSNAP_SUPER_COPY_BLOCK)
/* Smaller stores do not spend blocks on aligning their segments. */
#define ALIGNED_STORE_BLOCKS (64 * 1024 / 4)
#define MIN_JOURNAL_BLOCKS (2 * COWSNAP_TRANSACTION_MAX_BLOCKS)
#define OPS_PER_CHECKPOINT_BLOCK (BLOCK_BYTES / sizeof(struct cowsnap_disk_op))

/* What a decoder believes of the sizes of areas: more than the planner ever gives. */
#define MAX_CHECKPOINT_BLOCKS 65536u
#define MAX_JOURNAL_BLOCKS 65536u
#define MAX_SLOT_BLOCKS 0x100000u

#define KNOWN_RECORD_FLAGS (COWSNAP_RECORD_UNREADABLE | COWSNAP_RECORD_MOVED)

const char *cow_check_name(enum cow_check check)
{
	static const char *const names[] = {
		[COW_VALID] = "valid",
		[COW_BLANK] = "blank",
		[COW_FOREIGN] = "not of this kind",
		[COW_OTHER_STORE] = "of another store",
		[COW_CORRUPT] = "wrong checksum",
		[COW_VERSION] = "unknown version",
		[COW_FEATURE] = "unknown feature",
		[COW_RANGE] = "field out of range",
		[COW_STALE] = "stale",
	};

	return (u32)check < ARRAY_SIZE(names) ? names[check] : "unknown";
}

/* --------------------------------------------------------------- common --- */

/* How each structure begins. */
struct disk_start {
	__le64 magic;
	__le32 crc;
	__le32 other;
} __attribute__((packed));

/* How each structure but the superblock goes on. */
struct disk_head {
	struct disk_start start;
	__u8 uuid[COWSNAP_UUID_SIZE];
} __attribute__((packed));

static void check_sizes(void)
{
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_super) != BLOCK_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_segment) != 32);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_table) != BLOCK_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_op) != 64);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_journal) != BLOCK_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_checkpoint) != BLOCK_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_record) != 12);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_batch) != COWSNAP_BATCH_HEADER_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_summary_record) != 16);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_summary) != COWSNAP_SUMMARY_HEADER_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_slot) != COWSNAP_SLOT_HEADER_BYTES);

	BUILD_BUG_ON(offsetof(struct cowsnap_disk_super, crc) != offsetof(struct disk_start, crc));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_super, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_table, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_journal, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_checkpoint, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_batch, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_summary, uuid) != sizeof(struct disk_start));
}

/* CRC of a structure of @bytes with its crc field taken as zero. */
static u32 structure_crc(const void *structure, size_t bytes)
{
	const u8 *data = structure;
	const size_t at = offsetof(struct disk_start, crc);
	const u8 zero[4] = { 0 };
	u32 crc;

	crc = cow_crc32c(0, data, at);
	crc = cow_crc32c(crc, zero, sizeof(zero));
	return cow_crc32c(crc, data + at + sizeof(zero), bytes - at - sizeof(zero));
}

static void seal(void *structure, size_t bytes)
{
	struct disk_start *start = structure;

	start->crc = cpu_to_le32(structure_crc(structure, bytes));
}

static bool all_zero(const void *data, size_t bytes)
{
	const u8 *at = data;

	while (bytes) {
		if (*at)
			return false;
		at++;
		bytes--;
	}
	return true;
}

/* Magic, UUID (unless @uuid is NULL) and CRC. */
static enum cow_check check_structure(const void *structure, size_t bytes, u64 magic,
				      const u8 *uuid)
{
	const struct disk_head *head = structure;

	check_sizes();
	if (le64_to_cpu(head->start.magic) != magic)
		return all_zero(structure, bytes) ? COW_BLANK : COW_FOREIGN;
	if (uuid && memcmp(head->uuid, uuid, COWSNAP_UUID_SIZE))
		return COW_OTHER_STORE;
	if (le32_to_cpu(head->start.crc) != structure_crc(structure, bytes))
		return COW_CORRUPT;
	return COW_VALID;
}

static void *begin_structure(void *structure, size_t bytes, u64 magic, const u8 *uuid)
{
	struct disk_head *head = structure;

	memset(structure, 0, bytes);
	head->start.magic = cpu_to_le64(magic);
	memcpy(head->uuid, uuid, COWSNAP_UUID_SIZE);
	return structure;
}

static bool id_valid(u32 id)
{
	return id >= 1 && id <= COWSNAP_ID_MAX;
}

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

	if (!segment_blocks_valid(segment_blocks) || store_blocks > MAX_STORE_BLOCKS)
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

	if (store_blocks > MAX_STORE_BLOCKS)
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

	disk = begin_structure(block, sizeof(*disk), COWSNAP_MAGIC_SUPER, super->uuid);
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
	seal(disk, sizeof(*disk));
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

	if (super->store_blocks < MIN_STORE_BLOCKS || super->store_blocks > MAX_STORE_BLOCKS ||
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

	check = check_structure(block, sizeof(*disk), COWSNAP_MAGIC_SUPER, NULL);
	if (check != COW_VALID)
		return check;
	if (le32_to_cpu(disk->version) != COWSNAP_FORMAT_VERSION)
		return COW_VERSION;
	if (le64_to_cpu(disk->incompatible) & ~COWSNAP_FEATURES_INCOMPATIBLE)
		return COW_FEATURE;
	unpack_super(disk, super);
	return super_valid(super, device_blocks) ? COW_VALID : COW_RANGE;
}

/* -------------------------------------------------------- segment table --- */

void cow_table_encode(void *block, const u8 *uuid, u64 generation, u64 first_segment,
		      const struct cow_owner *owners, u32 count)
{
	struct cowsnap_disk_table *disk;
	u32 i;

	disk = begin_structure(block, sizeof(*disk), COWSNAP_MAGIC_TABLE, uuid);
	disk->generation = cpu_to_le64(generation);
	disk->first_segment = cpu_to_le64(first_segment);
	for (i = 0; i < count; i++) {
		disk->segment[i].kind = cpu_to_le32(owners[i].kind);
		disk->segment[i].origin = cpu_to_le32(owners[i].origin);
		disk->segment[i].epoch = cpu_to_le64(owners[i].epoch);
		disk->segment[i].generation = cpu_to_le64(owners[i].generation);
	}
	seal(disk, sizeof(*disk));
}

static bool owner_valid(const struct cow_owner *owner)
{
	switch (owner->kind) {
	case COWSNAP_OWNER_FREE:
		return true;
	case COWSNAP_OWNER_EPOCH:
	case COWSNAP_OWNER_OVERLAY:
		return id_valid(owner->origin) && owner->epoch <= MAX_EPOCH;
	default:
		return false;
	}
}

enum cow_check cow_table_decode(const void *block, const u8 *uuid, u64 first_segment,
				u64 *generation, struct cow_owner *owners, u32 count)
{
	const struct cowsnap_disk_table *disk = block;
	enum cow_check check;
	u32 i;

	check = check_structure(block, sizeof(*disk), COWSNAP_MAGIC_TABLE, uuid);
	if (check != COW_VALID)
		return check;
	if (le64_to_cpu(disk->first_segment) != first_segment)
		return COW_STALE;
	if (count > COWSNAP_SEGMENTS_PER_TABLE_BLOCK)
		return COW_RANGE;
	*generation = le64_to_cpu(disk->generation);
	for (i = 0; i < count; i++) {
		owners[i].kind = le32_to_cpu(disk->segment[i].kind);
		owners[i].origin = le32_to_cpu(disk->segment[i].origin);
		owners[i].epoch = le64_to_cpu(disk->segment[i].epoch);
		owners[i].generation = le64_to_cpu(disk->segment[i].generation);
		if (!owner_valid(&owners[i]))
			return COW_RANGE;
	}
	return COW_VALID;
}

/* ------------------------------------------------------- control record --- */

static void pack_op(struct cowsnap_disk_op *disk, const struct cow_op *op)
{
	disk->op = cpu_to_le32(op->op);
	disk->snapshot = cpu_to_le32(op->snapshot);
	disk->origin = cpu_to_le32(op->origin);
	disk->flags = cpu_to_le32(op->flags);
	disk->epoch = cpu_to_le64(op->epoch);
	disk->sequence = cpu_to_le64(op->sequence);
	disk->size_sectors = cpu_to_le64(op->size_sectors);
	disk->created = cpu_to_le64(op->created);
	disk->set = cpu_to_le64(op->set);
	disk->activation = cpu_to_le64(op->activation);
}

static void unpack_op(const struct cowsnap_disk_op *disk, struct cow_op *op)
{
	op->op = le32_to_cpu(disk->op);
	op->snapshot = le32_to_cpu(disk->snapshot);
	op->origin = le32_to_cpu(disk->origin);
	op->flags = le32_to_cpu(disk->flags);
	op->epoch = le64_to_cpu(disk->epoch);
	op->sequence = le64_to_cpu(disk->sequence);
	op->size_sectors = le64_to_cpu(disk->size_sectors);
	op->created = le64_to_cpu(disk->created);
	op->set = le64_to_cpu(disk->set);
	op->activation = le64_to_cpu(disk->activation);
}

static bool op_valid(const struct cow_op *op)
{
	u32 flags = op->op == COWSNAP_OP_DELETE ? COWSNAP_OP_FLAG_DROPPED : 0;

	if (op->flags & ~flags)
		return false;
	switch (op->op) {
	case COWSNAP_OP_ORIGIN:
		return id_valid(op->origin) && op->size_sectors >= 1 &&
		       op->size_sectors <= MAX_ORIGIN_BLOCKS * SECTORS_PER_BLOCK;
	case COWSNAP_OP_FORGET:
		return id_valid(op->origin);
	case COWSNAP_OP_CREATE:
		return id_valid(op->snapshot) && id_valid(op->origin) && op->epoch <= MAX_EPOCH;
	case COWSNAP_OP_DELETE:
	case COWSNAP_OP_LOST:
		return id_valid(op->snapshot);
	case COWSNAP_OP_COUNTERS:
		return op->epoch <= MAX_EPOCH + 1 && op->activation <= 0xffffffffull;
	default:
		return false;
	}
}

/* The ops as they stand on disk; false when one is not right. */
static bool unpack_ops(const struct cowsnap_disk_op *disk, struct cow_op *ops, u64 nr_ops)
{
	u64 i;

	for (i = 0; i < nr_ops; i++) {
		unpack_op(&disk[i], &ops[i]);
		if (!op_valid(&ops[i]))
			return false;
	}
	return true;
}

void cow_journal_encode(void *block, const u8 *uuid, u64 transaction, u16 index, u16 count,
			const struct cow_op *ops, u32 nr_ops)
{
	struct cowsnap_disk_journal *disk;
	u32 i;

	disk = begin_structure(block, sizeof(*disk), COWSNAP_MAGIC_JOURNAL, uuid);
	disk->index = cpu_to_le16(index);
	disk->count = cpu_to_le16(count);
	disk->transaction = cpu_to_le64(transaction);
	disk->ops = cpu_to_le32(nr_ops);
	for (i = 0; i < nr_ops; i++)
		pack_op(&disk->op[i], &ops[i]);
	seal(disk, sizeof(*disk));
}

enum cow_check cow_journal_decode(const void *block, const u8 *uuid, u64 *transaction, u16 *index,
				  u16 *count, struct cow_op *ops, u32 *nr_ops)
{
	const struct cowsnap_disk_journal *disk = block;
	enum cow_check check;

	check = check_structure(block, sizeof(*disk), COWSNAP_MAGIC_JOURNAL, uuid);
	if (check != COW_VALID)
		return check;
	*transaction = le64_to_cpu(disk->transaction);
	*index = le16_to_cpu(disk->index);
	*count = le16_to_cpu(disk->count);
	*nr_ops = le32_to_cpu(disk->ops);
	if (*transaction == COWSNAP_NONE)
		return COW_RANGE;
	if (*count > COWSNAP_TRANSACTION_MAX_BLOCKS || *index >= *count)
		return COW_RANGE;
	if (*nr_ops > COWSNAP_OPS_PER_BLOCK)
		return COW_RANGE;
	return unpack_ops(disk->op, ops, *nr_ops) ? COW_VALID : COW_RANGE;
}

void cow_checkpoint_encode_ops(void *blocks, const struct cow_op *ops, u64 nr_ops)
{
	struct cowsnap_disk_op *disk = blocks;
	u64 i;

	if (!nr_ops)
		return;
	memset(blocks, 0, DIV_ROUND_UP(nr_ops, OPS_PER_CHECKPOINT_BLOCK) * BLOCK_BYTES);
	for (i = 0; i < nr_ops; i++)
		pack_op(&disk[i], &ops[i]);
}

/* In steps: the kernel's crc32c() takes 32 bits of length. */
static u32 ops_crc(const struct cowsnap_disk_op *disk, u64 nr_ops)
{
	u32 crc = 0;

	while (nr_ops) {
		u64 step = min_t(u64, nr_ops, OPS_PER_CHECKPOINT_BLOCK);

		crc = cow_crc32c(crc, disk, step * sizeof(*disk));
		disk += step;
		nr_ops -= step;
	}
	return crc;
}

void cow_checkpoint_encode(void *header, const u8 *uuid, u64 transaction, u64 nr_ops,
			   const void *op_blocks)
{
	struct cowsnap_disk_checkpoint *disk;

	disk = begin_structure(header, sizeof(*disk), COWSNAP_MAGIC_CHECKPOINT, uuid);
	disk->ops_crc = cpu_to_le32(ops_crc(op_blocks, nr_ops));
	disk->transaction = cpu_to_le64(transaction);
	disk->ops = cpu_to_le64(nr_ops);
	seal(disk, sizeof(*disk));
}

enum cow_check cow_checkpoint_decode(const void *header, const u8 *uuid, u32 checkpoint_blocks,
				     u64 *transaction, u64 *nr_ops)
{
	const struct cowsnap_disk_checkpoint *disk = header;
	enum cow_check check;

	check = check_structure(header, sizeof(*disk), COWSNAP_MAGIC_CHECKPOINT, uuid);
	if (check != COW_VALID)
		return check;
	*transaction = le64_to_cpu(disk->transaction);
	*nr_ops = le64_to_cpu(disk->ops);
	if (*transaction == COWSNAP_NONE)
		return COW_RANGE;
	if (checkpoint_blocks < 1 ||
	    *nr_ops > (checkpoint_blocks - 1) * (u64)OPS_PER_CHECKPOINT_BLOCK)
		return COW_RANGE;
	return COW_VALID;
}

enum cow_check cow_checkpoint_decode_ops(const void *header, const void *op_blocks,
					 struct cow_op *ops)
{
	const struct cowsnap_disk_checkpoint *disk = header;
	u64 nr_ops = le64_to_cpu(disk->ops);

	if (le32_to_cpu(disk->ops_crc) != ops_crc(op_blocks, nr_ops))
		return COW_CORRUPT;
	return unpack_ops(op_blocks, ops, nr_ops) ? COW_VALID : COW_RANGE;
}

/* ------------------------------------------------------------------ log --- */

/* Blocks of a segment in front of its summary. */
static u32 usable_blocks(u32 segment_blocks)
{
	return segment_blocks - COWSNAP_SUMMARY_BLOCKS(segment_blocks);
}

static bool run_valid(u64 block, u32 length, u16 flags)
{
	return length >= 1 && block < MAX_ORIGIN_BLOCKS && length <= MAX_ORIGIN_BLOCKS - block &&
	       !(flags & ~KNOWN_RECORD_FLAGS);
}

/* What headers of batches and summaries have in common. */
static bool log_fields_valid(u64 segment, u32 origin, u64 epoch, u64 sequence,
			     u64 segment_sequence)
{
	return segment < MAX_STORE_BLOCKS && id_valid(origin) && epoch <= MAX_EPOCH &&
	       sequence != COWSNAP_NONE && segment_sequence <= sequence;
}

static struct cowsnap_disk_record *batch_records(void *header)
{
	return header + COWSNAP_BATCH_HEADER_BYTES;
}

static const struct cowsnap_disk_record *batch_records_const(const void *header)
{
	return header + COWSNAP_BATCH_HEADER_BYTES;
}

bool cow_batch_fits(u32 records, u32 blocks)
{
	if (records > blocks || blocks > COWSNAP_BATCH_BODY_BYTES / sizeof(__le32))
		return false;
	return records * sizeof(struct cowsnap_disk_record) + blocks * sizeof(__le32) <=
	       COWSNAP_BATCH_BODY_BYTES;
}

void cow_batch_encode(void *header, const u8 *uuid, const struct cow_batch_info *info,
		      const struct cow_record *records, const u32 *crc)
{
	struct cowsnap_disk_record *disk_records = batch_records(header);
	__le32 *disk_crc = (__le32 *)(disk_records + info->records);
	struct cowsnap_disk_batch *disk;
	u32 i;

	disk = begin_structure(header, BLOCK_BYTES, COWSNAP_MAGIC_BATCH, uuid);
	disk->activation = cpu_to_le32(info->activation);
	disk->segment = cpu_to_le64(info->segment);
	disk->generation = cpu_to_le64(info->generation);
	disk->sequence = cpu_to_le64(info->sequence);
	disk->durable_sequence = cpu_to_le64(info->durable_sequence);
	disk->segment_sequence = cpu_to_le64(info->segment_sequence);
	disk->epoch = cpu_to_le64(info->epoch);
	disk->origin = cpu_to_le32(info->origin);
	disk->position = cpu_to_le16(info->position);
	disk->records = cpu_to_le16(info->records);
	disk->blocks = cpu_to_le16(info->blocks);
	for (i = 0; i < info->records; i++) {
		disk_records[i].block = cpu_to_le64(records[i].block);
		disk_records[i].length = cpu_to_le16(records[i].length);
		disk_records[i].flags = cpu_to_le16(records[i].flags);
	}
	for (i = 0; i < info->blocks; i++)
		disk_crc[i] = cpu_to_le32(crc[i]);
	seal(header, BLOCK_BYTES);
}

static bool batch_records_valid(const void *header, const struct cow_batch_info *info)
{
	const struct cowsnap_disk_record *disk = batch_records_const(header);
	u32 blocks = 0, i;

	for (i = 0; i < info->records; i++) {
		u16 length = le16_to_cpu(disk[i].length);

		if (!run_valid(le64_to_cpu(disk[i].block), length, le16_to_cpu(disk[i].flags)))
			return false;
		blocks += length;
	}
	return blocks == info->blocks;
}

enum cow_check cow_batch_decode(const void *header, const u8 *uuid, u32 segment_blocks,
				struct cow_batch_info *info)
{
	const struct cowsnap_disk_batch *disk = header;
	enum cow_check check;

	check = check_structure(header, BLOCK_BYTES, COWSNAP_MAGIC_BATCH, uuid);
	if (check != COW_VALID)
		return check;
	info->activation = le32_to_cpu(disk->activation);
	info->segment = le64_to_cpu(disk->segment);
	info->generation = le64_to_cpu(disk->generation);
	info->sequence = le64_to_cpu(disk->sequence);
	info->durable_sequence = le64_to_cpu(disk->durable_sequence);
	info->segment_sequence = le64_to_cpu(disk->segment_sequence);
	info->epoch = le64_to_cpu(disk->epoch);
	info->origin = le32_to_cpu(disk->origin);
	info->position = le16_to_cpu(disk->position);
	info->records = le16_to_cpu(disk->records);
	info->blocks = le16_to_cpu(disk->blocks);
	if (!log_fields_valid(info->segment, info->origin, info->epoch, info->sequence,
			      info->segment_sequence))
		return COW_RANGE;
	if (info->durable_sequence && info->durable_sequence >= info->sequence)
		return COW_RANGE;
	if (!info->position && info->segment_sequence != info->sequence)
		return COW_RANGE;
	if ((u32)info->position + 1 + info->blocks > usable_blocks(segment_blocks))
		return COW_RANGE;
	if (!cow_batch_fits(info->records, info->blocks) || !batch_records_valid(header, info))
		return COW_RANGE;
	return COW_VALID;
}

static void unpack_record(const struct cowsnap_disk_record *disk, u16 position,
			  struct cow_record *record)
{
	record->block = le64_to_cpu(disk->block);
	record->length = le16_to_cpu(disk->length);
	record->flags = le16_to_cpu(disk->flags);
	record->position = position;
}

void cow_batch_record(const void *header, u32 i, struct cow_record *record)
{
	const struct cowsnap_disk_batch *disk = header;
	const struct cowsnap_disk_record *disk_records = batch_records_const(header);
	u16 position = le16_to_cpu(disk->position) + 1;
	u32 k;

	for (k = 0; k < i; k++)
		position += le16_to_cpu(disk_records[k].length);
	unpack_record(&disk_records[i], position, record);
}

u32 cow_batch_crc(const void *header, u32 i)
{
	const struct cowsnap_disk_batch *disk = header;
	const __le32 *crc =
		(const __le32 *)(batch_records_const(header) + le16_to_cpu(disk->records));

	return le32_to_cpu(crc[i]);
}

void cow_batch_unpack(const void *header, struct cow_record *records, u32 *crc)
{
	const struct cowsnap_disk_batch *disk = header;
	const struct cowsnap_disk_record *disk_records = batch_records_const(header);
	u16 position = le16_to_cpu(disk->position) + 1;
	u32 i;

	for (i = 0; i < le16_to_cpu(disk->records); i++) {
		unpack_record(&disk_records[i], position, &records[i]);
		position += records[i].length;
	}
	for (i = 0; i < le16_to_cpu(disk->blocks); i++)
		crc[i] = cow_batch_crc(header, i);
}

static size_t summary_bytes(u32 segment_blocks)
{
	return (size_t)COWSNAP_SUMMARY_BLOCKS(segment_blocks) * BLOCK_BYTES;
}

void cow_summary_encode(void *blocks, u32 segment_blocks, const u8 *uuid,
			const struct cow_summary_info *info, const struct cow_record *records,
			const u32 *crc)
{
	struct cowsnap_disk_summary *disk;
	struct cowsnap_disk_summary_record *disk_records;
	__le32 *disk_crc;
	u32 i;

	/* One data block at least belongs to each record, and a segment has not more. */
	BUILD_BUG_ON(COWSNAP_SUMMARY_HEADER_BYTES + 62 * (sizeof(*disk_records) + 4) > BLOCK_BYTES);
	BUILD_BUG_ON(COWSNAP_SUMMARY_HEADER_BYTES +
		     COW_SUMMARY_MAX_RECORDS * (sizeof(*disk_records) + 4) > 2 * BLOCK_BYTES);

	disk = begin_structure(blocks, summary_bytes(segment_blocks), COWSNAP_MAGIC_SUMMARY, uuid);
	disk_records = (struct cowsnap_disk_summary_record *)(disk + 1);
	disk_crc = (__le32 *)(disk_records + info->records);
	disk->activation = cpu_to_le32(info->activation);
	disk->segment = cpu_to_le64(info->segment);
	disk->generation = cpu_to_le64(info->generation);
	disk->sequence = cpu_to_le64(info->sequence);
	disk->segment_sequence = cpu_to_le64(info->segment_sequence);
	disk->durable_sequence = cpu_to_le64(info->durable_sequence);
	disk->epoch = cpu_to_le64(info->epoch);
	disk->origin = cpu_to_le32(info->origin);
	disk->records = cpu_to_le16(info->records);
	disk->blocks = cpu_to_le16(info->blocks);
	for (i = 0; i < info->records; i++) {
		disk_records[i].block = cpu_to_le64(records[i].block);
		disk_records[i].length = cpu_to_le16(records[i].length);
		disk_records[i].flags = cpu_to_le16(records[i].flags);
		disk_records[i].position = cpu_to_le16(records[i].position);
	}
	for (i = 0; i < info->blocks; i++)
		disk_crc[i] = cpu_to_le32(crc[i]);
	seal(blocks, summary_bytes(segment_blocks));
}

/* Takes over the records; false unless they are in order, apart and in front of the summary. */
static bool unpack_summary_records(const struct cowsnap_disk_summary_record *disk,
				   const struct cow_summary_info *info, u32 segment_blocks,
				   struct cow_record *records)
{
	u32 end = 1, blocks = 0, i;

	for (i = 0; i < info->records; i++) {
		struct cow_record *record = &records[i];

		record->block = le64_to_cpu(disk[i].block);
		record->length = le16_to_cpu(disk[i].length);
		record->flags = le16_to_cpu(disk[i].flags);
		record->position = le16_to_cpu(disk[i].position);
		if (!run_valid(record->block, record->length, record->flags))
			return false;
		if (record->position < end)
			return false;
		end = (u32)record->position + record->length;
		if (end > usable_blocks(segment_blocks))
			return false;
		blocks += record->length;
	}
	return blocks == info->blocks;
}

enum cow_check cow_summary_decode(const void *blocks, u32 segment_blocks, const u8 *uuid,
				  struct cow_summary_info *info, struct cow_record *records,
				  u32 *crc)
{
	const struct cowsnap_disk_summary *disk = blocks;
	const struct cowsnap_disk_summary_record *disk_records =
		(const struct cowsnap_disk_summary_record *)(disk + 1);
	const __le32 *disk_crc;
	enum cow_check check;
	u32 i;

	check = check_structure(blocks, summary_bytes(segment_blocks), COWSNAP_MAGIC_SUMMARY, uuid);
	if (check != COW_VALID)
		return check;
	info->activation = le32_to_cpu(disk->activation);
	info->segment = le64_to_cpu(disk->segment);
	info->generation = le64_to_cpu(disk->generation);
	info->sequence = le64_to_cpu(disk->sequence);
	info->segment_sequence = le64_to_cpu(disk->segment_sequence);
	info->durable_sequence = le64_to_cpu(disk->durable_sequence);
	info->epoch = le64_to_cpu(disk->epoch);
	info->origin = le32_to_cpu(disk->origin);
	info->records = le16_to_cpu(disk->records);
	info->blocks = le16_to_cpu(disk->blocks);
	if (!log_fields_valid(info->segment, info->origin, info->epoch, info->sequence,
			      info->segment_sequence))
		return COW_RANGE;
	if (info->durable_sequence < info->sequence || info->durable_sequence == COWSNAP_NONE)
		return COW_RANGE;
	if (info->blocks >= usable_blocks(segment_blocks) || info->records > info->blocks)
		return COW_RANGE;
	if (!unpack_summary_records(disk_records, info, segment_blocks, records))
		return COW_RANGE;
	disk_crc = (const __le32 *)(disk_records + info->records);
	for (i = 0; i < info->blocks; i++)
		crc[i] = le32_to_cpu(disk_crc[i]);
	return COW_VALID;
}
