// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log: headers of batches, and the summaries of closed segments.
 */
#include "format_private.h"

#define KNOWN_RECORD_FLAGS (COWSNAP_RECORD_UNREADABLE | COWSNAP_RECORD_MOVED)

/* Blocks of a segment in front of its summary. */
static u32 usable_blocks(u32 segment_blocks)
{
	return segment_blocks - COWSNAP_SUMMARY_BLOCKS(segment_blocks);
}

static bool run_valid(u64 block, u32 length, u16 flags)
{
	return length >= 1 && block < COW_MAX_ORIGIN_BLOCKS &&
	       length <= COW_MAX_ORIGIN_BLOCKS - block && !(flags & ~KNOWN_RECORD_FLAGS);
}

/* What headers of batches and summaries have in common. */
static bool log_fields_valid(u64 segment, u32 origin, u64 epoch, u64 sequence,
			     u64 segment_sequence)
{
	return segment < COW_MAX_STORE_BLOCKS && cow_id_valid(origin) && epoch <= COW_MAX_EPOCH &&
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

	disk = cow_structure_begin(header, COWSNAP_DISK_BLOCK_SIZE, COWSNAP_MAGIC_BATCH, uuid);
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
	cow_structure_seal(header, COWSNAP_DISK_BLOCK_SIZE);
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

	check = cow_structure_check(header, COWSNAP_DISK_BLOCK_SIZE, COWSNAP_MAGIC_BATCH, uuid);
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
	return (size_t)COWSNAP_SUMMARY_BLOCKS(segment_blocks) * COWSNAP_DISK_BLOCK_SIZE;
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
	BUILD_BUG_ON(COWSNAP_SUMMARY_HEADER_BYTES + 62 * (sizeof(*disk_records) + 4) >
		     COWSNAP_DISK_BLOCK_SIZE);
	BUILD_BUG_ON(COWSNAP_SUMMARY_HEADER_BYTES +
		     COW_SUMMARY_MAX_RECORDS * (sizeof(*disk_records) + 4) >
		     2 * COWSNAP_DISK_BLOCK_SIZE);

	disk = cow_structure_begin(blocks, summary_bytes(segment_blocks), COWSNAP_MAGIC_SUMMARY,
				   uuid);
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
	cow_structure_seal(blocks, summary_bytes(segment_blocks));
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

	check = cow_structure_check(blocks, summary_bytes(segment_blocks), COWSNAP_MAGIC_SUMMARY,
				    uuid);
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
