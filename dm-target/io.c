// SPDX-License-Identifier: GPL-2.0-only
/*
 * The I/O that the engine asks for: reading origins, writing batches, summaries
 * and table blocks. Every write to the store is REQ_FUA: durable when it has
 * ended, whether the device has FUA or the block layer adds a flush.
 */
#include <linux/highmem.h>
#include <linux/module.h>
#include <linux/vmalloc.h>

#include "cowsnap.h"

/* Batches, and writes of table blocks, that need no memory to be had. */
#define COW_RESERVED_WRITES 48

static struct kmem_cache *extent_cache;

static sector_t block_sector(u64 block)
{
	return block * COWSNAP_BLOCK_SECTORS;
}

/* --------------------------------------------------- synchronous (control) --- */

static struct page *page_of(const void *address)
{
	return is_vmalloc_addr(address) ? vmalloc_to_page(address) : virt_to_page(address);
}

struct sync_io {
	struct completion ended;
	atomic_t parts; /* that have not ended, and one until all are sent */
	blk_status_t status; /* of one that has failed */
};

static void part_end(struct sync_io *sync)
{
	if (atomic_dec_and_test(&sync->parts))
		complete(&sync->ended);
}

/* Interrupts. */
static void sync_end_io(struct bio *bio)
{
	struct sync_io *sync = bio->bi_private;

	if (bio->bi_status)
		WRITE_ONCE(sync->status, bio->bi_status);
	bio_put(bio);
	part_end(sync);
}

/* What fits of the buffer: how many bytes. */
static u32 fill_bio(struct bio *bio, char *buffer, u32 bytes)
{
	u32 left = bytes;

	while (left) {
		u32 n = min_t(u32, left, PAGE_SIZE);

		if (bio_add_page(bio, page_of(buffer), n, offset_in_page(buffer)) != n)
			break;
		buffer += n;
		left -= n;
	}
	return bytes - left;
}

/* As long as it takes, which is not for the kernel to warn of. */
static void wait_for_sync(struct sync_io *sync)
{
	while (!wait_for_completion_io_timeout(&sync->ended, 60 * HZ))
		;
}

/*
 * @buffer is page aligned, from kvmalloc. May sleep. In parts, all under way at the same time.
 * Each one is sent before the next one is had, so that the reserve of bios is enough; and each
 * one's error is kept here, for drivers may overwrite what a chain left in another bio.
 */
int cow_io_sync(struct block_device *bdev, sector_t sector, void *buffer, u32 bytes, blk_opf_t opf)
{
	struct sync_io sync = { .parts = ATOMIC_INIT(1) };

	init_completion(&sync.ended);
	while (bytes) {
		u32 pages = min_t(u32, DIV_ROUND_UP(bytes, PAGE_SIZE), BIO_MAX_VECS / 2);
		struct bio *bio = bio_alloc(bdev, pages, opf | REQ_SYNC, GFP_NOIO);
		u32 n = fill_bio(bio, buffer, min_t(u32, bytes, pages * PAGE_SIZE));

		bio->bi_iter.bi_sector = sector;
		bio->bi_private = &sync;
		bio->bi_end_io = sync_end_io;
		atomic_inc(&sync.parts);
		if (!n) {
			bio_io_error(bio);
			break;
		}
		submit_bio(bio);
		buffer += n;
		sector += n >> SECTOR_SHIFT;
		bytes -= n;
	}
	part_end(&sync);
	wait_for_sync(&sync);
	return blk_status_to_errno(READ_ONCE(sync.status));
}

static int io_read(struct cow_store *store, u64 block, u32 blocks, void *buffer)
{
	if (cow_read_ahead_take(cow_engine_of(store), block, blocks, buffer))
		return 0;
	return cow_io_sync(cow_engine_of(store)->device.bdev, block_sector(block), buffer,
			   blocks * COWSNAP_BLOCK_BYTES, REQ_OP_READ | REQ_META);
}

