/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The engine of a store: everything about snapshots that is not I/O, locking or
 * the block layer's business. The kernel module and the simulator drive the
 * same code: they execute the I/O that the engine asks for through struct
 * cow_ops, and tell it when an I/O has ended.
 *
 * Contexts
 *
 *   engine   Whoever is inside the engine has it for himself (the kernel: the
 *            engine mutex). Never waits for I/O. All functions of this file
 *            unless they say otherwise.
 *   control  One at a time (the kernel: the control mutex), may wait for I/O of
 *            the control record. Enters the engine only to apply what it has
 *            made durable.
 *   view     What snapshot reads look at: the indexes, the list of snapshots,
 *            the segments' pins. The engine changes these between
 *            ops->view_lock() and ops->view_unlock(); functions marked "view"
 *            are called with that lock held and from any context.
 *   bitmap   cow_bitmap_preserved() only: no lock at all.
 *
 *   Order: control, then engine, then view.
 *
 * The way of a write to an origin
 *
 *   cow_preserve() looks at the bitmap of the current epoch. For every missing
 *   block an extent is made (state READING) and read from the origin; extents
 *   that have been read (READY) are put into batches by cow_log_run(). Few of a log
 *   are written at a time, so that the next one fills meanwhile (group commit):
 *   see cow_log_may_write(). A batch that is durable is published
 *   when all batches of smaller sequence in its log are durable: exceptions
 *   into the index, then bits into the bitmap, then the waiters of its extents
 *   are released and look again. Releasing in this order is what lets recovery
 *   stop at the first batch that is not there.
 *
 * The states of a segment
 *
 *   FREE -> CLAIMED (owner in memory, table write under way) -> SPARE (both
 *   copies of its table block durable) -> OPEN (batches are appended) -> CLOSED
 *   (full, or its epoch ended; its summary is written when all its batches are
 *   published) -> FREE (no live blocks or its owner is gone, the summary
 *   durable or the owner gone, nothing in flight, no pins)
 */
#ifndef COW_STORE_H
#define COW_STORE_H

#include "format.h"
#include "front.h"
#include "index.h"

/* Of a log at a time, at most; the third one with this part of its extents at least. */
#define COW_BATCHES_WRITING 3u
#define COW_THIRD_BATCH_PART 4u
#define COW_WINDOW_BLOCKS 32u /* an extent lies inside one aligned window */
#define COW_HASH_BITS 8
/* New extents that one waiter may have at a time, in blocks. */
#define COW_WAITER_BLOCKS 256u
/* So many new extents for each look at how much memory is left. */
#define COW_EXTENTS_UNASKED 16u
#define COW_NO_EPOCH 0ull /* real epochs start at 1 */

struct cow_store;
struct cow_log;

/* -------------------------------------------------------------- bitmaps --- */

#define COW_BITMAP_PAGE_BYTES 4096u
#define COW_BITMAP_PAGE_BITS (COW_BITMAP_PAGE_BYTES * 8ull)

/*
 * One bit a block: preserved in the current epoch (or one merged into it). Pages
 * are made when a bit in them is first wanted; bits only ever get set.
 */
struct cow_bitmap {
	u64 blocks;
	u64 pages;
	u64 set; /* bits set */
	unsigned long *page[];
};

/* May sleep. NULL without memory. */
struct cow_bitmap *cow_bitmap_new(u64 blocks);
/* Frees the pages too; @bitmap may be NULL. */
void cow_bitmap_destroy(struct cow_bitmap *bitmap);
/* Any context, no lock: are all of these blocks preserved? */
bool cow_bitmap_preserved(const struct cow_bitmap *bitmap, u64 block, u64 length);
bool cow_bitmap_get(const struct cow_bitmap *bitmap, u64 block);
/* Is the page of @block there? If not, cow_bitmap_give() puts a zeroed one in. */
bool cow_bitmap_has_page(const struct cow_bitmap *bitmap, u64 block);
/* Takes over @page (from cow_alloc(COW_BITMAP_PAGE_BYTES)). */
void cow_bitmap_give(struct cow_bitmap *bitmap, u64 block, void *page);
/* The pages must be there. */
void cow_bitmap_set(struct cow_bitmap *bitmap, u64 block, u32 length);
/* The same for the blocks of a chunk that have a bit in @bits; false: their page is not there. */
bool cow_bitmap_set_chunk(struct cow_bitmap *bitmap, u64 chunk, u16 bits);

