// SPDX-License-Identifier: GPL-2.0-only
/*
 * The blocks of the segment table: who owns each segment.
 */
#include "format_private.h"

void cow_table_encode(void *block, const u8 *uuid, u64 generation, u64 first_segment,
		      const struct cow_owner *owners, u32 count)
{
	struct cowsnap_disk_table *disk;
	u32 i;

	disk = cow_structure_begin(block, sizeof(*disk), COWSNAP_MAGIC_TABLE, uuid);
	disk->generation = cpu_to_le64(generation);
	disk->first_segment = cpu_to_le64(first_segment);
	for (i = 0; i < count; i++) {
		disk->segment[i].kind = cpu_to_le32(owners[i].kind);
		disk->segment[i].origin = cpu_to_le32(owners[i].origin);
		disk->segment[i].epoch = cpu_to_le64(owners[i].epoch);
		disk->segment[i].generation = cpu_to_le64(owners[i].generation);
	}
	cow_structure_seal(disk, sizeof(*disk));
}

static bool owner_valid(const struct cow_owner *owner)
{
	switch (owner->kind) {
	case COWSNAP_OWNER_FREE:
		return true;
	case COWSNAP_OWNER_EPOCH:
	case COWSNAP_OWNER_OVERLAY:
		return cow_id_valid(owner->origin) && owner->epoch <= COW_MAX_EPOCH;
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

	check = cow_structure_check(block, sizeof(*disk), COWSNAP_MAGIC_TABLE, uuid);
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
