// SPDX-License-Identifier: GPL-2.0-only
/*
 * Rolling a stacked origin back: its device shows the target at once, and a work item
 * copies back. What is done in which order, and why that is right, is at the top
 * of core/rollback.c.
 *
 * Reads of shown blocks are reads of a snapshot (snap-target.c), writes to them are
 * writes to its overlay (COW_BIO_SHOWN). Each bio lies inside one window of
 * COW_WINDOW_BLOCKS, of which all blocks are shown or none.
 *
 * The copier (one for each attachment) runs from resuming to suspending, with one window
 * at a time. All of the window is read from the store at once, then written at once,
 * by bios that the worker admits as it does those of users: preserved first. When
 * something fails the window is given back, and all of it is tried again later. It does
 * not hold engine->control or engine->mutex while it waits for I/O.
 */
#include <linux/completion.h>
#include <linux/delay.h>

#include "cowsnap.h"

/* About this many blocks are copied at a time: 4 MiB, twice that at most. */
#define COPY_BLOCKS 1024
#define RETRY_MS 3000

/* A run of blocks to copy, inside one window; with the bio that reads or writes it. */
struct piece {
	struct list_head list;
	struct cow_copier *copier;
	u64 block, location;
	const u32 *crcs;
	u32 length;
	struct cow_bio write;
	struct page *pages[COW_WINDOW_BLOCKS];
};

static struct cow_attachment *attachment_of(struct cow_copier *copier)
{
	return container_of(copier, struct cow_attachment, copier);
}

/* -------------------------------------------------------------- waiting --- */

static void begin_io(struct cow_copier *copier)
{
	copier->error = 0;
	atomic_set(&copier->under_way, 1);
	reinit_completion(&copier->ended);
}

/* Any context. The last one to end wakes who waits. */
static void end_one(struct cow_copier *copier, int error)
{
	if (error)
		WRITE_ONCE(copier->error, error);
	if (atomic_dec_and_test(&copier->under_way))
		complete(&copier->ended);
}

static int wait_io(struct cow_copier *copier)
{
	end_one(copier, 0);
	wait_for_completion(&copier->ended);
	return copier->error;
}

static void piece_end(struct bio *bio)
{
	struct piece *piece = bio->bi_private;
	int error = blk_status_to_errno(bio->bi_status);

	bio_put(bio);
	end_one(piece->copier, error);
}

/* --------------------------------------------------------------- pieces --- */

static void free_pieces(struct list_head *pieces)
{
	struct piece *piece, *next;
	u32 i;

	list_for_each_entry_safe(piece, next, pieces, list) {
		for (i = 0; i < piece->length; i++)
			if (piece->pages[i])
				__free_page(piece->pages[i]);
		kfree(piece);
	}
	INIT_LIST_HEAD(pieces);
}

static struct piece *new_piece(struct cow_copier *copier, struct list_head *pieces, u64 block,
			       u32 length)
{
	struct piece *piece = kzalloc(sizeof(*piece), GFP_NOIO);
	u32 i;

	if (!piece)
		return NULL;
	piece->copier = copier;
	piece->block = block;
	piece->length = length;
	piece->location = COW_NOT_FOUND; /* nothing is pinned */
	list_add_tail(&piece->list, pieces);
	for (i = 0; i < length; i++) {
		piece->pages[i] = alloc_page(GFP_NOIO | __GFP_ZERO);
		if (!piece->pages[i])
			return NULL; /* free_pieces() has the rest */
	}
	return piece;
}

static struct bio *bio_of(struct piece *piece, struct block_device *bdev, blk_opf_t opf,
			  u64 block, u64 bytes)
{
	struct bio *bio = bio_alloc(bdev, piece->length, opf, GFP_NOIO);
	u32 i;

	bio->bi_iter.bi_sector = block * COWSNAP_BLOCK_SECTORS;
	bio->bi_private = piece;
	bio->bi_end_io = piece_end;
	for (i = 0; i < piece->length; i++) {
		u32 n = min_t(u64, bytes, COWSNAP_BLOCK_BYTES);

		__bio_add_page(bio, piece->pages[i], n, 0);
		bytes -= n;
	}
	atomic_inc(&piece->copier->under_way);
	return bio;
}

static void unpin(struct cow_engine *engine, u64 location)
{
	bool kick;

	spin_lock_irq(&engine->view);
	kick = cow_store_unpin(&engine->store, location);
	spin_unlock_irq(&engine->view);
	if (kick)
		cow_engine_kick(engine);
}