/* ------------------------------------------------------------- segments --- */

enum cow_segment_state {
	COW_SEGMENT_FREE = 0,
	COW_SEGMENT_CLAIMED,
	COW_SEGMENT_SPARE,
	COW_SEGMENT_OPEN,
	COW_SEGMENT_CLOSED,
};

/* Checksums of a segment's blocks, and which of them stand for unreadable ones. */
struct cow_sums {
	u32 crc[256];
	u64 unreadable[4];
};

struct cow_segment {
	struct list_head list; /* free list, or the segments of its owner */
	struct cow_owner owner; /* as in the table, also while FREE */
	struct cow_sums *sums; /* NULL while FREE */
	u32 pins; /* view: reads of the store under way */
	u32 writing; /* batches and summary not yet published */
	u16 live; /* blocks that an index points to */
	u8 state; /* enum cow_segment_state */
	bool summarized; /* the summary is durable */
	bool orphan; /* its owner is gone */
};

/*
 * A block of the segment table. When it changed, its image is taken and written
 * to copy 0, then to copy 1; what changes meanwhile needs another round.
 */
struct cow_table_block {
	struct list_head list; /* store->tables_dirty, or empty */
	u64 number; /* index in store->tables */
	u64 first_segment;
	u64 generation; /* of the last image */
	u64 image_limit; /* the image has all allocations up to this generation */
	void *image; /* made when first written, then kept */
	u32 count; /* segments */
	bool dirty; /* changed since the last image */
	bool writing;
	u8 copy; /* being written, or to be written first */
};

/* ---------------------------------------------------------------- epochs --- */

/*
 * A time between two snapshots. It keeps its number when its snapshot is
 * deleted; it then counts as part of the next older snapshot's time.
 */
struct cow_epoch {
	struct list_head list; /* origin->epochs, rising */
	struct list_head segments;
	u64 number;
	u64 live; /* blocks */
	bool incomplete; /* a batch was lost: what is not found is unknown */
};

struct cow_overlay;

struct cow_snapshot {
	struct list_head list; /* origin->snapshots, oldest first */
	struct list_head all; /* store->snapshots, by id */
	struct cow_origin *origin;
	u32 id;
	u64 epoch; /* its number names it in the store */
	u64 sequence; /* of the origin's log, first one of the epoch */
	u64 created; /* seconds since 1970 */
	u64 set;
	bool lost; /* not exact: reads are EIO */
	bool stale; /* not exact: its origin was written with nothing in front of it */
	bool damaged; /* an incomplete epoch, or damage seen on reading */
	u32 users; /* cow-snap targets, the shell's business */
	void *shell; /* the shell's, for its users */
	struct cow_overlay *overlay; /* NULL until someone may write */
	struct cow_snapshot *base; /* rollback->shown: what its overlay lies over */
};

/* -------------------------------------------------------------------- log --- */

enum cow_extent_state {
	COW_EXTENT_READING,
	COW_EXTENT_READY, /* its data are there, it is in log->ready */
	COW_EXTENT_WRITING, /* in a batch */
};

/*
 * A run of blocks on its way to the store, inside one window, and those who
 * wait for it. Made by ops->extent_new(); the shell has its data behind it.
 */
struct cow_extent {
	struct list_head hash;
	struct list_head queue; /* log->ready or batch->extents */
	struct list_head waiters;
	struct cow_log *log;
	u64 block;
	u16 length;
	u16 position; /* in the segment, once WRITING */
	u16 flags; /* COWSNAP_RECORD_* */
	u8 state;
	u32 nodes; /* reserved in the pool */
	u32 crc[COW_WINDOW_BLOCKS]; /* set by the shell before it writes */
};

