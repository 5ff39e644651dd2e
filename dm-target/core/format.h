/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Between proto/cowsnap_disk.h and memory: for each structure an in-core form,
 * an encoder and a decoder. A decoder looks at nothing before magic, UUID and
 * CRC are right, then checks every field for its range, so that whoever gets an
 * in-core form needs no further checks. Pure functions; any context.
 */
#ifndef COW_FORMAT_H
#define COW_FORMAT_H

#include "platform.h"

/* What a decoder found; anything but COW_VALID: the output is undefined. */
enum cow_check {
	COW_VALID = 0,
	COW_BLANK, /* all bytes are zero */
	COW_FOREIGN, /* another magic: not this structure */
	COW_OTHER_STORE, /* another store's UUID */
	COW_CORRUPT, /* the CRC is wrong */
	COW_VERSION, /* a version that is not known */
	COW_FEATURE, /* an incompatible feature that is not known */
	COW_RANGE, /* CRC right, a field out of range */
	COW_STALE, /* right, but of another place or generation than asked for */
};

/* @bytes: at least 1. */
bool cow_all_zero(const void *data, size_t bytes);

/* A few words for messages, for example "wrong checksum". */
const char *cow_check_name(enum cow_check check);

struct cow_region {
	u64 table_block;
	u64 segment_block;
	u64 segments;
};

struct cow_super {
	u8 uuid[COWSNAP_UUID_SIZE];
	u64 generation;
	u64 compatible, ro_compatible, incompatible;
	u64 store_blocks;
	u64 control_block;
	u32 checkpoint_blocks;
	u32 journal_blocks;
	u64 slot_block;
	u32 slot_blocks;
	u32 segment_blocks;
	u32 regions;
	struct cow_region region[COWSNAP_MAX_REGIONS];
};

/*
 * Lays out a new store on @store_blocks blocks (uuid and features are left to
 * the caller; generation becomes 1). @segment_blocks: a power of two, 16 to 256.
 * -ENOSPC when the device is too small (*super is as before), -EINVAL for the
 * segment size or more than 2^44 blocks.
 */
int cow_super_plan(struct cow_super *super, u64 store_blocks, u32 segment_blocks);
/*
 * Adds a region for the blocks from super->store_blocks to @store_blocks. 0,
 * -ENOSPC when the room is too small for one segment and its table, -E2BIG when
 * there are COWSNAP_MAX_REGIONS already, -EINVAL for more than 2^44 blocks; then
 * *super is as before. The generation is left to the caller.
 */
int cow_super_extend(struct cow_super *super, u64 store_blocks);
u64 cow_super_segments(const struct cow_super *super);
/* First block of segment @segment (which must exist). */
u64 cow_super_segment_block(const struct cow_super *super, u64 segment);
/* The segment that @block lies in, or COW_NONE_SEGMENT. */
#define COW_NONE_SEGMENT (~0ull)
u64 cow_super_block_segment(const struct cow_super *super, u64 block);
/* Where copy 0 of the table block that describes @segment is; copy 1 follows. */
u64 cow_super_table_block(const struct cow_super *super, u64 segment);
/* Number of the first segment that this table block describes, and how many. */
u64 cow_super_table_first(const struct cow_super *super, u64 segment, u32 *count);

void cow_super_encode(const struct cow_super *super, void *block);
/* @device_blocks: size of the device; a super that uses more: COW_RANGE. */
enum cow_check cow_super_decode(const void *block, u64 device_blocks, struct cow_super *super);

struct cow_owner {
	u32 kind; /* enum cowsnap_owner_kind */
	u32 origin;
	u64 epoch;
	u64 generation;
};

void cow_table_encode(void *block, const u8 *uuid, u64 generation, u64 first_segment,
		      const struct cow_owner *owners, u32 count);
enum cow_check cow_table_decode(const void *block, const u8 *uuid, u64 first_segment,
				u64 *generation, struct cow_owner *owners, u32 count);