/* Starts to read what is in the store of the blocks from @block on, up to @most of them. */
static int read_some(struct cow_copier *copier, struct list_head *pieces, u64 block, u32 most,
		     u32 *n)
{
	struct cow_attachment *attachment = attachment_of(copier);
	struct cow_engine *engine = attachment->engine;
	enum cow_where where;
	struct piece *piece;
	const u32 *crcs = NULL;
	u64 location;

	spin_lock_irq(&engine->view);
	*n = cow_snapshot_lookup(&attachment->origin->rollback.shown, block, most, &where,
				 &location);
	if (where == COW_AT_STORE)
		crcs = cow_store_crcs(&engine->store, location);
	spin_unlock_irq(&engine->view);
	if (where == COW_AT_ERROR) {
		DMERR_LIMIT("origin %u: its block %llu cannot be rolled back: it is damaged",
			    attachment->origin->id, block);
		return -EIO;
	}
	if (where == COW_AT_ORIGIN)
		return 0;
	piece = new_piece(copier, pieces, block, *n);
	if (!piece) {
		unpin(engine, location);
		return -ENOMEM;
	}
	piece->location = location;
	piece->crcs = crcs;
	submit_bio_noacct(bio_of(piece, engine->device.bdev, REQ_OP_READ, location,
				 (u64)*n * COWSNAP_BLOCK_BYTES));
	return 0;
}

/* All reads have ended: were they right? */
static int check_pieces(struct cow_copier *copier, struct list_head *pieces)
{
	struct cow_engine *engine = attachment_of(copier)->engine;
	struct piece *piece;
	int r = 0;
	u32 i;

	list_for_each_entry(piece, pieces, list) {
		if (piece->location == COW_NOT_FOUND)
			continue;
		for (i = 0; i < piece->length && !r; i++)
			if (cow_page_crc(piece->pages[i]) != piece->crcs[i])
				r = -EIO;
		unpin(engine, piece->location);
	}
	if (r)
		DMERR_LIMIT("a rollback reads a wrong checksum from the store");
	return r;
}

/* What is elsewhere of the blocks from @block to @end comes into the list. */
static int read_pieces(struct cow_copier *copier, struct list_head *pieces, u64 block, u64 end)
{
	struct blk_plug plug;
	int r = 0, r2;

	begin_io(copier);
	blk_start_plug(&plug);
	while (block < end && !r) {
		u32 most = COW_WINDOW_BLOCKS - block % COW_WINDOW_BLOCKS;
		u32 n;

		/* the first block by itself: it is written last */
		most = block ? min_t(u64, most, end - block) : 1;
		r = read_some(copier, pieces, block, most, &n);
		block += n;
		cond_resched();
	}
	blk_finish_plug(&plug);
	r2 = wait_io(copier);
	r = r ?: r2;
	r2 = check_pieces(copier, pieces);
	return r ?: r2;
}

/* A preserved write. The last block of an origin may be short. */
static void write_piece(struct cow_copier *copier, struct piece *piece)
{
	struct cow_attachment *attachment = attachment_of(copier);
	struct cow_bio *write = &piece->write;
	s64 begin;
	u64 left = (attachment->origin->size_sectors - piece->block * COWSNAP_BLOCK_SECTORS)
		   << SECTOR_SHIFT;

	memset(write, 0, sizeof(*write));
	write->bio = bio_of(piece, attachment->lower.bdev, REQ_OP_WRITE, piece->block,
			    min_t(u64, left, (u64)piece->length * COWSNAP_BLOCK_BYTES));
	write->kind = COW_BIO_ORIGIN;
	write->strict = true;
	write->origin = attachment->origin;
	write->waiter.block = piece->block;
	write->waiter.length = piece->length;
	begin = piece->block * COWSNAP_BLOCK_SECTORS;
	if (cow_guard_covers(&attachment->guard, begin, begin + bio_sectors(write->bio)))
		cow_guard_write(&attachment->guard, write, begin);
	else
		cow_engine_queue(attachment->engine, write);
}