/* Someone who wants to write [block, block + length) and must wait. */
struct cow_waiter {
	struct list_head list; /* an extent's waiters, or store->starved */
	u64 block;
	u64 length;
};

struct cow_batch {
	struct list_head list; /* log->writing, in the order of sequence */
	struct list_head extents;
	struct cow_log *log;
	struct cow_batch_info info;
	u64 store_block; /* where the header goes */
	bool written;
	int error;
};

/* The open segment's records, for its summary. */
struct cow_summary_data {
	struct list_head list; /* log->summaries, waiting to be written */
	struct cow_log *log;
	struct cow_summary_info info;
	u64 store_block; /* of the summary */
	bool issued;
	struct cow_record records[COW_SUMMARY_MAX_RECORDS];
};

struct cow_log {
	struct cow_store *store;
	struct cow_origin *origin; /* of an overlay too */
	struct cow_overlay *overlay; /* NULL: the origin's own log */
	u64 next_sequence;
	u64 durable_sequence; /* published */
	u64 proven_sequence; /* highest durable_sequence in a durable header */
	u64 data_sequence; /* last published batch that has records */
	u64 segment; /* open, or COW_NONE_SEGMENT */
	u64 spare; /* CLAIMED or SPARE, or COW_NONE_SEGMENT */
	u64 segment_sequence;
	u64 segment_epoch;
	u16 fill; /* next free block in the open segment */
	struct cow_summary_data *summary; /* of the open segment */
	struct list_head ready; /* extents */
	u32 ready_count;
	struct list_head writing; /* batches */
	u32 writing_count;
	u32 extents; /* made and not yet freed */
	struct list_head summaries;
	struct list_head hash[1 << COW_HASH_BITS]; /* extents by window */
	struct list_head active; /* store->active while there is something to do */
	bool starving; /* no free segment for it; the shell was told */
	bool wants_mark; /* write a mark although nothing else is to be written */
	bool incomplete; /* a batch was lost: no segment behind it is freed alone */
};

struct cow_overlay {
	struct cow_snapshot *snapshot;
	struct cow_log log;
	struct cow_index index;
	struct list_head segments;
	struct list_head dying; /* store->dying_overlays: its snapshot is deleted */
	u64 live;
	bool incomplete;
};

/* -------------------------------------------------------------- rollback --- */

/* Why it works is at the top of rollback.c. */
enum cow_rollback_state {
	COW_ROLLBACK_NONE = 0,
	COW_ROLLBACK_SCHEDULED, /* begins when the origin is activated the next time */
	COW_ROLLBACK_RUNNING,
};

/* Of an origin. Changes in engine context, with the view lock where reads look. */
struct cow_rollback {
	u8 state; /* enum cow_rollback_state; view */
	bool force; /* SCHEDULED: the target may be stale */
	bool first_held; /* the first blocks are being restored: writes to them wait */
	u32 undo; /* id of the snapshot of what was there before; 0: none */
	struct cow_snapshot *target; /* view */
	/*
	 * What the origin's device shows where it is not restored: the target, under an
	 * overlay of its own. In no list; id 0. Its base stays while there are readers.
	 */
	struct cow_snapshot shown;
	u64 mark; /* view; blocks below, but for the first, are restored, durably */
	u64 window; /* blocks from the mark to here are being restored: writes wait */
	struct list_head waiting; /* waiters, for the window or the first blocks */
	u32 readers; /* view; reads under way that looked at shown */
};

