// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a cow-snap does block by block, waiting for each: reads of parts of blocks,
 * reads of blocks that were preserved while the origin was read, and filling the
 * blocks that a write to a snapshot covers in part. Runs on slow_wq.
 */
#include <linux/highmem.h>

#include "cowsnap.h"

static int read_origin_block(struct cow_snap_target *snap, u64 block, struct page *page)
{
	u64 sector = block * COWSNAP_BLOCK_SECTORS;
	u64 left = snap->snapshot->origin->size_sectors - sector;
	u32 bytes = min_t(u64, left, COWSNAP_BLOCK_SECTORS) << SECTOR_SHIFT;

	if (bytes < COWSNAP_BLOCK_BYTES)
		clear_page(page_address(page));
	return cow_io_sync(snap->attachment->lower.bdev, sector, page_address(page), bytes,
			   REQ_OP_READ);
}

static int read_store_block(struct cow_snap_target *snap, u64 location, u32 crc,
			    struct page *page)
{
	struct cow_engine *engine = snap->engine;
	unsigned long flags;
	bool kick;
	int r;

	r = cow_io_sync(engine->device.bdev, location * COWSNAP_BLOCK_SECTORS, page_address(page),
			COWSNAP_BLOCK_BYTES, REQ_OP_READ);
	if (!r && cow_page_crc(page) != crc) {
		DMERR_LIMIT("snapshot %u: the store's block %llu has a wrong checksum",
			    snap->snapshot->id, location);
		WRITE_ONCE(snap->snapshot->damaged, true);
		r = -EIO;
	}
	spin_lock_irqsave(&engine->view, flags);
	kick = cow_store_unpin(&engine->store, location);
	spin_unlock_irqrestore(&engine->view, flags);
	if (kick)
		cow_engine_kick(engine);
	return r;
}

static void look(struct cow_snap_target *snap, u64 block, enum cow_where *where, u64 *location,
		 u32 *crc)
{
	unsigned long flags;

	spin_lock_irqsave(&snap->engine->view, flags);
	cow_snapshot_lookup(snap->snapshot, block, 1, where, location);
	if (*where == COW_AT_STORE)
		*crc = *cow_store_crcs(&snap->engine->store, *location);
	spin_unlock_irqrestore(&snap->engine->view, flags);
}

/* The snapshot's block, whole. May sleep. */
static int read_block(struct cow_snap_target *snap, u64 block, struct page *page)
{
	enum cow_where where;
	u64 location;
	u32 crc = 0;
	int r;

	look(snap, block, &where, &location, &crc);
	if (where == COW_AT_ORIGIN) {
		r = read_origin_block(snap, block, page);
		/* preserved meanwhile? then what was read may be newer */
		look(snap, block, &where, &location, &crc);
		if (where == COW_AT_ORIGIN)
			return r;
	}
	return where == COW_AT_STORE ? read_store_block(snap, location, crc, page) : -EIO;
}

/* ------------------------------------------------------------------ reads --- */

/* Copy [offset, offset + bytes) of the page into the bio at *iter; advance that. */
static void copy_to_bio(struct bio *bio, struct bvec_iter *iter, struct page *page, u32 offset,
			u32 bytes)
{
	while (bytes) {
		struct bio_vec bv = bio_iter_iovec(bio, *iter);
		u32 n = min(bytes, bv.bv_len);

		memcpy_to_page(bv.bv_page, bv.bv_offset, page_address(page) + offset, n);
		bio_advance_iter(bio, iter, n);
		offset += n;
		bytes -= n;
	}
}

static int read_slow(struct cow_snap_bio *io, struct page *page)
{
	struct bvec_iter iter = io->iter;
	int r = 0;

	while (iter.bi_size && !r) {
		sector_t sector = iter.bi_sector;
		u32 offset = (sector % COWSNAP_BLOCK_SECTORS) << SECTOR_SHIFT;
		u32 bytes = min_t(u32, iter.bi_size, COWSNAP_BLOCK_BYTES - offset);

		r = read_block(io->snap, sector / COWSNAP_BLOCK_SECTORS, page);
		if (!r)
			copy_to_bio(io->bio, &iter, page, offset, bytes);
	}
	return r;
}