/* Those of the list from @from to before @to, durably. */
static int write_pieces(struct cow_copier *copier, struct list_head *pieces, u64 from, u64 to)
{
	struct piece *piece;
	int r;

	begin_io(copier);
	list_for_each_entry(piece, pieces, list)
		if (piece->block >= from && piece->block < to)
			write_piece(copier, piece);
	r = wait_io(copier);
	if (!r)
		r = blkdev_issue_flush(attachment_of(copier)->lower.bdev);
	return r == -EOPNOTSUPP ? 0 : r;
}

/* --------------------------------------------------------------- rounds --- */

static bool must_stop(struct cow_copier *copier)
{
	return READ_ONCE(copier->stopped);
}

static u64 first_blocks(const struct cow_origin *origin)
{
	return min_t(u64, COWSNAP_MARKER_BLOCKS, origin->blocks);
}

static int write_marker(struct cow_copier *copier)
{
	struct cow_attachment *attachment = attachment_of(copier);
	u64 blocks = first_blocks(attachment->origin);
	LIST_HEAD(pieces);
	struct piece *first = new_piece(copier, &pieces, 0, 1);
	int r = -ENOMEM;

	if (!first || (blocks > 1 && !new_piece(copier, &pieces, 1, blocks - 1)))
		goto out;
	cow_marker_encode(page_address(first->pages[0]), attachment->engine->store.super.uuid,
			  attachment->origin->id);
	r = write_pieces(copier, &pieces, 0, 1);
	if (!r)
		r = write_pieces(copier, &pieces, 1, blocks);
out:
	free_pieces(&pieces);
	copier->marked = !r;
	return r;
}

static bool settled(struct cow_engine *engine, struct cow_origin *origin)
{
	bool is_settled;

	mutex_lock(&engine->mutex);
	is_settled = cow_rollback_settled(origin);
	mutex_unlock(&engine->mutex);
	return is_settled;
}

/* A window, or the first blocks: they are held, and nothing is written to them. */
static int copy_held(struct cow_copier *copier, struct list_head *pieces, bool first)
{
	struct cow_attachment *attachment = attachment_of(copier);
	struct cow_origin *origin = attachment->origin;
	u64 from = first ? 0 : origin->rollback.mark;
	u64 to = first ? first_blocks(origin) : origin->rollback.window;
	int r = read_pieces(copier, pieces, from, to);

	if (!r)
		r = write_pieces(copier, pieces, max_t(u64, from, 1), to);
	if (!r && first)
		r = write_pieces(copier, pieces, 0, 1);
	if (r)
		return r;
	mutex_lock(&attachment->engine->control);
	r = first ? cow_rollback_finish(origin) : cow_rollback_pass(origin);
	mutex_unlock(&attachment->engine->control);
	return r;
}

static int copy_round(struct cow_copier *copier)
{
	struct cow_attachment *attachment = attachment_of(copier);
	struct cow_origin *origin = attachment->origin;
	struct cow_engine *engine = attachment->engine;
	LIST_HEAD(pieces);
	bool first;
	int r = 0;

	if (READ_ONCE(engine->store.broken))
		return -EIO;
	if (!copier->marked)
		return write_marker(copier);
	mutex_lock(&engine->mutex);
	first = !cow_rollback_open(origin, COPY_BLOCKS);
	mutex_unlock(&engine->mutex);
	while (!settled(engine, origin) && !r) {
		r = must_stop(copier) || READ_ONCE(engine->store.broken) ? -EAGAIN : 0;
		usleep_range(100, 300);
	}
	if (!r)
		r = copy_held(copier, &pieces, first);
	free_pieces(&pieces);
	if (r) {
		mutex_lock(&engine->mutex);
		cow_rollback_give_back(origin);
		mutex_unlock(&engine->mutex);
	}
	cow_engine_kick(engine);
	return r;
}

static bool is_running(const struct cow_origin *origin)
{
	return READ_ONCE(origin->rollback.state) == COW_ROLLBACK_RUNNING;
}

static void copy_work(struct work_struct *work)
{
	struct cow_copier *copier = container_of(to_delayed_work(work), struct cow_copier, work);
	struct cow_attachment *attachment = attachment_of(copier);
	unsigned int noio = memalloc_noio_save();
	int r = 0;

	while (!r && !must_stop(copier) && is_running(attachment->origin)) {
		r = copy_round(copier);
		cond_resched();
	}
	memalloc_noio_restore(noio);
	if (!r || must_stop(copier)) {
		WRITE_ONCE(copier->waits, false);
		return;
	}
	if (!copier->waits)
		cow_engine_event(attachment->engine, COWSNAP_EVENT_ROLLBACK_WAITS,
				 attachment->origin->id);
	WRITE_ONCE(copier->waits, true);
	queue_delayed_work(attachment->engine->control_wq, &copier->work,
			   msecs_to_jiffies(RETRY_MS));
}