struct cow_origin {
	struct list_head list; /* store->origins, by id */
	struct cow_store *store;
	u32 id;
	u64 size_sectors;
	u64 blocks; /* rounded up */
	u32 nr_snapshots;
	struct list_head snapshots;
	struct list_head epochs;
	u64 epoch; /* current, or COW_NO_EPOCH */
	struct cow_bitmap *bitmap; /* of the current epoch, or NULL */
	struct cow_index index;
	struct cow_log log;
	u64 read_blocks;
	u32 nr_incomplete; /* epochs */
	u64 sweep_chunk; /* next chunk to sweep, COW_NOT_FOUND: nothing to do */
	bool sweep_again; /* something was deleted while sweeping */
	bool registered; /* in the control record */
	struct cow_front front; /* control context; so is what follows */
	struct cow_place *places; /* that are watched: COWSNAP_WATCH_MAX of them, or NULL */
	u32 nr_places;
	struct cow_rollback rollback;
	void *shell; /* the attached cow-origin, NULL without */
	u32 users; /* cow-snap targets, also of dropped snapshots; the shell's business */
};

/* ------------------------------------------------------------------- store --- */

/*
 * What the engine asks of its surroundings. "engine": called in engine context,
 * must not wait for I/O and must not tell the end of an I/O before it returns
 * (the function named is called later). "control": may wait.
 */
struct cow_ops {
	/* control functions enter and leave the engine with these */
	void (*engine_enter)(struct cow_store *store);
	void (*engine_leave)(struct cow_store *store);
	void (*view_lock)(struct cow_store *store);
	void (*view_unlock)(struct cow_store *store);
	/* engine: an extent of this log with room for @blocks of data; NULL: none now */
	struct cow_extent *(*extent_new)(struct cow_log *log, u32 blocks);
	void (*extent_free)(struct cow_store *store, struct cow_extent *extent);
	/* engine: never NULL (from a reserve) */
	struct cow_batch *(*batch_new)(struct cow_store *store);
	void (*batch_free)(struct cow_store *store, struct cow_batch *batch);
	/* engine: read the extent from the origin -> cow_extent_filled */
	void (*extent_read)(struct cow_store *store, struct cow_extent *extent);
	/*
	 * engine: set extent->crc of the batch's extents, encode the header with
	 * cow_batch_image() (before it returns) and write header and data with one
	 * durable write at batch->store_block -> cow_batch_written
	 */
	void (*batch_write)(struct cow_store *store, struct cow_batch *batch);
	/* engine: durable write of cow_summary_image() -> cow_summary_written */
	void (*summary_write)(struct cow_store *store, struct cow_summary_data *summary);
	/* engine: durable write of table->image at @block -> cow_table_written */
	void (*table_write)(struct cow_store *store, struct cow_table_block *table, u64 block);
	/* engine: what the waiter waited for has happened: look again */
	void (*waiter_ready)(struct cow_store *store, struct cow_waiter *waiter);
	/* engine: this log found no free segment; told once until it has room again */
	void (*no_room)(struct cow_store *store, struct cow_log *log);
	void (*room_again)(struct cow_store *store, struct cow_log *log);
	/* engine: one of COWSNAP_EVENT_* */
	void (*event)(struct cow_store *store, const char *event, u64 id);
	/* control: blocks of the store; 0 or a negative errno. Writes are durable. */
	int (*read)(struct cow_store *store, u64 block, u32 blocks, void *buffer);
	int (*write)(struct cow_store *store, u64 block, u32 blocks, const void *buffer);
	/* control: the same will be asked of read, soon. NULL: not wanted; need not do anything */
	void (*read_ahead)(struct cow_store *store, u64 block, u32 blocks);
};

struct cow_store {
	const struct cow_ops *ops;
	struct cow_super super;
	bool super_torn[2]; /* the last write of that copy failed */
	u32 activation;

	/* control record */
	u64 transaction; /* last durable */
	u32 journal_fill; /* journal blocks used since the last checkpoint */
	u32 failed_blocks; /* of the last transaction, if its write failed */
	u32 checkpoint_slot; /* that the last one was written to */
	u64 next_epoch;
	u64 next_set;
	struct list_head origins;
	struct list_head snapshots;
	u32 nr_origins, nr_snapshots;

	/* segments */
	struct cow_segment *segments;
	u64 nr_segments;
	struct list_head free_segments;
	struct list_head zombies; /* could be free but for their pins */
	u64 nr_free;
	u64 next_generation;
	u64 low_water;
	bool low_water_told;
	struct cow_table_block *tables;
	u64 nr_tables;
	struct list_head tables_dirty;