static int io_write(struct cow_store *store, u64 block, u32 blocks, const void *buffer)
{
	cow_read_ahead_forget(cow_engine_of(store), block, blocks);
	return cow_io_sync(cow_engine_of(store)->device.bdev, block_sector(block), (void *)buffer,
			   blocks * COWSNAP_BLOCK_BYTES,
			   REQ_OP_WRITE | REQ_META | REQ_SYNC | REQ_FUA);
}

static void io_read_ahead(struct cow_store *store, u64 block, u32 blocks)
{
	cow_read_ahead(cow_engine_of(store), block, blocks);
}

/* ---------------------------------------------------------------- locking --- */

static void io_engine_enter(struct cow_store *store)
{
	mutex_lock(&cow_engine_of(store)->mutex);
}

static void io_engine_leave(struct cow_store *store)
{
	mutex_unlock(&cow_engine_of(store)->mutex);
	cow_engine_kick(cow_engine_of(store));
}

static void io_view_lock(struct cow_store *store)
	__acquires(&cow_engine_of(store)->view)
{
	struct cow_engine *engine = cow_engine_of(store);
	unsigned long flags;

	spin_lock_irqsave(&engine->view, flags);
	engine->view_flags = flags;
}

static void io_view_unlock(struct cow_store *store)
	__releases(&cow_engine_of(store)->view)
{
	struct cow_engine *engine = cow_engine_of(store);
	unsigned long flags = engine->view_flags;

	spin_unlock_irqrestore(&engine->view, flags);
}

/* ---------------------------------------------------------------- extents --- */

static struct cow_kextent *to_kextent(struct cow_extent *extent)
{
	return container_of(extent, struct cow_kextent, core);
}

/*
 * Pages go from one extent to the next: the allocator would make each one zero (init_on_alloc)
 * that is going to be read into anyway.
 */
static struct page *take_page(struct cow_engine *engine)
{
	if (engine->nr_spare_pages)
		return engine->spare_pages[--engine->nr_spare_pages];
	return mempool_alloc(&engine->page_pool, GFP_NOWAIT | __GFP_NOWARN);
}

static void give_page(struct cow_engine *engine, struct page *page)
{
	if (engine->nr_spare_pages < COW_SPARE_PAGES)
		engine->spare_pages[engine->nr_spare_pages++] = page;
	else
		mempool_free(page, &engine->page_pool);
}

static void free_kextent(struct cow_engine *engine, struct cow_kextent *extent)
{
	while (extent->nr_pages)
		give_page(engine, extent->pages[--extent->nr_pages]);
	mempool_free(extent, &engine->extent_pool);
}

/*
 * Must not wait for memory that only the worker itself would free: without room in
 * the reserves the waiter is asked again when something has been published. The extents of
 * one origin may wait for a write to another one (send.c), so that is not kept from having
 * some by how many others have; by the lack of memory it is.
 */
static struct cow_extent *io_extent_new(struct cow_log *log, u32 blocks)
{
	struct cow_engine *engine = cow_engine_of(log->store);
	struct cow_kextent *extent;

	if (engine->credits < (int)blocks && log->extents >= COW_OWN_EXTENTS)
		return NULL;
	extent = mempool_alloc(&engine->extent_pool, GFP_NOWAIT | __GFP_NOWARN);
	if (!extent)
		return NULL;
	memset(extent, 0, sizeof(*extent));
	extent->engine = engine;
	for (; extent->nr_pages < blocks; extent->nr_pages++) {
		struct page *page = take_page(engine);

		if (!page) {
			free_kextent(engine, extent);
			return NULL;
		}
		extent->pages[extent->nr_pages] = page;
	}
	engine->credits -= blocks;
	return &extent->core;
}

static void io_extent_free(struct cow_store *store, struct cow_extent *extent)
{
	struct cow_engine *engine = cow_engine_of(store);

	engine->credits += to_kextent(extent)->nr_pages;
	free_kextent(engine, to_kextent(extent));
}

static void extent_read_finish(struct cow_engine *engine, struct cow_done *done)
{
	struct cow_kextent *extent = container_of(done, struct cow_kextent, done);

	cow_extent_filled(&extent->core, done->error);
}

