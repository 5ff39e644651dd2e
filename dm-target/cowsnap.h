/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The kernel's side of a store: what the files of this directory share. The
 * engine itself, its contexts and its states are in core/store.h.
 *
 * Locks, from the outermost:
 *
 *   cow_engines_mutex     the list of engines, references to them
 *   engine->create_mutex  one create at a time; held while origins are drained
 *   engine->control       the control record (core's "control" context); no device is
 *                         opened or closed under it: a guarded write waits for it
 *   engine->mutex         core's "engine" context; held by the worker, never
 *                         while waiting for I/O
 *   engine->view          spinlock, interrupts off: core's "view" context
 *   engine->queue_lock    spinlock, interrupts off: what the worker is to do;
 *                         innermost, taken from interrupts
 *   guard->lock           the same for a guard (front.c)
 *
 *   Dropping snapshots of a full store takes "control" only: a create that
 *   drains origins whose bios wait for room must not stop it.
 *
 * Who does what
 *
 *   map() functions never sleep: a bio passes, or is queued for the worker.
 *   The worker is the only one that admits bios, forms batches, publishes.
 *   Completions (interrupts) only queue and wake the worker.
 *   Submitting to an origin's device may wait for a write to another one: a work of
 *   each attachment does it for the worker (send.c).
 *   Reads of snapshots that need more than a remap (parts of blocks, blocks
 *   that were preserved while the origin was read) are done by slow_wq, whose
 *   work items may wait for I/O, one each.
 */
#ifndef COWSNAP_H
#define COWSNAP_H

#include <linux/bio.h>
#include <linux/kref.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/spinlock.h>
#include <linux/uuid.h>
#include <linux/workqueue.h>

#include "compat.h"
#include "core/store.h"

#define DM_MSG_PREFIX "cow"

/* Blocks being preserved at a time, in one store: 32 MiB of memory, and what follows. */
#define COW_CREDIT_BLOCKS 8192
/* Extents that a log may have although the others have used these up: 512 KiB at most. */
#define COW_OWN_EXTENTS 4
/* Pages of extents that are kept for the next ones. */
#define COW_SPARE_PAGES 64
/* Batches, with their headers, that are kept for the next ones. */
#define COW_SPARE_BATCHES 8
#define COW_MARK_DELAY_MS 300

struct cow_engine;

/* An I/O of the engine that has ended, on its way to the worker. */
struct cow_done {
	struct list_head list;
	void (*finish)(struct cow_engine *engine, struct cow_done *done);
	int error;
};

struct cow_kextent {
	struct cow_extent core;
	struct cow_done done;
	struct cow_engine *engine;
	struct list_head send; /* sender->reads */
	u32 nr_pages;
	struct page *pages[COW_WINDOW_BLOCKS];
};

struct cow_kbatch {
	struct cow_batch core;
	struct cow_done done;
	struct cow_engine *engine;
	struct page *header;
};

struct cow_event {
	u64 number;
	const char *name;
	u64 id;
};

enum cow_guard_state {
	COW_GUARD_AWAY, /* nobody is in front */
	COW_GUARD_ENTERING, /* that this is in front is being recorded */
	COW_GUARD_READY,
	COW_GUARD_CHANGING, /* a write waits for its fingerprint to be recorded */
	COW_GUARD_OFF, /* the store has failed */
};

/* A place that is watched; see front.c. */
struct cow_watched {
	struct cow_place place;
	u64 print[2]; /* narrow fingerprints, each half is of one of them */
	bool seen; /* print is set */
};

/* In front of an origin's device; see front.c. Protected by engine->control where not said. */
struct cow_guard {
	struct cow_engine *engine;
	struct cow_origin *origin;
	struct block_device *bdev; /* the origin's */
	struct work_struct work;

	/* what user space says; the next create takes it */
	struct cow_place *coming;
	u32 nr_coming;

	/* one at a time uses these: resuming, the work, suspending */
	u8 *buffer;
	struct cow_sight sight;
	bool failed; /* the device could not be read or flushed */
	bool looked; /* the fingerprints in sight are from before the first write */

	spinlock_t lock; /* what follows */
	enum cow_guard_state state;
	bool left; /* AWAY: it was in front, and has recorded that it left */
	struct cow_front front; /* as recorded, while READY */
	bool again; /* what is recorded is not all that is to be */
	bool vague; /* COWSNAP_NONE is recorded, for a write that is under way */
	/* looked at without lock; changes while no write is taken, and in the work */
	struct cow_watched *watched;
	u32 nr_watched;
	struct list_head waiting; /* cow_bio */
	u32 under_way; /* guarded writes that were let go and have not ended */
	u8 sector[SECTOR_SIZE];

	atomic64_t taken; /* sectors of writes that were taken while AWAY */

	/* the device has been seen to be smaller than the origin since the last create */
	bool shrunk;
	bool owed; /* that snapshots are stale is not recorded yet */
	struct delayed_work spoil;
};

struct cow_snap_target {
	struct dm_target *ti;
	struct cow_engine *engine;
	struct dm_dev *store_dev;
	struct cow_snapshot *snapshot;
	struct cow_attachment *attachment; /* of the origin */
	struct cow_bdev origin_md; /* keeps the cow-origin's device */
	bool read_only;
};

/* Copies back what a rollback has to; see rollback.c. */
struct cow_copier {
	struct delayed_work work;
	bool stopped;
	bool marked; /* the marker is in the origin */
	bool waits; /* something fails: it tries again */
	atomic_t under_way; /* I/Os and the one who waits for them */
	int error; /* of one of them */
	struct completion ended;
};

/* Submits to the device of an origin; see send.c. */
struct cow_sender {
	struct workqueue_struct *wq;
	struct work_struct work;
	struct bio_set bios; /* of the reads */
	spinlock_t lock; /* what follows */
	struct list_head reads; /* cow_kextent */
	struct bio_list writes;
};

/*
 * An origin or a snapshot that has a device: one mapped device, whose active and
 * inactive table may both have a target for it. Protected by engine->control.
 */
struct cow_attachment {
	struct cow_engine *engine;
	struct mapped_device *md;
	dev_t dev; /* of md */
	u64 order; /* attached later: may be stacked on those before */
	unsigned int targets; /* cow-origins; without one origin->shell is another */
	unsigned int references; /* targets and cow-snaps */
	unsigned int creates; /* under way: the last target stays until they have ended */
	bool leaving; /* the last target waits for that: no other create or target begins */
	bool closing; /* interposed, suspended or about to be: no create begins */
	struct cow_origin *origin;
	struct cow_bdev lower; /* the origin's device */
	struct cow_sender sender;
	struct cow_interposer *interposer; /* NULL: stacked */
	struct cow_guard guard;
	struct cow_copier copier;
	struct cow_snap_target shown; /* of a rollback: what reads and fills blocks needs */
};

struct cow_engine {
	struct list_head list; /* cow_engines */
	unsigned int references; /* targets; cow_engines_mutex */
	struct mapped_device *md; /* of the cow-store */
	struct cow_bdev device;
	struct cow_store store;

	/* see the locks above */
	struct mutex create_mutex; /* one create at a time */
	struct mutex control; /* the control record, attachments */
	struct mutex mutex; /* the engine */
	spinlock_t view; /* what snapshot reads look at */
	unsigned long view_flags;

	struct workqueue_struct *wq;
	struct workqueue_struct *slow_wq;
	struct workqueue_struct *control_wq; /* what may wait for "control" */
	struct work_struct work;
	struct delayed_work mark_work;
	struct delayed_work drop_work;
	struct work_struct sweep_work;
	struct work_struct loss_work;
	struct delayed_work let_go_work;
	struct cow_loss *loss; /* ready to be remembered */
	bool opened; /* there may be origins */
	wait_queue_head_t idle; /* woken after each round of the worker */

	spinlock_t queue_lock; /* done, bios */
	struct list_head done; /* cow_done */
	struct list_head bios; /* cow_bio */

	mempool_t extent_pool;
	mempool_t page_pool;
	struct page *spare_pages[COW_SPARE_PAGES]; /* engine context */
	u32 nr_spare_pages;
	mempool_t batch_pool;
	mempool_t header_pool;
	struct cow_kbatch *spare_batches[COW_SPARE_BATCHES]; /* engine context */
	u32 nr_spare_batches;
	mempool_t meta_pool;
	mempool_t summary_pool;
	struct bio_set bios_set;
	struct cow_read_ahead *ahead; /* while the store is activated */
	int credits; /* blocks; engine context */
	unsigned int attached; /* attachments; changed under control, in engine context */
	unsigned int starving; /* logs without room; engine context */
	bool giving_up; /* releasing those that get no room; engine context */
	u64 attach_order;

	unsigned int full_wait_ms;
	unsigned int loss_wait_ms;
	spinlock_t event_lock; /* events, event[] */
	u64 events;
	struct cow_event event[COWSNAP_EVENTS_KEPT];
	struct work_struct event_work;
	struct mutex bound_mutex; /* bound */
	struct dm_target *bound; /* the live cow-store; bound_mutex */
};

enum cow_bio_kind {
	COW_BIO_ORIGIN, /* a write to an origin */
	COW_BIO_OVERLAY, /* a write to a snapshot */
	COW_BIO_SHOWN, /* a write to an origin while a rollback of it runs */
};

/* A bio that waits, in its target's per-bio data. */
struct cow_bio {
	struct list_head list; /* engine->bios, guard->waiting */
	struct cow_waiter waiter;
	struct bio *bio;
	enum cow_bio_kind kind;
	struct cow_origin *origin;
	struct block_device *lower; /* NULL: it has its device */
	bool strict; /* fails if it would pass without being preserved */
	struct cow_snap_target *snap;
	bool own; /* its own extent is on its way to the overlay */
	u32 done_blocks; /* of the write to a snapshot, published */
	struct cow_extent *extent; /* being filled */
	struct work_struct slow;

	/* a guarded write: where it begins in the origin, what ends it */
	struct cow_guard *guard;
	s64 begin;
	bio_end_io_t *end_io;
	void *private;
};

/* Per-bio data of a cow-snap. */
struct cow_snap_bio {
	struct cow_bio write;
	struct work_struct slow;
	struct cow_snap_target *snap;
	struct bio *bio;
	struct bvec_iter iter; /* as it came in */
	u64 location; /* pinned store block, or COW_NOT_FOUND */
	const u32 *crcs; /* of location and what follows */
	bool from_origin; /* look again when it ends */
};

/* device.c */
bool cow_device_alone(struct block_device *bdev);
bool cow_shows_active_store(struct block_device *bdev);

/* engine.c */
extern struct mutex cow_engines_mutex;
struct cow_engine *cow_engine_find(struct mapped_device *md);
struct cow_engine *cow_engine_of_device(struct block_device *bdev);
struct cow_engine *cow_engine_of_uuid(const u8 *uuid);
struct cow_engine *cow_engine_make(struct mapped_device *md, struct block_device *bdev,
				   u64 length_sectors, u32 segment_blocks, char *why);
void cow_engine_get(struct cow_engine *engine);
void cow_engine_put(struct cow_engine *engine);
void cow_engine_kick(struct cow_engine *engine);
void cow_engine_done(struct cow_engine *engine, struct cow_done *done, int error);
void cow_engine_queue(struct cow_engine *engine, struct cow_bio *bio);
void cow_engine_event(struct cow_engine *engine, const char *name, u64 id);
void cow_engine_admit(struct cow_bio *bio);
bool cow_engine_starving(struct cow_engine *engine);
void cow_engine_swept(struct cow_engine *engine);
int cow_engine_init(void);
void cow_engine_exit(void);

/* loss.c */
int cow_loss_init(struct cow_engine *engine);
void cow_loss_begins(struct cow_engine *engine);
void cow_loss_no_wait(struct cow_engine *engine);
void cow_loss_exit(struct cow_engine *engine);
int cow_loss_apply(struct cow_engine *engine, char *why);
int cow_loss_recorded(struct cow_engine *engine);
void cow_loss_forget_all(void);

/* io.c */
extern const struct cow_ops cow_kernel_ops;
int cow_io_init(struct cow_engine *engine);
void cow_io_exit(struct cow_engine *engine);
int cow_io_sync(struct block_device *bdev, sector_t sector, void *buffer, u32 bytes,
		blk_opf_t opf);
u32 cow_page_crc(struct page *page);
void cow_extent_submit(struct cow_attachment *attachment, struct cow_kextent *extent);

/* send.c */
int cow_sender_init(struct cow_sender *sender);
void cow_sender_exit(struct cow_sender *sender);
void cow_send_write(struct cow_attachment *attachment, struct bio *bio);
void cow_send_read(struct cow_attachment *attachment, struct cow_kextent *extent);

/* read-ahead.c; control context, between begin and end */
void cow_read_ahead_begin(struct cow_engine *engine);
void cow_read_ahead_end(struct cow_engine *engine);
void cow_read_ahead(struct cow_engine *engine, u64 block, u32 blocks);
bool cow_read_ahead_take(struct cow_engine *engine, u64 block, u32 blocks, void *buffer);
void cow_read_ahead_forget(struct cow_engine *engine, u64 block, u32 blocks);

/* message.c */
const char *cow_snapshot_state(const struct cow_snapshot *snapshot);
int cow_store_message(struct cow_engine *engine, unsigned int argc, char **argv, char *result,
		      unsigned int maxlen);

/* front.c */
int cow_guard_init(struct cow_guard *guard, struct cow_engine *engine, struct block_device *bdev);
void cow_guard_adopt(struct cow_guard *guard, struct cow_origin *origin);
void cow_guard_stop(struct cow_guard *guard);
void cow_guard_exit(struct cow_guard *guard);
void cow_guard_write(struct cow_guard *guard, struct cow_bio *write, s64 begin);
bool cow_guard_watches(const struct cow_guard *guard, s64 begin, s64 end);
int cow_guard_watch(struct cow_guard *guard, const struct cow_place *places, u32 count);
bool cow_guard_still(struct cow_guard *guard);
void cow_guard_settle(struct cow_guard *guard);
void cow_guard_shrunk(struct cow_guard *guard);
bool cow_guard_renew(struct cow_guard *guard);
void cow_guard_spoil_again(struct cow_guard *guard);
void cow_front_look(struct cow_attachment *attachment);
int cow_front_enter_device(struct cow_attachment *attachment);
void cow_front_leave_device(struct cow_attachment *attachment);
bool cow_front_has_verdict(struct cow_guard *guard);

/*
 * interpose.c; process context, without engine->control or engine->mutex where it says
 * that it may sleep.
 */
struct cow_interposer;
void cow_interpose_init(void);
void cow_interpose_exit(void);
const char *cow_interpose_refusal(struct block_device *bdev);
struct cow_interposer *cow_interposer_make(struct cow_guard *guard);
void cow_interposer_adopt(struct cow_interposer *interposer, struct cow_origin *origin);
int cow_interposer_arm(struct cow_interposer *interposer);
bool cow_interposer_armed(const struct cow_interposer *interposer);
void cow_interposer_suspend(struct cow_interposer *interposer);
void cow_interposer_resume(struct cow_interposer *interposer);
int cow_interposer_still(struct cow_interposer *interposer, void (*look)(void *context),
			 void *context);
bool cow_interposer_is_still(struct cow_interposer *interposer);
void cow_interposer_disarm(struct cow_interposer *interposer);
void cow_interposer_free(struct cow_interposer *interposer);
void cow_gate_prepare(struct cow_interposer *interposer);
int cow_gate_close(struct cow_interposer *interposer, unsigned int wait_ms);
void cow_gate_open(struct cow_interposer *interposer);
void cow_gate_relax(struct cow_interposer *interposer);

/*
 * interpose-hook.c: the hooks are there while somebody has a reference. An error's
 * cause is in the log. May sleep.
 */
int cow_hook_get(void);
void cow_hook_put(void);
void cow_hook_exit(void);

/* create.c */
int cow_create(struct cow_engine *engine, struct cow_member *members, u32 count);
int cow_reverse(struct cow_engine *engine, u32 origin);

/* rollback.c */
void cow_copier_init(struct cow_attachment *attachment);
void cow_copier_start(struct cow_attachment *attachment);
void cow_copier_stop(struct cow_attachment *attachment);
void cow_rollback_begin_scheduled(struct cow_attachment *attachment);
bool cow_shown_map(struct cow_attachment *attachment, struct bio *bio, struct cow_snap_bio *io,
		   int *result);
int cow_shown_end(struct bio *bio, struct cow_snap_bio *io, blk_status_t *error);
void cow_shown_admit(struct cow_bio *bio);

/* snap-target.c */
int cow_snap_map_read(struct cow_snap_target *snap, struct bio *bio, struct cow_snap_bio *io);
int cow_snap_end_read(struct bio *bio, struct cow_snap_bio *io, blk_status_t *error);

/* snap-slow.c */
void cow_snap_read_slow(struct work_struct *work);
void cow_snap_fill_slow(struct work_struct *work);
void cow_snap_fill(struct cow_bio *write);

/* the targets */
extern struct target_type cow_store_type;
extern struct target_type cow_origin_type;
extern struct target_type cow_snap_type;
struct cow_attachment *cow_attachment_put(struct cow_attachment *attachment);
void cow_attachment_free(struct cow_attachment *attachment);
int cow_parse_u32(const char *word, u32 low, u32 high, u32 *value);
int cow_parse_features(struct dm_target *ti, unsigned int argc, char **argv,
		       int (*feature)(void *context, const char *name, const char *value),
		       void *context);
struct cow_engine *cow_engine_from_arg(struct dm_target *ti, const char *arg,
				       struct dm_dev **device);

/* Any context, no lock. May a write to these blocks pass? */
static inline bool cow_origin_may_pass(const struct cow_origin *origin, u64 block, u64 length)
{
	/* the epoch's bitmap is there before the epoch is */
	if (smp_load_acquire(&origin->epoch) == COW_NO_EPOCH)
		return true;
	return cow_bitmap_preserved(READ_ONCE(origin->bitmap), block, length);
}

/* Any context, no lock. Is a write to these sectors of the origin for cow_guard_write()? */
static inline bool cow_guard_covers(const struct cow_guard *guard, s64 begin, s64 end)
{
	return begin < COW_PRINT_SECTORS ||
	       (unlikely(READ_ONCE(guard->nr_watched)) && cow_guard_watches(guard, begin, end));
}

/*
 * Any context, no lock. Is the device, or the disk that it is a partition of, too small for the
 * origin? What is behind the end may have other contents when it grows again. A disk
 * that is gone has no size at all.
 */
static inline bool cow_guard_is_short(const struct cow_guard *guard)
{
	const struct block_device *bdev = guard->bdev;
	sector_t size = guard->origin->size_sectors, end = bdev->bd_start_sect + size;
	/* each is read once: it may be set to 0 at any moment */
	sector_t own = READ_ONCE(bdev->bd_nr_sectors);
	sector_t disk = READ_ONCE(bdev->bd_disk->part0->bd_nr_sectors);

	return unlikely((own && own < size) || (disk && disk < end));
}

/* The same; the snapshots become stale then. Whoever has to do with the device looks. */
static inline void cow_guard_look(struct cow_guard *guard)
{
	if (cow_guard_is_short(guard) && !READ_ONCE(guard->shrunk))
		cow_guard_shrunk(guard);
}

static inline struct cow_engine *cow_engine_of(struct cow_store *store)
{
	return store->shell;
}

#endif
