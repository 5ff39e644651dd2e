// SPDX-License-Identifier: GPL-2.0-only
/*
 * The bitmap of preserved blocks: one bit a block, in pages that are made when
 * first needed. Readers take no lock: a page pointer is published once, and bits
 * only ever get set.
 */
#include "store.h"

#define WORD_BITS (8 * sizeof(unsigned long))

struct cow_bitmap *cow_bitmap_new(u64 blocks)
{
	u64 pages = DIV_ROUND_UP(blocks, (u64)COW_BITMAP_PAGE_BITS);
	struct cow_bitmap *bitmap;

	bitmap = cow_alloc(sizeof(*bitmap) + pages * sizeof(bitmap->page[0]));
	if (!bitmap)
		return NULL;
	bitmap->blocks = blocks;
	bitmap->pages = pages;
	return bitmap;
}

void cow_bitmap_destroy(struct cow_bitmap *bitmap)
{
	u64 i;

	if (!bitmap)
		return;
	for (i = 0; i < bitmap->pages; i++)
		cow_free(bitmap->page[i]);
	cow_free(bitmap);
}

bool cow_bitmap_get(const struct cow_bitmap *bitmap, u64 block)
{
	u32 bit = block % COW_BITMAP_PAGE_BITS;
	const unsigned long *page;

	/* pairs with the store in cow_bitmap_give */
	page = smp_load_acquire(&bitmap->page[block / COW_BITMAP_PAGE_BITS]);
	if (!page)
		return false;
	/* pairs with the store in cow_bitmap_set */
	return smp_load_acquire(&page[bit / WORD_BITS]) >> (bit % WORD_BITS) & 1;
}

bool cow_bitmap_preserved(const struct cow_bitmap *bitmap, u64 block, u64 length)
{
	for (; length; block++, length--)
		if (!cow_bitmap_get(bitmap, block))
			return false;
	return true;
}

bool cow_bitmap_has_page(const struct cow_bitmap *bitmap, u64 block)
{
	return bitmap->page[block / COW_BITMAP_PAGE_BITS];
}

void cow_bitmap_give(struct cow_bitmap *bitmap, u64 block, void *page)
{
	/* whoever sees the page sees it zeroed */
	smp_store_release(&bitmap->page[block / COW_BITMAP_PAGE_BITS], page);
}

void cow_bitmap_set(struct cow_bitmap *bitmap, u64 block, u32 length)
{
	for (; length; block++, length--) {
		unsigned long *page = bitmap->page[block / COW_BITMAP_PAGE_BITS];
		u32 bit = block % COW_BITMAP_PAGE_BITS;
		unsigned long *word = &page[bit / WORD_BITS];
		unsigned long mask = 1ul << (bit % WORD_BITS);

		if (*word & mask)
			continue;
		bitmap->set++;
		/* whoever sees the bit sees what was done before it was set */
		smp_store_release(word, *word | mask);
	}
}

bool cow_bitmap_set_chunk(struct cow_bitmap *bitmap, u64 chunk, u16 bits)
{
	u64 block = chunk * COW_CHUNK_BLOCKS;
	unsigned long *page = bitmap->page[block / COW_BITMAP_PAGE_BITS];
	u32 bit = block % COW_BITMAP_PAGE_BITS;
	unsigned long *word, mask;

	if (!page)
		return false;
	word = &page[bit / WORD_BITS];
	mask = ((unsigned long)bits << (bit % WORD_BITS)) & ~*word;
	if (!mask)
		return true;
	bitmap->set += hweight16(mask >> (bit % WORD_BITS));
	/* whoever sees a bit sees what was done before it was set */
	smp_store_release(word, *word | mask);
	return true;
}