/* ------------------------------------------------- beginning and ending --- */

void cow_copier_init(struct cow_attachment *attachment)
{
	struct cow_copier *copier = &attachment->copier;

	INIT_DELAYED_WORK(&copier->work, copy_work);
	init_completion(&copier->ended);
	copier->stopped = true;
	attachment->shown.engine = attachment->engine;
	attachment->shown.snapshot = &attachment->origin->rollback.shown;
	attachment->shown.attachment = attachment;
}

/* The device is in front, and may be used. */
void cow_copier_start(struct cow_attachment *attachment)
{
	struct cow_copier *copier = &attachment->copier;

	if (attachment->interposer || !copier->stopped || !is_running(attachment->origin))
		return;
	copier->marked = false;
	WRITE_ONCE(copier->stopped, false);
	queue_delayed_work(attachment->engine->control_wq, &copier->work, 0);
}

/* Afterwards nothing is copied, and no write waits for that. May sleep. */
void cow_copier_stop(struct cow_attachment *attachment)
{
	struct cow_copier *copier = &attachment->copier;

	WRITE_ONCE(copier->stopped, true);
	cancel_delayed_work_sync(&copier->work);
}

/* Its device is suspended, and nothing has been written to it yet. May sleep. */
void cow_rollback_begin_scheduled(struct cow_attachment *attachment)
{
	struct cow_engine *engine = attachment->engine;
	struct cow_rollback *rollback = &attachment->origin->rollback;
	struct cow_member member = { .origin = attachment->origin->id };
	char why[COW_WHY_BYTES] = "";
	int r = 0;

	mutex_lock(&engine->control);
	if (rollback->state == COW_ROLLBACK_SCHEDULED) {
		member.target = rollback->target->id;
		member.snapshot = rollback->undo;
		member.force = rollback->force;
		r = cow_create_prepare(&engine->store, &member, 1, why);
		if (!r)
			r = cow_create_commit(&engine->store, &member, 1,
					      ktime_get_real_seconds(), why);
	}
	mutex_unlock(&engine->control);
	if (r)
		DMERR("origin %u: the rollback that is scheduled cannot begin: %s",
		      attachment->origin->id, why);
}

/* ------------------------------------------------------------------- I/O --- */

/* Counts as a reader, unless the rollback has just ended. */
static bool begin_read(struct cow_attachment *attachment)
{
	struct cow_rollback *rollback = &attachment->origin->rollback;
	struct cow_engine *engine = attachment->engine;
	unsigned long flags;
	bool runs;

	spin_lock_irqsave(&engine->view, flags);
	runs = rollback->state == COW_ROLLBACK_RUNNING;
	rollback->readers += runs;
	spin_unlock_irqrestore(&engine->view, flags);
	return runs;
}

static void end_read(struct cow_snap_bio *io)
{
	struct cow_engine *engine = io->snap->engine;
	unsigned long flags;

	spin_lock_irqsave(&engine->view, flags);
	io->snap->snapshot->origin->rollback.readers--;
	spin_unlock_irqrestore(&engine->view, flags);
	io->snap = NULL;
}

static int map_read(struct cow_attachment *attachment, struct bio *bio, struct cow_snap_bio *io)
{
	int r;

	io->snap = &attachment->shown;
	io->bio = bio;
	io->location = COW_NOT_FOUND;
	io->from_origin = false;
	io->iter = bio->bi_iter;
	r = cow_snap_map_read(&attachment->shown, bio, io);
	if (r == DM_MAPIO_KILL)
		end_read(io);
	return r;
}

static int map_write(struct cow_attachment *attachment, struct bio *bio, struct cow_bio *write)
{
	memset(write, 0, sizeof(*write));
	write->bio = bio;
	write->kind = COW_BIO_SHOWN;
	write->origin = attachment->origin;
	write->lower = attachment->lower.bdev;
	write->snap = &attachment->shown;
	write->waiter.block = bio->bi_iter.bi_sector / COWSNAP_BLOCK_SECTORS;
	write->waiter.length = DIV_ROUND_UP_SECTOR_T(bio_end_sector(bio), COWSNAP_BLOCK_SECTORS) -
			       write->waiter.block;
	cow_engine_queue(attachment->engine, write);
	return DM_MAPIO_SUBMITTED;
}