static void extent_read_end(struct bio *bio)
{
	struct cow_kextent *extent = bio->bi_private;
	int error = blk_status_to_errno(bio->bi_status);

	bio_put(bio); /* into the sender's bio set */
	cow_engine_done(extent->engine, &extent->done, error);
}

/*
 * Process context; may wait for a read that ends. The last block of an origin may be short:
 * what is not there stays zero.
 */
void cow_extent_submit(struct cow_attachment *attachment, struct cow_kextent *extent)
{
	struct cow_extent *core = &extent->core;
	u64 sectors = core->log->origin->size_sectors - block_sector(core->block);
	u64 bytes = min_t(u64, sectors << SECTOR_SHIFT, core->length * COWSNAP_BLOCK_BYTES);
	struct bio *bio;
	u32 i;

	bio = bio_alloc_bioset(attachment->lower.bdev, core->length, REQ_OP_READ, GFP_NOIO,
			       &attachment->sender.bios);
	bio->bi_iter.bi_sector = block_sector(core->block);
	bio->bi_private = extent;
	bio->bi_end_io = extent_read_end;
	extent->done.finish = extent_read_finish;
	for (i = 0; i < core->length; i++) {
		u32 n = min_t(u64, bytes, COWSNAP_BLOCK_BYTES);

		if (n < COWSNAP_BLOCK_BYTES)
			clear_highpage(extent->pages[i]);
		__bio_add_page(bio, extent->pages[i], n, 0);
		bytes -= n;
	}
	submit_bio_noacct(bio);
}

static void io_extent_read(struct cow_store *store, struct cow_extent *core)
{
	cow_send_read(core->log->origin->shell, to_kextent(core));
}

/* ---------------------------------------------------------------- batches --- */

u32 cow_page_crc(struct page *page)
{
	void *address = kmap_local_page(page);
	u32 crc = cow_crc32c(0, address, COWSNAP_BLOCK_BYTES);

	kunmap_local(address);
	return crc;
}

/*
 * From a pool that has enough for all batches, summaries or table writes under way
 * in a dozen logs; only if there are more, by waiting for memory.
 */
static void *pool_take(mempool_t *pool, size_t bytes)
{
	void *p = mempool_alloc(pool, GFP_NOWAIT | __GFP_NOWARN);

	while (!p) {
		cond_resched();
		p = mempool_alloc(pool, GFP_NOIO);
	}
	memset(p, 0, bytes);
	return p;
}

/* A spare one has its header and its engine; the core sets all of what it is for. */
static struct cow_batch *io_batch_new(struct cow_store *store)
{
	struct cow_engine *engine = cow_engine_of(store);
	struct cow_kbatch *batch;

	if (engine->nr_spare_batches)
		return &engine->spare_batches[--engine->nr_spare_batches]->core;
	batch = pool_take(&engine->batch_pool, sizeof(*batch));
	batch->engine = engine;
	batch->header = mempool_alloc(&engine->header_pool, GFP_NOIO);
	return &batch->core;
}

static void free_kbatch(struct cow_engine *engine, struct cow_kbatch *batch)
{
	mempool_free(batch->header, &engine->header_pool);
	mempool_free(batch, &engine->batch_pool);
}

static void io_batch_free(struct cow_store *store, struct cow_batch *core)
{
	struct cow_kbatch *batch = container_of(core, struct cow_kbatch, core);
	struct cow_engine *engine = batch->engine;

	if (engine->nr_spare_batches < COW_SPARE_BATCHES)
		engine->spare_batches[engine->nr_spare_batches++] = batch;
	else
		free_kbatch(engine, batch);
}

static void batch_finish(struct cow_engine *engine, struct cow_done *done)
{
	cow_batch_written(&container_of(done, struct cow_kbatch, done)->core, done->error);
}

static void batch_write_end(struct bio *bio)
{
	struct cow_kbatch *batch = bio->bi_private;
	int error = blk_status_to_errno(bio->bi_status);

	bio_put(bio); /* into the engine's bio set */
	cow_engine_done(batch->engine, &batch->done, error);
}

