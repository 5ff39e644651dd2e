/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the format_*.c files share: limits of the fields, and the parts that all
 * structures on disk have in common. Pure functions; nothing in these files does
 * I/O or knows the log or the index.
 */
#ifndef COW_FORMAT_PRIVATE_H
#define COW_FORMAT_PRIVATE_H

#include "format.h"

/* What fits into the entries of the index. */
#define COW_MAX_STORE_BLOCKS 0x100000000000ull
#define COW_MAX_ORIGIN_BLOCKS (COW_MAX_ORIGIN_SECTORS / COWSNAP_BLOCK_SECTORS)
#define COW_MAX_EPOCH 0xffffffffull

/* Zeroes the structure and sets its magic and UUID; returns it. */
void *cow_structure_begin(void *structure, size_t bytes, u64 magic, const u8 *uuid);
/* Sets the checksum, when everything else is set. */
void cow_structure_seal(void *structure, size_t bytes);
/* Magic, UUID (unless @uuid is NULL) and CRC. */
enum cow_check cow_structure_check(const void *structure, size_t bytes, u64 magic,
				   const u8 *uuid);

static inline bool cow_id_valid(u32 id)
{
	return id >= 1 && id <= COWSNAP_ID_MAX;
}

#endif