/*
 * A bio with sectors, while a rollback runs. False: it is to be mapped as ever, as much of
 * it as is left.
 */
bool cow_shown_map(struct cow_attachment *attachment, struct bio *bio, struct cow_snap_bio *io,
		   int *result)
{
	const u32 window_sectors = COW_WINDOW_BLOCKS * COWSNAP_BLOCK_SECTORS;
	struct cow_rollback *rollback = &attachment->origin->rollback;
	u32 sectors = window_sectors - bio->bi_iter.bi_sector % window_sectors;
	u64 block = bio->bi_iter.bi_sector / COWSNAP_BLOCK_SECTORS;

	*result = DM_MAPIO_SUBMITTED;
	if (bio_op(bio) != REQ_OP_READ && bio_op(bio) != REQ_OP_WRITE) {
		/* a hint; or something that can be done by writing */
		if (bio_op(bio) != REQ_OP_DISCARD)
			bio->bi_status = BLK_STS_NOTSUPP;
		bio_endio(bio);
		return true;
	}
	if (sectors < bio_sectors(bio))
		dm_accept_partial_bio(bio, sectors);
	/* those that are passed stay so */
	if (block >= COWSNAP_MARKER_BLOCKS && block < READ_ONCE(rollback->mark))
		return false;
	if (bio_op(bio) == REQ_OP_WRITE)
		*result = map_write(attachment, bio, &io->write);
	else if (begin_read(attachment))
		*result = map_read(attachment, bio, io);
	else
		return false;
	return true;
}

/* Of a bio that cow_shown_map() has mapped as a read. */
int cow_shown_end(struct bio *bio, struct cow_snap_bio *io, blk_status_t *error)
{
	int r = cow_snap_end_read(bio, io, error);

	if (r == DM_ENDIO_DONE)
		end_read(io);
	return r;
}

static void fail(struct cow_bio *write)
{
	write->bio->bi_status = BLK_STS_IOERR;
	bio_endio(write->bio);
}

/* It may be submitted at once, which the worker must not do (send.c). */
static void guarded_to_origin(struct work_struct *work)
{
	struct cow_bio *write = container_of(work, struct cow_bio, slow);
	struct cow_attachment *attachment = write->origin->shell;

	bio_set_dev(write->bio, write->lower);
	cow_guard_write(&attachment->guard, write, write->bio->bi_iter.bi_sector);
}

/* All of the bio: what of it is in the overlay already may be there twice. */
static void to_origin(struct cow_bio *write)
{
	struct cow_attachment *attachment = write->origin->shell;
	struct bio *bio = write->bio;

	write->kind = COW_BIO_ORIGIN;
	write->waiter.block = bio->bi_iter.bi_sector / COWSNAP_BLOCK_SECTORS;
	write->waiter.length = DIV_ROUND_UP_SECTOR_T(bio_end_sector(bio), COWSNAP_BLOCK_SECTORS) -
			       write->waiter.block;
	if (cow_guard_covers(&attachment->guard, bio->bi_iter.bi_sector, bio_end_sector(bio))) {
		INIT_WORK(&write->slow, guarded_to_origin);
		queue_work(attachment->sender.wq, &write->slow);
	} else {
		cow_engine_admit(write);
	}
}

/* Engine context: a write that was mapped while a rollback ran. */
void cow_shown_admit(struct cow_bio *write)
{
	struct cow_engine *engine = write->snap->engine;

	/* released because the store fails: it is not known to be durable */
	if (write->own && engine->store.broken) {
		fail(write);
		return;
	}
	if (write->own) {
		write->own = false;
		write->waiter.block += write->done_blocks;
		write->waiter.length -= write->done_blocks;
	}
	if (!write->waiter.length) {
		bio_endio(write->bio);
		return;
	}
	switch (cow_rollback_write(write->origin, &write->waiter, &write->extent)) {
	case COW_ROUTE_ORIGIN:
		to_origin(write);
		break;
	case COW_ROUTE_ERROR:
		fail(write);
		break;
	case COW_ROUTE_SHOWN:
		if (!write->extent)
			break;
		write->own = true;
		write->done_blocks = write->extent->length;
		cow_snap_fill(write);
		break;
	}
}