	struct cow_node_pool pool;
	struct list_head starved; /* waiters that found no extent or memory */
	bool retry; /* something was freed that they may need */
	u32 extents_unasked; /* may be made before cow_memory_short() is asked again */
	struct list_head active; /* logs with something to do */
	struct list_head dying_overlays;
	u64 damaged_blocks;
	/*
	 * A write to the store failed. broken: every snapshot is lost, writes to
	 * origins are held until that is recorded; failed: it is, here or elsewhere,
	 * or has been waited for long enough, and origins go on without being preserved.
	 */
	bool broken;
	bool failed;
	void *shell;
};

/* A short text for the last refusal of control functions; for messages. */
#define COW_WHY_BYTES 160

/* ----------------------------------------------- store: control context --- */

/* Fields to their empty state. @ops and @shell stay with the caller. */
void cow_store_init(struct cow_store *store, const struct cow_ops *ops, void *shell);
/*
 * Looks at the start of a device of @device_blocks blocks: 1 when it is blank
 * (first COWSNAP_STORE_BLANK_SECTORS zero), 0 when it carries a store that can be
 * used (store->super is then set), a negative errno and @why else.
 */
int cow_store_probe(struct cow_store *store, u64 device_blocks, char *why);
/* Writes an empty store. The device was blank. */
int cow_store_format(struct cow_store *store, u64 device_blocks, u32 segment_blocks,
		     const u8 *uuid, char *why);
/*
 * Activates a store that cow_store_probe() found: reads control record, segment
 * table and logs, recovers from a crash, makes the activation durable.
 */
int cow_store_open(struct cow_store *store, char *why);
/* Frees all memory; nothing may be in flight. */
void cow_store_destroy(struct cow_store *store);
/*
 * Use the device up to @device_blocks. -ENOSPC when that adds nothing. The
 * segments are there when it returns 0; cow_store_run() then.
 */
int cow_store_extend(struct cow_store *store, u64 device_blocks, char *why);

struct cow_origin *cow_origin_find(struct cow_store *store, u32 id);
struct cow_snapshot *cow_snapshot_find(struct cow_store *store, u32 id);
/* Known, or made (durably). -ERANGE: known with another size. */
int cow_origin_register(struct cow_store *store, u32 id, u64 size_sectors,
			struct cow_origin **origin, char *why);
/* -EBUSY with snapshots, users or a shell. */
int cow_origin_forget(struct cow_store *store, u32 id, char *why);

struct cow_member {
	u32 snapshot, origin;
	/* a rollback of the origin to this snapshot begins with it; 0: none */
	u32 target;
	bool force; /* the target may be stale */
	/* set by cow_create_prepare() */
	struct cow_snapshot *made;
	struct cow_epoch *epoch;
	struct cow_bitmap *bitmap;
	struct cow_overlay *overlay;
};

/*
 * Creating a set: prepare (checks, memory, room in the journal), then the caller
 * drains the origins and makes their caches durable, then commit: one
 * transaction, then the new epochs. abort instead of commit gives back memory.
 */
int cow_create_prepare(struct cow_store *store, struct cow_member *members, u32 count,
		       char *why);
int cow_create_commit(struct cow_store *store, struct cow_member *members, u32 count,
		      u64 now_seconds, char *why);
void cow_create_abort(struct cow_store *store, struct cow_member *members, u32 count);
/*
 * After COWSNAP_EVENT_FAILED: record on the store that its snapshots are lost, so
 * that a later activation cannot take them for exact, and let the origins go on.
 * An error when it could not be recorded: they are still held, until
 * cow_store_let_go(). Whoever calls that has recorded elsewhere that the sets up to
 * cow_store_last_set() are lost, and tells the store by cow_store_lose() when it
 * comes back.
 */
