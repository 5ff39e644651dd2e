// SPDX-License-Identifier: GPL-2.0-only
/*
 * The life of a store in the kernel: the list of engines, the worker, events,
 * what happens when the store is full, marks, sweeping after deletions.
 */
#include <linux/delay.h>
#include <linux/module.h>

#include "cowsnap.h"

/* Protects the list and each engine's count of references. */
DEFINE_MUTEX(cow_engines_mutex);
static LIST_HEAD(cow_engines);

/* ----------------------------------------------------------------- events --- */

static void event_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(work, struct cow_engine, event_work);

	mutex_lock(&engine->bound_mutex);
	if (engine->bound)
		dm_table_event(engine->bound->table);
	mutex_unlock(&engine->bound_mutex);
}

/* Any process context. */
void cow_engine_event(struct cow_engine *engine, const char *name, u64 id)
{
	struct cow_event *event;

	spin_lock(&engine->event_lock);
	engine->events++;
	event = &engine->event[engine->events % COWSNAP_EVENTS_KEPT];
	event->number = engine->events;
	event->name = name;
	event->id = id;
	spin_unlock(&engine->event_lock);
	if (strcmp(name, COWSNAP_EVENT_LOW_WATER))
		DMWARN("store %pUb: %s %llu", engine->store.super.uuid, name, id);
	if (!strcmp(name, COWSNAP_EVENT_FAILED))
		cow_loss_begins(engine);
	queue_work(engine->control_wq, &engine->event_work);
}

/* ----------------------------------------------------------------- worker --- */

void cow_engine_kick(struct cow_engine *engine)
{
	queue_work(engine->wq, &engine->work);
}

/*
 * From any context: an I/O of the engine has ended. It was what kept the engine: once
 * the worker can take it, which is when the lock is let go, there may be no engine.
 */
void cow_engine_done(struct cow_engine *engine, struct cow_done *done, int error)
{
	unsigned long flags;

	done->error = error;
	spin_lock_irqsave(&engine->queue_lock, flags);
	list_add_tail(&done->list, &engine->done);
	cow_engine_kick(engine);
	spin_unlock_irqrestore(&engine->queue_lock, flags);
}

/* From any context: a bio that must wait, or has waited. As above, it keeps the engine. */
void cow_engine_queue(struct cow_engine *engine, struct cow_bio *bio)
{
	unsigned long flags;

	spin_lock_irqsave(&engine->queue_lock, flags);
	list_add_tail(&bio->list, &engine->bios);
	cow_engine_kick(engine);
	spin_unlock_irqrestore(&engine->queue_lock, flags);
}

static void admit_origin(struct cow_bio *bio)
{
	if (!cow_preserve(bio->origin, &bio->waiter))
		return;
	if (bio->strict && !cow_origin_may_pass(bio->origin, bio->waiter.block,
						bio->waiter.length)) {
		bio->bio->bi_status = BLK_STS_IOERR;
		bio_endio(bio->bio);
		return;
	}
	if (bio->lower)
		bio_set_dev(bio->bio, bio->lower);
	cow_send_write(bio->origin->shell, bio->bio);
}

static void end_overlay(struct cow_bio *bio, blk_status_t status)
{
	bio->bio->bi_status = status;
	bio_endio(bio->bio);
}

static void admit_overlay(struct cow_bio *bio)
{
	struct cow_snapshot *snapshot = bio->snap->snapshot;

	if (snapshot->lost || !snapshot->overlay || snapshot->overlay->incomplete) {
		end_overlay(bio, BLK_STS_IOERR);
		return;
	}
	if (bio->own) {
		bio->own = false;
		bio->waiter.block += bio->done_blocks;
		bio->waiter.length -= bio->done_blocks;
	}
	if (!bio->waiter.length) {
		end_overlay(bio, BLK_STS_OK);
		return;
	}
	bio->extent = cow_overlay_write(snapshot->overlay, &bio->waiter);
	if (!bio->extent)
		return;
	bio->own = true;
	bio->done_blocks = bio->extent->length;
	cow_snap_fill(bio);
}

/* Engine context. */
void cow_engine_admit(struct cow_bio *bio)
{
	switch (bio->kind) {
	case COW_BIO_ORIGIN:
		admit_origin(bio);
		break;
	case COW_BIO_OVERLAY:
		admit_overlay(bio);
		break;
	case COW_BIO_SHOWN:
		cow_shown_admit(bio);
		break;
	}
}

static void take(struct cow_engine *engine, struct list_head *from, struct list_head *to)
{
	INIT_LIST_HEAD(to);
	spin_lock_irq(&engine->queue_lock);
	list_splice_tail_init(from, to);
	spin_unlock_irq(&engine->queue_lock);
}