/* The index has room for the blocks of so many. */
#define COW_MAX_ORIGIN_SECTORS (0x10000000000ull * COWSNAP_BLOCK_SECTORS)

struct cow_op {
	u32 op; /* enum cowsnap_op */
	u32 snapshot, origin, flags;
	u64 epoch, sequence, size_sectors, created, set, activation;
};

/* Is the op such that decoding takes it? */
bool cow_op_valid(const struct cow_op *op);

void cow_journal_encode(void *block, const u8 *uuid, u64 transaction, u16 index, u16 count,
			const struct cow_op *ops, u32 nr_ops);
enum cow_check cow_journal_decode(const void *block, const u8 *uuid, u64 *transaction,
				  u16 *index, u16 *count, struct cow_op *ops, u32 *nr_ops);

/*
 * @blocks: ops only, as they stand behind the header; has room for nr_ops in whole
 * blocks, what is behind the last op is zeroed.
 */
void cow_checkpoint_encode_ops(void *blocks, const struct cow_op *ops, u64 nr_ops);
void cow_checkpoint_encode(void *header, const u8 *uuid, u64 transaction, u64 nr_ops,
			   const void *op_blocks);
/* Header alone; then, with the op blocks read, the ops. */
enum cow_check cow_checkpoint_decode(const void *header, const u8 *uuid, u32 checkpoint_blocks,
				     u64 *transaction, u64 *nr_ops);
enum cow_check cow_checkpoint_decode_ops(const void *header, const void *op_blocks,
					 struct cow_op *ops);

struct cow_record {
	u64 block;
	u16 length;
	u16 flags;
	u16 position; /* of its first data block in the segment */
};

struct cow_batch_info {
	u32 activation;
	u64 segment, generation;
	u64 sequence, durable_sequence, segment_sequence;
	u64 epoch;
	u32 origin;
	u16 position;
	u16 records, blocks;
};

/* Does a batch with so many records and blocks of data fit into one header? */
bool cow_batch_fits(u32 records, u32 blocks);
/* @crc: one for each block of data. info->records/blocks say how many. */
void cow_batch_encode(void *header, const u8 *uuid, const struct cow_batch_info *info,
		      const struct cow_record *records, const u32 *crc);
/*
 * @segment_blocks bounds position + 1 + blocks (minus the summary). Checks that
 * the records' lengths are at least 1 and sum up to blocks.
 */
enum cow_check cow_batch_decode(const void *header, const u8 *uuid, u32 segment_blocks,
				struct cow_batch_info *info);
/* Of a header that decoded: record @i (position filled in) and CRC @i. */
void cow_batch_record(const void *header, u32 i, struct cow_record *record);
u32 cow_batch_crc(const void *header, u32 i);
/*
 * All of them at once: *records must have room for info->records, @crc for
 * info->blocks.
 */
void cow_batch_unpack(const void *header, struct cow_record *records, u32 *crc);

struct cow_summary_info {
	u32 activation;
	u64 segment, generation;
	u64 sequence, segment_sequence, durable_sequence;
	u64 epoch;
	u32 origin;
	u16 records, blocks;
};

/* @blocks: COWSNAP_SUMMARY_BLOCKS(segment_blocks) blocks. */
void cow_summary_encode(void *blocks, u32 segment_blocks, const u8 *uuid,
			const struct cow_summary_info *info, const struct cow_record *records,
			const u32 *crc);
enum cow_check cow_summary_decode(const void *blocks, u32 segment_blocks, const u8 *uuid,
				  struct cow_summary_info *info, struct cow_record *records,
				  u32 *crc);
/* Room that cow_summary_decode() needs in @records and @crc, whatever the segment. */
#define COW_SUMMARY_MAX_RECORDS 254

/* The marker of an origin; @block is one block. */
void cow_marker_encode(void *block, const u8 *uuid, u32 origin);

#endif
