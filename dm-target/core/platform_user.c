// SPDX-License-Identifier: GPL-2.0-only
/*
 * The platform in user space: CRC32C (Castagnoli), eight bytes at a step, and the
 * tests' hold on memory. Only the user-space build lists this file.
 */
#include "platform.h"

#define CRC32C_POLYNOMIAL 0x82f63b78u /* reflected */

bool (*cow_alloc_allowed)(size_t bytes);

static u32 crc_table[8][256];

/* Before main and before constructors of C++ objects, so no call comes too early. */
__attribute__((constructor(101))) static void crc_table_fill(void)
{
	u32 i, k;

	for (i = 0; i < 256; i++) {
		u32 crc = i;

		for (k = 0; k < 8; k++)
			crc = crc >> 1 ^ (crc & 1 ? CRC32C_POLYNOMIAL : 0);
		crc_table[0][i] = crc;
	}
	for (i = 0; i < 256; i++)
		for (k = 1; k < 8; k++)
			crc_table[k][i] = crc_table[k - 1][i] >> 8 ^
					  crc_table[0][crc_table[k - 1][i] & 0xff];
}

#ifdef __x86_64__
__attribute__((target("sse4.2"))) static u32 crc_instruction(u32 crc, const u8 *at, size_t bytes)
{
	u64 wide = (u32)~crc;

	for (; bytes >= 8; bytes -= 8, at += 8) {
		u64 word;

		memcpy(&word, at, sizeof(word));
		wide = __builtin_ia32_crc32di(wide, word);
	}
	crc = wide;
	for (; bytes; bytes--, at++)
		crc = __builtin_ia32_crc32qi(crc, *at);
	return ~crc;
}
#endif

u32 cow_crc32c(u32 crc, const void *data, size_t bytes)
{
	const u8 *at = data;

#ifdef __x86_64__
	if (__builtin_cpu_supports("sse4.2"))
		return crc_instruction(crc, at, bytes);
#endif
	crc = ~crc;
	for (; bytes >= 8; bytes -= 8, at += 8) {
		u64 word;

		memcpy(&word, at, sizeof(word));
		word = le64toh(word) ^ crc;
		crc = crc_table[7][word & 0xff] ^ crc_table[6][word >> 8 & 0xff] ^
		      crc_table[5][word >> 16 & 0xff] ^ crc_table[4][word >> 24 & 0xff] ^
		      crc_table[3][word >> 32 & 0xff] ^ crc_table[2][word >> 40 & 0xff] ^
		      crc_table[1][word >> 48 & 0xff] ^ crc_table[0][word >> 56];
	}
	for (; bytes; bytes--, at++)
		crc = crc >> 8 ^ crc_table[0][(crc ^ *at) & 0xff];
	return ~crc;
}