static bool have_work(struct cow_engine *engine)
{
	return !list_empty_careful(&engine->done) || !list_empty_careful(&engine->bios);
}

static void admit_all(struct cow_engine *engine)
{
	struct cow_bio *bio, *next;
	struct list_head bios;

	take(engine, &engine->bios, &bios);
	list_for_each_entry_safe(bio, next, &bios, list)
		cow_engine_admit(bio);
}

/*
 * Writes that a batch releases are sent in the same round. The batches come behind the new bios:
 * while these are looked at, more of what they will hold is read. The devices have the bios by
 * then: none of them waits until a batch has its checksums.
 */
static void worker_round(struct cow_engine *engine)
{
	struct cow_done *done, *next;
	struct list_head dones;
	struct blk_plug plug;

	take(engine, &engine->done, &dones);
	blk_start_plug(&plug);
	list_for_each_entry_safe(done, next, &dones, list)
		done->finish(engine, done);
	admit_all(engine);
	blk_finish_plug(&plug);
	blk_start_plug(&plug);
	cow_store_run(&engine->store);
	admit_all(engine);
	/* a write to a snapshot may have all that it needs */
	if (!list_empty(&engine->store.active))
		cow_store_run(&engine->store);
	blk_finish_plug(&plug);
}

static void engine_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(work, struct cow_engine, work);
	unsigned int noio = memalloc_noio_save();

	do {
		mutex_lock(&engine->mutex);
		worker_round(engine);
		mutex_unlock(&engine->mutex);
		wake_up_all(&engine->idle);
		cond_resched();
	} while (have_work(engine));
	memalloc_noio_restore(noio);
	queue_delayed_work(engine->control_wq, &engine->mark_work,
			   msecs_to_jiffies(COW_MARK_DELAY_MS));
}

/* ------------------------------------------------------------------ marks --- */

/* True when the log must be looked at again later. */
static bool mark_log(struct cow_log *log)
{
	if (!cow_log_unproven(log))
		return false;
	if (list_empty(&log->ready) && list_empty(&log->writing))
		cow_log_mark(log);
	return true;
}

static void mark_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(to_delayed_work(work), struct cow_engine,
						 mark_work);
	struct cow_snapshot *snapshot;
	struct cow_origin *origin;
	bool any = false;

	mutex_lock(&engine->mutex);
	if (!engine->store.broken) {
		list_for_each_entry(origin, &engine->store.origins, list) {
			any |= mark_log(&origin->log);
			if (origin->rollback.shown.overlay)
				any |= mark_log(&origin->rollback.shown.overlay->log);
		}
		list_for_each_entry(snapshot, &engine->store.snapshots, all)
			if (snapshot->overlay)
				any |= mark_log(&snapshot->overlay->log);
	}
	if (!list_empty(&engine->store.starved)) {
		/* for memory, perhaps: nothing else would wake them */
		engine->store.retry = true;
		any = true;
	}
	any |= cow_store_wants_run(&engine->store);
	mutex_unlock(&engine->mutex);
	/* the worker comes back here after its round */
	if (any)
		cow_engine_kick(engine);
}

/* ------------------------------------------------------------------- full --- */

bool cow_engine_starving(struct cow_engine *engine)
{
	return READ_ONCE(engine->starving);
}

static bool starves(const struct cow_origin *origin)
{
	const struct cow_overlay *shown = origin->rollback.shown.overlay;

	return origin->log.starving || (shown && shown->log.starving);
}

/* Writes to snapshots get ENOSPC; returns an origin whose writes wait, if any. */
static struct cow_origin *find_starving(struct cow_engine *engine)
{
	struct cow_origin *origin, *found = NULL;
	struct cow_snapshot *snapshot;

	mutex_lock(&engine->mutex);
	engine->giving_up = true;
	list_for_each_entry(snapshot, &engine->store.snapshots, all)
		if (snapshot->overlay && snapshot->overlay->log.starving)
			cow_log_give_up(&snapshot->overlay->log);
	engine->giving_up = false;
	list_for_each_entry(origin, &engine->store.origins, list) {
		/* with free segments it was for memory, or there is room by now */
		if (starves(origin) && cow_oldest_to_drop(origin) && !engine->store.nr_free) {
			found = origin;
			break;
		}
	}
	mutex_unlock(&engine->mutex);
	return found;
}

/*
 * The time that writes may wait for room is over: drop the oldest snapshot of an
 * origin that waits, one at a time, until there is room.
 */
