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
#define CRC_INSTRUCTION __attribute__((target("sse4.2,pclmul")))

/* The instruction takes three cycles, and one can begin each cycle: so four lanes are summed at a time. */
#define CRC_LANE 1024
#define CRC_LANES 4

static CRC_INSTRUCTION u64 crc_word(u64 crc, const u8 *at)
{
	u64 word;

	memcpy(&word, at, sizeof(word));
	return __builtin_ia32_crc32di(crc, word);
}

/*
 * The sum of what "crc" is the sum of and bytes of zeroes behind it: a product modulo the polynomial. "power" is
 * x^(8 * bytes - 33), reflected; the instruction makes up for the 33 and reduces the product.
 */
static CRC_INSTRUCTION u64 crc_shift(u64 crc, u64 power)
{
	typedef long long pair __attribute__((vector_size(16)));
	const pair product = __builtin_ia32_pclmulqdq128((pair){ (long long)crc, 0 },
							 (pair){ (long long)power, 0 }, 0);

	return __builtin_ia32_crc32di(0, (u64)product[0]);
}

static CRC_INSTRUCTION u64 crc_lanes(u64 crc, const u8 *at)
{
	u64 second = 0, third = 0, last = 0;
	size_t i;

	for (i = 0; i < CRC_LANE; i += 8) {
		crc = crc_word(crc, at + i);
		second = crc_word(second, at + i + CRC_LANE);
		third = crc_word(third, at + i + 2 * CRC_LANE);
		last = crc_word(last, at + i + 3 * CRC_LANE);
	}
	return crc_shift(crc, 0x359674f7) ^ crc_shift(second, 0xa51b6135) ^ crc_shift(third, 0x170076fa) ^ last;
}

static CRC_INSTRUCTION u32 crc_instruction(u32 crc, const u8 *at, size_t bytes)
{
	u64 wide = (u32)~crc;

	for (; bytes >= CRC_LANE * CRC_LANES; bytes -= CRC_LANE * CRC_LANES, at += CRC_LANE * CRC_LANES)
		wide = crc_lanes(wide, at);
	for (; bytes >= 8; bytes -= 8, at += 8)
		wide = crc_word(wide, at);
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
	if (__builtin_cpu_supports("sse4.2") && __builtin_cpu_supports("pclmul"))
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