static void io_batch_write(struct cow_store *store, struct cow_batch *core)
{
	struct cow_kbatch *batch = container_of(core, struct cow_kbatch, core);
	struct cow_engine *engine = batch->engine;
	struct cow_extent *extent;
	struct bio *bio;
	u32 i;

	list_for_each_entry(extent, &core->extents, queue)
		for (i = 0; i < extent->length; i++)
			extent->crc[i] = cow_page_crc(to_kextent(extent)->pages[i]);
	cow_batch_image(core, page_address(batch->header));
	bio = bio_alloc_bioset(engine->device.bdev, 1 + core->info.blocks,
			       REQ_OP_WRITE | REQ_SYNC | REQ_IDLE | REQ_FUA, GFP_NOIO,
			       &engine->bios_set);
	bio->bi_iter.bi_sector = block_sector(core->store_block);
	bio->bi_private = batch;
	bio->bi_end_io = batch_write_end;
	batch->done.finish = batch_finish;
	__bio_add_page(bio, batch->header, COWSNAP_BLOCK_BYTES, 0);
	list_for_each_entry(extent, &core->extents, queue)
		for (i = 0; i < extent->length; i++)
			__bio_add_page(bio, to_kextent(extent)->pages[i], COWSNAP_BLOCK_BYTES, 0);
	submit_bio_noacct(bio);
}

/* ------------------------------------------- summaries and table blocks --- */

struct meta_write {
	struct cow_done done;
	struct cow_engine *engine;
	struct cow_summary_data *summary;
	struct cow_table_block *table;
	void *buffer; /* of a summary */
};

static void meta_finish(struct cow_engine *engine, struct cow_done *done)
{
	struct meta_write *write = container_of(done, struct meta_write, done);

	if (write->summary)
		cow_summary_written(write->summary, done->error);
	else
		cow_table_written(write->table, done->error, &engine->store);
	if (write->buffer)
		mempool_free(write->buffer, &engine->summary_pool);
	mempool_free(write, &engine->meta_pool);
}

static void meta_end(struct bio *bio)
{
	struct meta_write *write = bio->bi_private;
	int error = blk_status_to_errno(bio->bi_status);

	bio_put(bio); /* into the engine's bio set */
	cow_engine_done(write->engine, &write->done, error);
}

static void meta_submit(struct cow_engine *engine, struct meta_write *write, u64 block,
			char *buffer, u32 blocks)
{
	struct bio *bio = bio_alloc_bioset(engine->device.bdev, blocks,
					   REQ_OP_WRITE | REQ_META | REQ_SYNC | REQ_FUA, GFP_NOIO,
					   &engine->bios_set);
	u32 i;

	write->engine = engine;
	write->done.finish = meta_finish;
	bio->bi_iter.bi_sector = block_sector(block);
	bio->bi_private = write;
	bio->bi_end_io = meta_end;
	for (i = 0; i < blocks; i++, buffer += COWSNAP_BLOCK_BYTES)
		__bio_add_page(bio, page_of(buffer), COWSNAP_BLOCK_BYTES, offset_in_page(buffer));
	submit_bio_noacct(bio);
}

static void io_summary_write(struct cow_store *store, struct cow_summary_data *summary)
{
	struct cow_engine *engine = cow_engine_of(store);
	u32 blocks = COWSNAP_SUMMARY_BLOCKS(store->super.segment_blocks);
	struct meta_write *write = pool_take(&engine->meta_pool, sizeof(*write));

	write->buffer = pool_take(&engine->summary_pool, blocks * COWSNAP_BLOCK_BYTES);
	write->summary = summary;
	cow_summary_image(summary, write->buffer);
	meta_submit(engine, write, summary->store_block, write->buffer, blocks);
}

static void io_table_write(struct cow_store *store, struct cow_table_block *table, u64 block)
{
	struct meta_write *write = pool_take(&cow_engine_of(store)->meta_pool, sizeof(*write));

	write->table = table;
	meta_submit(cow_engine_of(store), write, block, table->image, 1);
}

/* --------------------------------------------------------------- waiters --- */