void cow_snap_read_slow(struct work_struct *work)
{
	struct cow_snap_bio *io = container_of(work, struct cow_snap_bio, slow);
	struct page *page = alloc_page(GFP_NOIO | __GFP_NOFAIL);

	io->bio->bi_status = errno_to_blk_status(read_slow(io, page));
	__free_page(page);
	bio_endio(io->bio);
}

/* ----------------------------------------------------------------- writes --- */

/* Bytes of block @i of the write's extent that the bio covers: [*from, *to). */
static void covered(const struct cow_bio *write, u32 i, u32 *from, u32 *to)
{
	u64 block_sector = (write->extent->block + i) * COWSNAP_BLOCK_SECTORS;
	u64 start = write->bio->bi_iter.bi_sector;
	u64 end = bio_end_sector(write->bio);

	*from = start > block_sector ? (start - block_sector) << SECTOR_SHIFT : 0;
	*to = min_t(u64, end - block_sector, COWSNAP_BLOCK_SECTORS) << SECTOR_SHIFT;
}

/* Does the block need its old contents? The origin's last block may be short. */
static bool is_partial(const struct cow_bio *write, u32 i)
{
	const struct cow_origin *origin = write->snap->snapshot->origin;
	u64 block = write->extent->block + i;
	u64 sectors = origin->size_sectors - block * COWSNAP_BLOCK_SECTORS;
	u32 from, to;

	covered(write, i, &from, &to);
	return from || to < min_t(u64, sectors, COWSNAP_BLOCK_SECTORS) << SECTOR_SHIFT;
}

static void copy_from_bio(const struct cow_bio *write, struct cow_kextent *extent)
{
	struct bvec_iter iter = write->bio->bi_iter;
	u64 start = iter.bi_sector << SECTOR_SHIFT;
	u32 i, from, to;

	for (i = 0; i < extent->core.length; i++) {
		u64 at;

		covered(write, i, &from, &to);
		at = (extent->core.block + i) * COWSNAP_BLOCK_BYTES + from;
		if (at > start) {
			bio_advance_iter(write->bio, &iter, at - start);
			start = at;
		}
		while (from < to) {
			struct bio_vec bv = bio_iter_iovec(write->bio, iter);
			u32 n = min(to - from, bv.bv_len);

			memcpy_from_page(page_address(extent->pages[i]) + from, bv.bv_page,
					 bv.bv_offset, n);
			bio_advance_iter(write->bio, &iter, n);
			start += n;
			from += n;
		}
	}
}

static void fill_finish(struct cow_engine *engine, struct cow_done *done)
{
	struct cow_kextent *extent = container_of(done, struct cow_kextent, done);

	cow_extent_filled(&extent->core, 0);
}

/*
 * The old contents of blocks that are covered in part, then the new data. What
 * cannot be read stays unreadable where the write leaves it.
 */
void cow_snap_fill_slow(struct work_struct *work)
{
	struct cow_bio *write = container_of(work, struct cow_bio, slow);
	struct cow_kextent *extent = container_of(write->extent, struct cow_kextent, core);
	int error = 0;
	u32 i;

	for (i = 0; i < extent->core.length; i++)
		if (is_partial(write, i) &&
		    read_block(write->snap, extent->core.block + i, extent->pages[i]))
			error = -EIO;
	if (error)
		extent->core.flags |= COWSNAP_RECORD_UNREADABLE;
	copy_from_bio(write, extent);
	extent->done.finish = fill_finish;
	cow_engine_done(write->snap->engine, &extent->done, 0);
}

/* Engine context: give the extent of a write its contents. */
void cow_snap_fill(struct cow_bio *write)
{
	struct cow_kextent *extent = container_of(write->extent, struct cow_kextent, core);
	u32 i;

	for (i = 0; i < extent->core.length; i++) {
		if (!is_partial(write, i))
			continue;
		INIT_WORK(&write->slow, cow_snap_fill_slow);
		queue_work(write->snap->engine->slow_wq, &write->slow);
		return;
	}
	copy_from_bio(write, extent);
	/* a short last block: what is behind the end is zero */
	if (extent->core.length) {
		u32 from, to, last = extent->core.length - 1;

		covered(write, last, &from, &to);
		if (to < COWSNAP_BLOCK_BYTES)
			memzero_page(extent->pages[last], to, COWSNAP_BLOCK_BYTES - to);
	}
	cow_extent_filled(&extent->core, 0);
}
