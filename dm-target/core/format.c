// SPDX-License-Identifier: GPL-2.0-only
/*
 * What all structures on disk have in common: magic, UUID and checksum, see
 * format.h. Knows none of the structures beyond how they begin.
 */
#include "format_private.h"

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
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_super) != COWSNAP_DISK_BLOCK_SIZE);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_segment) != 32);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_table) != COWSNAP_DISK_BLOCK_SIZE);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_op) != 64);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_journal) != COWSNAP_DISK_BLOCK_SIZE);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_checkpoint) != COWSNAP_DISK_BLOCK_SIZE);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_record) != 12);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_batch) != COWSNAP_BATCH_HEADER_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_summary_record) != 16);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_summary) != COWSNAP_SUMMARY_HEADER_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_slot) != COWSNAP_SLOT_HEADER_BYTES);
	BUILD_BUG_ON(sizeof(struct cowsnap_disk_marker) != 512);

	BUILD_BUG_ON(offsetof(struct cowsnap_disk_super, crc) != offsetof(struct disk_start, crc));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_super, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_table, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_journal, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_checkpoint, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_batch, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_summary, uuid) != sizeof(struct disk_start));
	BUILD_BUG_ON(offsetof(struct cowsnap_disk_marker, uuid) != sizeof(struct disk_start));
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

void cow_structure_seal(void *structure, size_t bytes)
{
	struct disk_start *start = structure;

	start->crc = cpu_to_le32(structure_crc(structure, bytes));
}

bool cow_all_zero(const void *data, size_t bytes)
{
	const u8 *at = data;

	/* then each byte is like the one before it */
	return !at[0] && !memcmp(at, at + 1, bytes - 1);
}

enum cow_check cow_structure_check(const void *structure, size_t bytes, u64 magic,
				   const u8 *uuid)
{
	const struct disk_head *head = structure;

	check_sizes();
	if (le64_to_cpu(head->start.magic) != magic)
		return cow_all_zero(structure, bytes) ? COW_BLANK : COW_FOREIGN;
	if (uuid && memcmp(head->uuid, uuid, COWSNAP_UUID_SIZE))
		return COW_OTHER_STORE;
	if (le32_to_cpu(head->start.crc) != structure_crc(structure, bytes))
		return COW_CORRUPT;
	return COW_VALID;
}

void *cow_structure_begin(void *structure, size_t bytes, u64 magic, const u8 *uuid)
{
	struct disk_head *head = structure;

	memset(structure, 0, bytes);
	head->start.magic = cpu_to_le64(magic);
	memcpy(head->uuid, uuid, COWSNAP_UUID_SIZE);
	return structure;
}

void cow_marker_encode(void *block, const u8 *uuid, u32 origin)
{
	struct cowsnap_disk_marker *disk;

	memset(block, 0, COWSNAP_DISK_BLOCK_SIZE);
	disk = cow_structure_begin(block, sizeof(*disk), COWSNAP_MAGIC_MARKER, uuid);
	disk->origin = cpu_to_le32(origin);
	strscpy(disk->text,
		"\nA rollback of this device to a cowsnap snapshot has begun and is not complete.\n"
		"What is on it is a mixture. Activate its store: the rollback goes on then.\n",
		sizeof(disk->text));
	cow_structure_seal(disk, sizeof(*disk));
}