int cow_store_record_loss(struct cow_store *store);
void cow_store_let_go(struct cow_store *store);
u64 cow_store_last_set(const struct cow_store *store);
/*
 * The store missed writes to its origins: all its snapshots with a set of at most
 * @last_set are lost, durably when it returns 0. Later sets have greater numbers,
 * so that saying it again does no harm.
 */
int cow_store_lose(struct cow_store *store, u64 last_set, char *why);

/* True when the origin's log has nothing in flight (engine context). */
bool cow_origin_quiet(const struct cow_origin *origin);

/*
 * Delete snapshots, all or none. -EBUSY when one has users, unless @dropped:
 * then reads of it are EIO from now on, and the shell frees it with its last
 * user (cow_snapshot_free).
 */
int cow_delete(struct cow_store *store, const u32 *ids, u32 count, bool dropped, char *why);

/* Does the origin have snapshots that could become stale? */
bool cow_front_matters(const struct cow_origin *origin);
/*
 * A cow-origin is in front from now on, of an origin with these narrow fingerprints.
 * With @stale the snapshots that it has are not exact. All or nothing, durably.
 */
int cow_front_enter(struct cow_origin *origin, u64 print, u64 watched, bool stale);
/* The origin is as the first fingerprints say, durably, and may become as the second. */
int cow_front_change(struct cow_origin *origin, const struct cow_front *front);
/* The same; from now on these places, @count of them, are watched. */
int cow_front_watch(struct cow_origin *origin, const struct cow_front *front,
		    const struct cow_place *places, u32 count);
/* The snapshots that the origin has are not exact. All or nothing, durably. */
int cow_front_spoil(struct cow_origin *origin);
/* Nobody is in front any more; nothing has been written since @sight. */
int cow_front_leave(struct cow_origin *origin, const struct cow_sight *sight);

/* Makes the overlay of a snapshot that is to be written to. */
int cow_overlay_make(struct cow_snapshot *snapshot);

/*
 * The oldest snapshot of the origin that may be dropped for room: not one that a
 * rollback needs that runs. NULL: none.
 */
struct cow_snapshot *cow_oldest_to_drop(const struct cow_origin *origin);
/* Does a rollback that runs need the snapshot as it is? */
bool cow_rollback_needs(const struct cow_snapshot *snapshot);

/*
 * A rollback begins as a member of a create. This records one for later: then
 * member->target and the others are as in origin->rollback.
 */
int cow_rollback_schedule(struct cow_store *store, const struct cow_member *member, char *why);
/* Of one that is SCHEDULED. */
int cow_rollback_unschedule(struct cow_origin *origin, char *why);
/*
 * Of one that is RUNNING: go back to what was there before, instead. The origin is
 * drained, and nothing is being restored.
 */
int cow_rollback_reverse(struct cow_origin *origin, char *why);
/*
 * The blocks of the window are in the origin as shown, durably: it is passed. Those
 * who waited for it go on.
 */
int cow_rollback_pass(struct cow_origin *origin);
/* The same for the first blocks, when all others are: the end of the rollback. */
int cow_rollback_finish(struct cow_origin *origin);

/* ------------------------------------------------ store: engine context --- */

/* Do all that can be done now. */
void cow_store_run(struct cow_store *store);
/* Is there something that only another run goes on with: for want of memory or room? */
bool cow_store_wants_run(const struct cow_store *store);
/*
 * A write that waits to pass. True: all its blocks are preserved, or need not
 * be. False: the engine keeps the waiter until ops->waiter_ready.
 */
bool cow_preserve(struct cow_origin *origin, struct cow_waiter *waiter);
/*
 * A write to a snapshot, inside one window. Returns an extent that the caller
 * fills with the new contents (then cow_extent_filled), the waiter waits for it;
 * or NULL: the waiter waits for others before it, and asks again.
 */
struct cow_extent *cow_overlay_write(struct cow_overlay *overlay, struct cow_waiter *waiter);
enum cow_route {
	COW_ROUTE_ORIGIN, /* to the origin, as if there were no rollback */
	COW_ROUTE_SHOWN, /* into an overlay: as from cow_overlay_write() */
	COW_ROUTE_ERROR, /* nowhere: the store has failed */
};