static void io_waiter_ready(struct cow_store *store, struct cow_waiter *waiter)
{
	struct cow_engine *engine = cow_engine_of(store);
	struct cow_bio *bio = container_of(waiter, struct cow_bio, waiter);

	if (bio->kind == COW_BIO_OVERLAY && engine->giving_up) {
		bio->bio->bi_status = BLK_STS_NOSPC;
		bio_endio(bio->bio);
		return;
	}
	cow_engine_queue(engine, bio);
}

static void io_no_room(struct cow_store *store, struct cow_log *log)
{
	struct cow_engine *engine = cow_engine_of(store);

	cow_engine_event(engine, COWSNAP_EVENT_FULL, log->origin->id);
	if (!engine->starving++)
		queue_delayed_work(engine->control_wq, &engine->drop_work,
				   msecs_to_jiffies(engine->full_wait_ms));
}

static void io_room_again(struct cow_store *store, struct cow_log *log)
{
	struct cow_engine *engine = cow_engine_of(store);

	if (!--engine->starving)
		cancel_delayed_work(&engine->drop_work);
}

static void io_event(struct cow_store *store, const char *event, u64 id)
{
	cow_engine_event(cow_engine_of(store), event, id);
}

const struct cow_ops cow_kernel_ops = {
	.engine_enter = io_engine_enter,
	.engine_leave = io_engine_leave,
	.view_lock = io_view_lock,
	.view_unlock = io_view_unlock,
	.extent_new = io_extent_new,
	.extent_free = io_extent_free,
	.batch_new = io_batch_new,
	.batch_free = io_batch_free,
	.extent_read = io_extent_read,
	.batch_write = io_batch_write,
	.summary_write = io_summary_write,
	.table_write = io_table_write,
	.waiter_ready = io_waiter_ready,
	.no_room = io_no_room,
	.room_again = io_room_again,
	.event = io_event,
	.read = io_read,
	.write = io_write,
	.read_ahead = io_read_ahead,
};

/* Reserves that let at least two of the largest extents and batches pass. */
int cow_io_init(struct cow_engine *engine)
{
	int r;

	engine->credits = COW_CREDIT_BLOCKS;
	r = mempool_init_slab_pool(&engine->extent_pool, 16, extent_cache);
	if (!r)
		r = mempool_init_page_pool(&engine->page_pool, 2 * COW_WINDOW_BLOCKS, 0);
	if (!r)
		r = mempool_init_kmalloc_pool(&engine->batch_pool, COW_RESERVED_WRITES,
					      sizeof(struct cow_kbatch));
	if (!r)
		r = mempool_init_page_pool(&engine->header_pool, COW_RESERVED_WRITES, 0);
	if (!r)
		r = mempool_init_kmalloc_pool(&engine->meta_pool, COW_RESERVED_WRITES,
					      sizeof(struct meta_write));
	if (!r)
		r = mempool_init_kmalloc_pool(&engine->summary_pool, 16, 2 * COWSNAP_BLOCK_BYTES);
	if (!r)
		r = bioset_init(&engine->bios_set, 16, 0, BIOSET_NEED_BVECS);
	return r;
}

void cow_io_exit(struct cow_engine *engine)
{
	mempool_exit(&engine->extent_pool);
	while (engine->nr_spare_pages)
		mempool_free(engine->spare_pages[--engine->nr_spare_pages], &engine->page_pool);
	mempool_exit(&engine->page_pool);
	while (engine->nr_spare_batches)
		free_kbatch(engine, engine->spare_batches[--engine->nr_spare_batches]);
	mempool_exit(&engine->batch_pool);
	mempool_exit(&engine->header_pool);
	mempool_exit(&engine->meta_pool);
	mempool_exit(&engine->summary_pool);
	bioset_exit(&engine->bios_set);
}

int cow_engine_init(void)
{
	extent_cache = kmem_cache_create("cowsnap_extent", sizeof(struct cow_kextent), 0, 0, NULL);
	return extent_cache ? 0 : -ENOMEM;
}

void cow_engine_exit(void)
{
	kmem_cache_destroy(extent_cache);
}
