// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads of the store that an activation is going to ask for, begun before it does: it asks for one
 * after the other, and there are thousands of them. Control context; only while a store is
 * activated. Whatever cannot be begun is just read when it is asked for.
 */
#include <linux/bio.h>
#include <linux/highmem.h>

#include "cowsnap.h"

#define AHEAD_SLOTS 128 /* two for each table that is read ahead */
#define AHEAD_BLOCKS 2u /* the largest summary */

struct ahead {
	struct bio bio;
	struct bio_vec vecs[AHEAD_BLOCKS];
	struct page *pages[AHEAD_BLOCKS]; /* once allocated, for all reads of the slot */
	struct completion ended;
	u64 block;
	u32 blocks; /* 0: not in use */
};

struct cow_read_ahead {
	struct ahead *slot; /* AHEAD_SLOTS */
};

static void ahead_end_io(struct bio *bio)
{
	complete(&container_of(bio, struct ahead, bio)->ended);
}

/* It has ended. */
static void release(struct ahead *ahead)
{
	bio_uninit(&ahead->bio);
	ahead->blocks = 0;
}

static void give_up(struct ahead *ahead)
{
	wait_for_completion_io(&ahead->ended);
	release(ahead);
}

static bool get_pages(struct ahead *ahead, u32 blocks)
{
	u32 i;

	for (i = 0; i < blocks; i++) {
		if (!ahead->pages[i])
			ahead->pages[i] = alloc_page(GFP_NOIO | __GFP_NOWARN);
		if (!ahead->pages[i])
			return false;
	}
	return true;
}

static void free_pages_of(struct ahead *ahead)
{
	u32 i;

	for (i = 0; i < AHEAD_BLOCKS; i++)
		if (ahead->pages[i])
			__free_page(ahead->pages[i]);
}

static struct ahead *free_slot(struct cow_read_ahead *reads)
{
	u32 i;

	for (i = 0; i < AHEAD_SLOTS; i++)
		if (!reads->slot[i].blocks)
			return &reads->slot[i];
	return NULL;
}

void cow_read_ahead(struct cow_engine *engine, u64 block, u32 blocks)
{
	struct ahead *ahead = engine->ahead && blocks <= AHEAD_BLOCKS ? free_slot(engine->ahead) :
									NULL;
	u32 i;

	if (!ahead || !get_pages(ahead, blocks))
		return;
	ahead->block = block;
	ahead->blocks = blocks;
	init_completion(&ahead->ended);
	bio_init(&ahead->bio, engine->device.bdev, ahead->vecs, AHEAD_BLOCKS,
		 REQ_OP_READ | REQ_META);
	ahead->bio.bi_iter.bi_sector = block * COWSNAP_BLOCK_SECTORS;
	ahead->bio.bi_end_io = ahead_end_io;
	for (i = 0; i < blocks; i++)
		__bio_add_page(&ahead->bio, ahead->pages[i], COWSNAP_BLOCK_BYTES, 0);
	submit_bio(&ahead->bio);
}

/* True: these very blocks were begun to be read, and here they are. */
bool cow_read_ahead_take(struct cow_engine *engine, u64 block, u32 blocks, void *buffer)
{
	bool right = false;
	u32 i, n;

	for (i = 0; engine->ahead && i < AHEAD_SLOTS; i++) {
		struct ahead *ahead = &engine->ahead->slot[i];

		if (ahead->blocks != blocks || ahead->block != block)
			continue;
		wait_for_completion_io(&ahead->ended);
		right = !ahead->bio.bi_status;
		for (n = 0; right && n < blocks; n++)
			memcpy_from_page((char *)buffer + (u64)n * COWSNAP_BLOCK_BYTES,
					 ahead->pages[n], 0, COWSNAP_BLOCK_BYTES);
		release(ahead);
		break;
	}
	return right;
}

/* These blocks are about to be written: what was read of them is not to be had any more. */
void cow_read_ahead_forget(struct cow_engine *engine, u64 block, u32 blocks)
{
	u32 i;

	for (i = 0; engine->ahead && i < AHEAD_SLOTS; i++) {
		struct ahead *ahead = &engine->ahead->slot[i];

		if (ahead->blocks && ahead->block < block + blocks &&
		    block < ahead->block + ahead->blocks)
			give_up(ahead);
	}
}

void cow_read_ahead_begin(struct cow_engine *engine)
{
	struct cow_read_ahead *reads = kzalloc(sizeof(*reads), GFP_KERNEL);

	if (!reads)
		return;
	reads->slot = kvcalloc(AHEAD_SLOTS, sizeof(*reads->slot), GFP_KERNEL);
	if (!reads->slot) {
		kfree(reads);
		return;
	}
	engine->ahead = reads;
}

void cow_read_ahead_end(struct cow_engine *engine)
{
	struct cow_read_ahead *reads = engine->ahead;
	u32 i;

	if (!reads)
		return;
	for (i = 0; i < AHEAD_SLOTS; i++) {
		if (reads->slot[i].blocks)
			give_up(&reads->slot[i]);
		free_pages_of(&reads->slot[i]);
	}
	kvfree(reads->slot);
	kfree(reads);
	engine->ahead = NULL;
}