static void drop_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(to_delayed_work(work), struct cow_engine,
						 drop_work);
	struct cow_origin *origin;
	char why[COW_WHY_BYTES];
	u32 id;

	mutex_lock(&engine->control);
	origin = find_starving(engine);
	if (origin) {
		id = cow_oldest_to_drop(origin)->id;
		if (cow_delete(&engine->store, &id, 1, true, why))
			DMERR("store %pUb: snapshot %u cannot be dropped: %s",
			      engine->store.super.uuid, id, why);
	}
	mutex_unlock(&engine->control);
	if (origin)
		cow_engine_swept(engine);
	cow_engine_kick(engine);
	flush_work(&engine->work);
	if (cow_engine_starving(engine))
		queue_delayed_work(engine->control_wq, &engine->drop_work,
				   msecs_to_jiffies(origin ? 20 : 200));
}

/* --------------------------------------------------------------- sweeping --- */

static bool sweep_some(struct cow_engine *engine)
{
	struct cow_origin *origin;
	unsigned int noio = memalloc_noio_save();
	bool more = false;

	mutex_lock(&engine->mutex);
	list_for_each_entry(origin, &engine->store.origins, list)
		more |= cow_sweep(origin, 128);
	mutex_unlock(&engine->mutex);
	memalloc_noio_restore(noio);
	return more;
}

static void sweep_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(work, struct cow_engine, sweep_work);

	while (sweep_some(engine))
		cond_resched();
	cow_engine_kick(engine);
}

/* Snapshots were deleted: look for what is dead now. */
void cow_engine_swept(struct cow_engine *engine)
{
	queue_work(engine->control_wq, &engine->sweep_work);
}

/* ------------------------------------------------------------------- life --- */

/* cow_engines_mutex held. */
struct cow_engine *cow_engine_find(struct mapped_device *md)
{
	struct cow_engine *engine;

	list_for_each_entry(engine, &cow_engines, list)
		if (engine->md == md)
			return engine;
	return NULL;
}

/* The engine whose store is on this device. cow_engines_mutex held. */
struct cow_engine *cow_engine_of_device(struct block_device *bdev)
{
	struct cow_engine *engine;

	list_for_each_entry(engine, &cow_engines, list)
		if (engine->device.bdev == bdev)
			return engine;
	return NULL;
}

/* The engine of this store, on whatever device. cow_engines_mutex held. */
struct cow_engine *cow_engine_of_uuid(const u8 *uuid)
{
	struct cow_engine *engine;

	list_for_each_entry(engine, &cow_engines, list)
		if (!memcmp(engine->store.super.uuid, uuid, COWSNAP_UUID_SIZE))
			return engine;
	return NULL;
}

static struct cow_engine *engine_alloc(struct mapped_device *md)
{
	struct cow_engine *engine = kvzalloc(sizeof(*engine), GFP_KERNEL);

	if (!engine)
		return NULL;
	engine->md = md;
	mutex_init(&engine->create_mutex);
	mutex_init(&engine->control);
	mutex_init(&engine->mutex);
	mutex_init(&engine->bound_mutex);
	spin_lock_init(&engine->view);
	spin_lock_init(&engine->queue_lock);
	spin_lock_init(&engine->event_lock);
	INIT_LIST_HEAD(&engine->done);
	INIT_LIST_HEAD(&engine->bios);
	init_waitqueue_head(&engine->idle);
	INIT_WORK(&engine->work, engine_work);
	INIT_WORK(&engine->event_work, event_work);
	INIT_WORK(&engine->sweep_work, sweep_work);
	INIT_DELAYED_WORK(&engine->mark_work, mark_work);
	INIT_DELAYED_WORK(&engine->drop_work, drop_work);
	engine->full_wait_ms = COWSNAP_FULL_WAIT_DEFAULT_MS;
	cow_store_init(&engine->store, &cow_kernel_ops, engine);
	return engine;
}

static void engine_free(struct cow_engine *engine)
{
	if (engine->wq)
		destroy_workqueue(engine->wq);
	if (engine->slow_wq)
		destroy_workqueue(engine->slow_wq);
	if (engine->control_wq)
		destroy_workqueue(engine->control_wq);
	cow_loss_exit(engine);
	cow_io_exit(engine);
	cow_bdev_close(&engine->device);
	kvfree(engine);
}

