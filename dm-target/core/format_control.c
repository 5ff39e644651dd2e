// SPDX-License-Identifier: GPL-2.0-only
/*
 * The control record: operations, as blocks of the journal and as checkpoints.
 */
#include "format_private.h"

#define OPS_PER_CHECKPOINT_BLOCK (COWSNAP_DISK_BLOCK_SIZE / sizeof(struct cowsnap_disk_op))

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

/* That this op may have. */
static u32 flags_of(u32 op)
{
	switch (op) {
	case COWSNAP_OP_CREATE:
		return COWSNAP_OP_FLAG_STALE;
	case COWSNAP_OP_DELETE:
		return COWSNAP_OP_FLAG_DROPPED;
	case COWSNAP_OP_FRONT:
		return COWSNAP_OP_FLAG_IN_FRONT | COWSNAP_OP_FLAG_LEFT;
	case COWSNAP_OP_ROLLBACK:
		return COWSNAP_OP_FLAG_SCHEDULED | COWSNAP_OP_FLAG_FORCE;
	case COWSNAP_OP_WATCH:
		return COWSNAP_OP_FLAG_RAW;
	default:
		return 0;
	}
}

bool cow_op_valid(const struct cow_op *op)
{
	if (op->flags & ~flags_of(op->op))
		return false;
	switch (op->op) {
	case COWSNAP_OP_ORIGIN:
		return cow_id_valid(op->origin) && op->size_sectors >= 1 &&
		       op->size_sectors <= COW_MAX_ORIGIN_SECTORS;
	case COWSNAP_OP_ROLLBACK:
		return cow_id_valid(op->origin) && cow_id_valid(op->snapshot) &&
		       (!op->set || cow_id_valid(op->set)) && op->epoch <= COW_MAX_EPOCH &&
		       op->sequence <= COW_MAX_ORIGIN_BLOCKS &&
		       op->flags != COWSNAP_OP_FLAG_FORCE;
	case COWSNAP_OP_FORGET:
	case COWSNAP_OP_STALE:
	case COWSNAP_OP_ROLLBACK_END:
		return cow_id_valid(op->origin);
	case COWSNAP_OP_FRONT:
		return cow_id_valid(op->origin) &&
		       op->flags != (COWSNAP_OP_FLAG_IN_FRONT | COWSNAP_OP_FLAG_LEFT);
	case COWSNAP_OP_WATCH:
		return cow_id_valid(op->origin) && op->epoch < COW_MAX_ORIGIN_SECTORS &&
		       op->sequence < COWSNAP_WATCH_MAX;
	case COWSNAP_OP_CREATE:
		return cow_id_valid(op->snapshot) && cow_id_valid(op->origin) &&
		       op->epoch <= COW_MAX_EPOCH;
	case COWSNAP_OP_DELETE:
	case COWSNAP_OP_LOST:
		return cow_id_valid(op->snapshot);
	case COWSNAP_OP_COUNTERS:
		return op->epoch <= COW_MAX_EPOCH + 1 && op->activation <= 0xffffffffull;
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
		if (!cow_op_valid(&ops[i]))
			return false;
	}
	return true;
}

void cow_journal_encode(void *block, const u8 *uuid, u64 transaction, u16 index, u16 count,
			const struct cow_op *ops, u32 nr_ops)
{
	struct cowsnap_disk_journal *disk;
	u32 i;

	disk = cow_structure_begin(block, sizeof(*disk), COWSNAP_MAGIC_JOURNAL, uuid);
	disk->index = cpu_to_le16(index);
	disk->count = cpu_to_le16(count);
	disk->transaction = cpu_to_le64(transaction);
	disk->ops = cpu_to_le32(nr_ops);
	for (i = 0; i < nr_ops; i++)
		pack_op(&disk->op[i], &ops[i]);
	cow_structure_seal(disk, sizeof(*disk));
}

enum cow_check cow_journal_decode(const void *block, const u8 *uuid, u64 *transaction, u16 *index,
				  u16 *count, struct cow_op *ops, u32 *nr_ops)
{
	const struct cowsnap_disk_journal *disk = block;
	enum cow_check check;

	check = cow_structure_check(block, sizeof(*disk), COWSNAP_MAGIC_JOURNAL, uuid);
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
	memset(blocks, 0, DIV_ROUND_UP(nr_ops, OPS_PER_CHECKPOINT_BLOCK) * COWSNAP_DISK_BLOCK_SIZE);
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

	disk = cow_structure_begin(header, sizeof(*disk), COWSNAP_MAGIC_CHECKPOINT, uuid);
	disk->ops_crc = cpu_to_le32(ops_crc(op_blocks, nr_ops));
	disk->transaction = cpu_to_le64(transaction);
	disk->ops = cpu_to_le64(nr_ops);
	cow_structure_seal(disk, sizeof(*disk));
}

enum cow_check cow_checkpoint_decode(const void *header, const u8 *uuid, u32 checkpoint_blocks,
				     u64 *transaction, u64 *nr_ops)
{
	const struct cowsnap_disk_checkpoint *disk = header;
	enum cow_check check;

	check = cow_structure_check(header, sizeof(*disk), COWSNAP_MAGIC_CHECKPOINT, uuid);
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