/*
 * A write to an origin, inside one window: where it goes now. *@extent as
 * cow_overlay_write() returns it; NULL: the waiter waits, and asks again.
 */
enum cow_route cow_rollback_write(struct cow_origin *origin, struct cow_waiter *waiter,
				  struct cow_extent **extent);
/*
 * Opens the next window of a rollback, with at most about @most blocks to restore.
 * False: all but the first blocks are restored, and those are held.
 */
bool cow_rollback_open(struct cow_origin *origin, u32 most);
/* Has what was written to the window before it was opened arrived in the overlay? */
bool cow_rollback_settled(const struct cow_origin *origin);
/* The window cannot be restored now: its writes go on. */
void cow_rollback_give_back(struct cow_origin *origin);
/* The data of an extent are there; with an error they could not be read. */
void cow_extent_filled(struct cow_extent *extent, int error);
void cow_batch_written(struct cow_batch *batch, int error);
void cow_summary_written(struct cow_summary_data *summary, int error);
void cow_table_written(struct cow_table_block *table, int error, struct cow_store *store);
/* The header block of a batch whose extents' crc are set. */
void cow_batch_image(struct cow_batch *batch, void *header);
/* COWSNAP_SUMMARY_BLOCKS(segment_blocks) blocks. */
void cow_summary_image(struct cow_summary_data *summary, void *blocks);
/* Ask for a mark when the log is idle and its last batch is not proven yet. */
void cow_log_mark(struct cow_log *log);
bool cow_log_may_write(const struct cow_log *log);
bool cow_log_unproven(const struct cow_log *log);
/*
 * One step of sweeping an origin's index after deletions; true when there is
 * more to do. Takes the view lock for a bounded number of entries.
 */
bool cow_sweep(struct cow_origin *origin, u32 budget);
/*
 * End all open segments, so that the next activation finds their summaries and
 * need not scan: before the store is let go. Then cow_store_run() until idle.
 */
void cow_store_settle(struct cow_store *store);
/* Nothing in flight anywhere: no batch, summary, table write, waiter. */
bool cow_store_idle(const struct cow_store *store);

/* --------------------------------------------------- store: view context --- */

enum cow_where {
	COW_AT_ORIGIN,
	COW_AT_STORE,
	COW_AT_ERROR, /* lost, or unknown: EIO */
};

/*
 * Where the snapshot's blocks from @block on are, and how many (1 to @length) have
 * the same answer. COW_AT_STORE: from *location on, one segment, pinned once.
 */
u32 cow_snapshot_lookup(struct cow_snapshot *snapshot, u64 block, u32 length,
			enum cow_where *where, u64 *location);
/* Is the block shown from origin->rollback.shown, and not from the origin? */
bool cow_rollback_shows(const struct cow_rollback *rollback, u64 block);
/*
 * The checksums of a pinned segment, from the block at @location on. The array
 * stays where it is until the segment is unpinned, and needs no lock.
 */
const u32 *cow_store_crcs(const struct cow_store *store, u64 location);
/* True: call cow_store_run() soon, space can be freed. */
bool cow_store_unpin(struct cow_store *store, u64 location);

/* ----------------------------------------------------- between core's files --- */

/* Of blocks that are going to be read, by a shell that can: not the simulator's. */
static inline void cow_store_read_ahead(struct cow_store *store, u64 block, u32 blocks)
{
	if (store->ops->read_ahead)
		store->ops->read_ahead(store, block, blocks);
}

/* store.c */
int cow_supers_repair(struct cow_store *store);

/* segments.c */
int cow_segments_make(struct cow_store *store);
int cow_segments_grow(struct cow_store *store);
void cow_segments_free_all(struct cow_store *store);
u64 cow_segment_claim(struct cow_store *store, u32 kind, u32 origin, u64 epoch,
		      struct list_head *owner);