/* cow_engines_mutex held. */
static int open_store(struct cow_engine *engine, u64 length_sectors, u32 segment_blocks, char *why)
{
	u64 blocks = length_sectors / COWSNAP_BLOCK_SECTORS;
	uuid_t uuid;
	int r = cow_store_probe(&engine->store, blocks, why);

	if (r < 0)
		return r;
	if (!r && cow_engine_of_uuid(engine->store.super.uuid)) {
		snprintf(why, COW_WHY_BYTES,
			 "the store %pUb is active already, on another device: this one is a copy of it, or stands on it",
			 engine->store.super.uuid);
		return -EBUSY;
	}
	if (r == 1) {
		generate_random_uuid(uuid.b);
		r = cow_store_format(&engine->store, blocks, segment_blocks, uuid.b, why);
		if (r)
			return r;
	}
	cow_read_ahead_begin(engine);
	r = cow_store_open(&engine->store, why);
	cow_read_ahead_end(engine);
	return r;
}

static bool engine_idle(struct cow_engine *engine)
{
	bool idle;

	mutex_lock(&engine->mutex);
	idle = cow_store_idle(&engine->store);
	mutex_unlock(&engine->mutex);
	return idle && !have_work(engine);
}

/*
 * No I/O is under way and nobody kicks it: afterwards neither the worker nor the
 * marks run, nor will. Each of them may have started the other.
 */
static void engine_quiesce(struct cow_engine *engine)
{
	bool busy;

	do {
		busy = cancel_delayed_work_sync(&engine->mark_work);
		busy |= flush_work(&engine->work);
	} while (busy);
}

/* No target is left, so no bio is either: close all segments and let go. */
static void engine_stop(struct cow_engine *engine)
{
	/* it may have the sweeping begun */
	cancel_delayed_work_sync(&engine->drop_work);
	cancel_work_sync(&engine->sweep_work);
	cow_loss_no_wait(engine);
	mutex_lock(&engine->mutex);
	cow_store_settle(&engine->store);
	mutex_unlock(&engine->mutex);
	do {
		cow_engine_kick(engine);
		flush_workqueue(engine->wq);
		if (engine_idle(engine))
			break;
		usleep_range(500, 1000);
	} while (true);
	flush_workqueue(engine->slow_wq);
	cow_loss_no_wait(engine);
	engine_quiesce(engine);
	cancel_work_sync(&engine->event_work);
	cow_store_destroy(&engine->store);
	engine_free(engine);
}

/*
 * A store on @bdev for the cow-store device @md; formatted when it is blank.
 * cow_engines_mutex held. One reference for the caller, or an ERR_PTR and @why.
 */
struct cow_engine *cow_engine_make(struct mapped_device *md, struct block_device *bdev,
				   u64 length_sectors, u32 segment_blocks, char *why)
{
	struct cow_engine *engine = engine_alloc(md);
	int r = -ENOMEM;

	strscpy(why, "no memory", COW_WHY_BYTES);
	if (!engine)
		return ERR_PTR(r);
	r = cow_io_init(engine);
	if (!r)
		r = cow_loss_init(engine);
	if (r)
		goto bad;
	r = -ENOMEM;
	/*
	 * Not with a high priority: the worker would come before whoever writes for each single
	 * write, and no batch would have more than one.
	 */
	engine->wq = alloc_workqueue("cowsnap", WQ_MEM_RECLAIM | WQ_UNBOUND, 1);
	engine->slow_wq = alloc_workqueue("cowsnap_slow", WQ_MEM_RECLAIM | WQ_UNBOUND, 64);
	engine->control_wq = alloc_workqueue("cowsnap_control", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!engine->wq || !engine->slow_wq || !engine->control_wq)
		goto bad;
	r = cow_bdev_open(&engine->device, bdev->bd_dev);
	if (r) {
		snprintf(why, COW_WHY_BYTES, "the device cannot be opened (%d)", r);
		goto bad;
	}
	r = open_store(engine, length_sectors, segment_blocks, why);
	if (r) {
		/* what could not be written has kicked the worker */
		cow_loss_no_wait(engine);
		engine_quiesce(engine);
		cow_store_destroy(&engine->store);
		goto bad;
	}
	r = cow_loss_apply(engine, why);
	if (r) {
		engine_stop(engine);
		return ERR_PTR(r);
	}
	engine->references = 1;
	list_add_tail(&engine->list, &cow_engines);
	cow_engine_kick(engine);
	return engine;
bad:
	engine_free(engine);
	return ERR_PTR(r);
}

/* cow_engines_mutex held. */
void cow_engine_get(struct cow_engine *engine)
{
	engine->references++;
}

/* cow_engines_mutex held. */
void cow_engine_put(struct cow_engine *engine)
{
	if (--engine->references)
		return;
	list_del(&engine->list);
	engine_stop(engine);
}