void cow_segment_reclaim(struct cow_store *store, u64 number, u64 epoch, struct list_head *owner);
void cow_segment_release(struct cow_store *store, u64 number);
void cow_segment_orphan(struct cow_store *store, struct list_head *segments);
void cow_segment_unlive(struct cow_store *store, u64 location, u32 blocks);
void cow_segments_run(struct cow_store *store);
u64 cow_segment_number(const struct cow_store *store, const struct cow_segment *segment);
void cow_table_change(struct cow_store *store, u64 segment);
int cow_tables_write_all(struct cow_store *store);

/* control.c */
int cow_control_commit(struct cow_store *store, const struct cow_op *ops, u32 count);
int cow_control_room(struct cow_store *store, u32 ops);
int cow_control_load(struct cow_store *store, char *why);
int cow_control_format(struct cow_store *store);

/* front.c */
bool cow_front_op(struct cow_op *op, const struct cow_origin *origin);
void cow_front_place_ops(struct cow_op *ops, const struct cow_origin *origin);
void cow_front_replay(struct cow_origin *origin, const struct cow_op *op);
int cow_front_replay_place(struct cow_origin *origin, const struct cow_op *op);
void cow_front_replay_stale(struct cow_origin *origin);

/* rollback.c */
void cow_rollback_init(struct cow_origin *origin);
int cow_rollback_check(struct cow_store *store, const struct cow_member *member, char *why);
void cow_rollback_op(struct cow_op *op, const struct cow_origin *origin);
int cow_rollback_replay(struct cow_origin *origin, const struct cow_op *op);
void cow_rollback_begin(struct cow_origin *origin, struct cow_member *member, u64 epoch);
void cow_rollback_end(struct cow_origin *origin);
void cow_rollback_forget_target(struct cow_snapshot *snapshot);
struct cow_overlay *cow_rollback_overlay(const struct cow_origin *origin);

/* log.c */
void cow_log_init(struct cow_log *log, struct cow_store *store, struct cow_origin *origin,
		  struct cow_overlay *overlay);
void cow_log_activate(struct cow_log *log);
void cow_log_run(struct cow_log *log);
void cow_log_close_segment(struct cow_log *log);
void cow_log_drop(struct cow_log *log);
void cow_log_drop_spare(struct cow_log *log);
void cow_log_give_up(struct cow_log *log);
u32 cow_log_usable_blocks(const struct cow_store *store);
struct cow_extent *cow_log_find(const struct cow_log *log, u64 block, u32 length);
void cow_log_add_extent(struct cow_log *log, struct cow_extent *extent);
bool cow_log_idle(const struct cow_log *log);
void cow_log_enter(struct cow_log *log, u64 epoch, u64 segment, const struct cow_record *record,
		   u32 nodes);
void cow_store_fail(struct cow_store *store);
void cow_store_wake_logs(struct cow_store *store);

/* epochs.c */
struct cow_origin *cow_origin_new(struct cow_store *store, u32 id, u64 size_sectors);
void cow_origin_link(struct cow_origin *origin);
void cow_origin_free(struct cow_origin *origin);
void cow_op_of_snapshot(struct cow_op *op, const struct cow_snapshot *snapshot);
struct cow_snapshot *cow_snapshot_new(u32 id);
void cow_snapshot_link(struct cow_origin *origin, struct cow_snapshot *snapshot);
void cow_snapshot_unlink(struct cow_snapshot *snapshot);
void cow_snapshot_free(struct cow_snapshot *snapshot);
struct cow_epoch *cow_epoch_find(const struct cow_origin *origin, u64 number);
struct cow_epoch *cow_epoch_add(struct cow_origin *origin, u64 number);
u64 cow_origin_oldest_epoch(const struct cow_origin *origin);
u64 cow_origin_newest_epoch(const struct cow_origin *origin);
void cow_overlay_free(struct cow_overlay *overlay);
void cow_overlay_drop(struct cow_overlay *overlay);
void cow_overlays_reap(struct cow_store *store);
struct cow_overlay *cow_overlay_new(struct cow_snapshot *snapshot);
bool cow_nodes_reserve(struct cow_store *store, u32 nodes);

#endif
