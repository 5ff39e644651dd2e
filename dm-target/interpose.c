// SPDX-License-Identifier: GPL-2.0-only
/*
 * In front of a device that is in use. The device stays as it is: its owner, its
 * operations, its queue and its openers are not touched. Writes to it are taken at
 * the entry of submit_bio_noacct(), preserved like those to a stacked origin, and
 * sent on as clones. Reads are let pass. Nothing of a device is redirected, and
 * neither function is hooked, while no origin is interposed.
 *
 *
 * What happens to a write
 * -----------------------
 *
 * The hook (interpose-hook.c) looks at each bio that enters submit_bio_noacct(). A
 * write to sectors of an armed interposer, that is not marked, is "taken": it does not
 * go on. A clone of it, from a bio_set of the interposer's own, does, at once or when all
 * its blocks are preserved, and enters submit_bio_noacct() again. The clone is marked
 * by its bi_pool: with the interposer, its disk and its order. The write ends when its
 * clone has ended.
 *
 * 1. No write is taken twice. A marked bio for the same disk passes its own
 *    interposer. The mark stays when bios are split: block core, MD and DM allocate the
 *    front part from their own bio_sets and handle it in place; the remainder, which
 *    they submit again, is the bio that was split. It stays when DM defers a bio and
 *    submits it again, when NVMe multipath sends it to another path and back, and when
 *    blk-throttle held it. Where DM requeues a part of a split bio, it makes a new
 *    clone of that part, from a bio_set of its own, and chains it to the bio: the mark of
 *    what a bio is chained to is its own. A caller's address would not tell all that.
 * 2. No write is missed because of a mark of another level. A driver that sends the
 *    very bio on to a device of its own (MD's linear and raid0, NVMe multipath) changes
 *    its disk, and the mark is for a disk: if that one is interposed, too, it is taken
 *    there. Clones of stacked drivers come from their bio_sets and are not marked.
 * 3. Partitions and whole disks. Interposers are found by disk and by sectors of the
 *    disk, whether block core has remapped the bio (a remainder, a throttled bio) or not
 *    yet. A write that several of them want, of a disk and of its partition, goes
 *    through them by their order: each clone asks for a greater one than its own.
 *
 *
 * Attaching: why no write is missed
 * ---------------------------------
 *
 * Arming makes the interposer visible to the hook. From then on all writes are taken.
 * No write has to wait for that, no file system has to be frozen. But some may have
 * passed the hook before, or its place before there was a hook, and not have ended:
 * unseen. No snapshot may begin before they have. They are:
 *
 * a. On their way through submit_bio_noacct(), between the hook and the moment when
 *    current->bio_list is set: there nothing sleeps, at most it is preempted.
 *    synchronize_rcu_tasks() waits for every task to give up the CPU by itself, or to be
 *    asleep already, so none is left there.
 * b. On some task's current->bio_list, or in the hands of a task that sleeps below
 *    submit_bio_noacct(): in the entry of a frozen queue, for a tag, for memory to split
 *    a bio, in a stacked driver, for any other bio of its list. All these tasks have
 *    current->bio_list set, for as long as they are in there. So every task that has it
 *    set after a. is watched until it has been seen without, once.
 *    (cow_wait_for_submitters(); whoever does not get out makes attaching fail.)
 * c. Below: counted by the queue of a device with requests (those in a task's plug are,
 *    too), by DM in its mapped device, by other drivers in the statistics. This is
 *    waited for last, when nothing can be added to it any more (cow_drain_below()):
 *    the queue is frozen and let go; DM's mapped device is suspended and resumed
 *    inside the kernel; for the others the gate is closed until no write is in flight.
 *    Those that do not count all of it are refused: drivers that count nothing, and
 *    NVMe with several paths, which does not before its path starts the request. MD on
 *    6.1 counts a write with a preceding flush only when the flush has ended, and lets
 *    its submitter go on before. It has one of these at a time: so one more flush is sent
 *    after it, and waited for.
 * d. Held by blk-throttle: they come back by submit_bio_noacct_nocheck(), behind the
 *    hook. That function is hooked, too: a write that is not marked is taken there.
 *    Clones that were throttled have their mark.
 * e. Deferred by a suspended mapped device, requeued by NVMe multipath, punted to a
 *    rescuer or to a cgroup's worker: all these are submitted again, and taken.
 *
 * Submitters of all kinds are tasks: workqueues and kernel threads are, too.
 *
 *
 * The gate
 * --------
 *
 * A snapshot begins when no write that was taken before is under way. The gate of an
 * origin is closed (interposer->passing is killed: no more references to be had), and
 * what was taken is waited for: for its end, not for its submission. Meanwhile writes
 * are put on a list; nobody sleeps at the gate, so that it does not matter whether
 * current->bio_list is set, whether the bio is REQ_NOWAIT, or what its submitter holds.
 * When the gate opens, a worker takes them. It is not closed for long: if the writes do
 * not end within COW_INTERPOSE_WAIT_MS, it is opened again and the caller fails.
 *
 * Why that does not deadlock:
 *
 * - Freezing a file system writes, and so needs the gate: it is done before the gate is
 *   closed (create.c).
 * - Gates are closed one after the other, those of devices stacked on others first, and
 *   for one disk those of lower order first: writes taken by an upper one can end,
 *   because the lower one is still open. (create.c sorts; should it not know that one
 *   is stacked on another, the time limit opens both.)
 * - What ends the taken ones does not pass this gate: reads for preserving are not
 *   taken; the store is not on the origin; the clones are marked.
 * - Waiting for what is below (c.) does not need the gate: the queue is frozen with the
 *   gate open, writes block in its entry then as they do for any freeze, with their
 *   clones; with the gate closed only statistics are waited for.
 * - A clone that needs memory is made without waiting in its submitter's context; if
 *   there is none, the worker makes it from a reserve. The worker has no bio_list: what
 *   it submits is under way when it is back, or waits to be preserved, which needs nothing
 *   of the worker's, so the reserve comes back, too. It is the interposer's own: a clone
 *   that waits at an interposer below cannot use up what that one needs to let it in.
 * - Submitting to one origin's device may wait for a write to another's, as to an array's
 *   member. What was preserved is not submitted by the engine's worker then, which that
 *   write needs (send.c).
 * - A write that waits for room in the store keeps the gate from closing; create.c waits
 *   for that first, and the policy for full stores ends it.
 * - A loop device whose file is on the origin: its worker writes to the file system, which
 *   may be frozen; then the loop device waits, as without this module. If it were
 *   the store, it would wait for itself: user space refuses that.
 *
 * REQ_NOWAIT: taking does not sleep; the clone keeps the flag, unless a worker submits
 * it, and what it gets the write gets.
 *
 * Polled I/O: drivers note in a bio (bi_cookie) where to poll for it, and would note it in
 * the clone, which nobody polls. So neither is polled (block core does the same to what
 * comes to a queue that cannot), and an interrupt ends them: a write that is polled is
 * freed in a way that 6.1 does not allow there. bio_poll() returns at once for it, and who
 * polls does so again until passing_end() has ended it.
 *
 * Plugged requests: a plug is behind the hook and collects requests, of clones as of other
 * bios. A request in a plug holds a reference to its queue, and what MD puts there it has
 * counted: those that were let pass before arming are waited for in c. A clone in a plug
 * keeps the gate from getting empty. Neither takes long: a task submits what is in its plug
 * when it is through, and before it sleeps. Who waits here has no plug, nor has let_in().
 *
 *
 * When something fails or is refused
 * ----------------------------------
 *
 * - Freezing a file system fails: no gate is closed yet and no mapped device suspended.
 *   create.c makes no snapshot and thaws those that it had frozen before. One that
 *   someone else has frozen (-EBUSY) counts as frozen and is left as it is; should he
 *   thaw it before the gate is closed, the snapshot is crash consistent. A freeze that does
 *   not end waits for the file system's own writes; the gate that these pass is open.
 * - Anything fails behind that: gates are opened and mapped devices resumed before the
 *   file systems are thawed, for thawing writes.
 * - The queue's freeze does not end in time: in any case it is taken back before anything
 *   else is done, so who sleeps in the queue's entry goes on. Freezes are counted: that of
 *   another, who changes the elevator, stays. Then arm() disarms, as for a submitter who
 *   does not get out and a driver's count that does not come to nothing: writes were taken
 *   meanwhile, so that is detaching as below, with its wait that has no limit. If the device
 *   does not end what it has, attaching fails when it does, and the device's users wait as
 *   they would without this module. Suspending a mapped device cannot fail; one that was
 *   suspended already has nothing under way, and what it has deferred is e.
 * - A gate that a create has closed does not get empty in time: it is opened, and what it
 *   held is let in.
 * - The own mapped device is suspended, removed or gets another table while there is a create:
 *   its gate is closed when the create has ended, which freezes and thaws by writing
 *   through it, and until it is resumed there is no other create.
 *
 * In all these cases a write that was taken ends with its clone, and one that was held
 * is let in or submitted as it is, once.
 *
 *
 * Detaching
 * ---------
 *
 * The gate is closed and what was taken is waited for, without a limit: those
 * clones would end in freed memory. Then the interposer is taken from the table,
 * synchronize_rcu() waits for those who have found it, and what the gate held is submitted
 * as it is. With the last one the hooks go: after they are unregistered,
 * synchronize_rcu_tasks() waits for those on their way to cow_interpose_take(),
 * synchronize_srcu() for those inside, and synchronize_rcu_tasks() again for those
 * on their last instructions out of it.
 *
 *
 * Unloading
 * ---------
 *
 * device-mapper holds a reference to the module for each target in a table, live or not, from
 * before its constructor until after its destructor. An interposed cow-origin has the hooks
 * for just that time: its constructor gets them, or else fails, its destructor disarms
 * the interposer and then puts them. What is left of an attachment then, its memory, is
 * kept by cow-snaps, which are targets, too. So there are neither hooks nor interposers when
 * cow_exit() runs, and none can come: unloading is refused before (-EBUSY), also while
 * attaching or detaching is under way.
 *
 * cow_interpose_exit() relies on that, and on what detaching has waited for: nobody is on
 * the way to the hooks, inside, or on the way out, or on the last instructions of
 * passing_end(), whose reference was the last: in an interrupt, synchronize_rcu() has waited
 * for it, in a task synchronize_rcu_tasks(), as the last hooks are put after all gates were
 * found empty. Each interposer's work was cancelled, and its workqueue is gone. What is
 * left to free are the lists of functions that ftrace keeps for the hooks.
 *
 * Locks: gate_mutex, inside the own mapped device's suspend_lock; gate_lock innermost.
 * Neither engine->control nor engine->mutex is held when this waits.
 */
#include <linux/blk-integrity.h>
#include <linux/delay.h>
#include <linux/hashtable.h>
#include <linux/module.h>
#include <linux/part_stat.h>
#include <linux/sched/mm.h>

#include "interpose.h"

#define INTERPOSER_BITS 6
/* Of each interposer; one would do, some more keep its worker busy. */
#define RESERVED_CLONES 16

/* A write that was taken; in front of its clone. */
struct passing {
	struct cow_bio wait;
	struct cow_interposer *interposer;
	struct bio *original;
	struct bio clone; /* last */
};

/* Armed interposers by their disk. Changed under interposers_lock, read under RCU. */
static DEFINE_HASHTABLE(interposers, INTERPOSER_BITS);
static DEFINE_SPINLOCK(interposers_lock);
static u64 last_order;
static bio_end_io_t *chain_end;

static int interpose_fail;
module_param(interpose_fail, int, 0600);
MODULE_PARM_DESC(interpose_fail, "for tests: attaching by interposing fails at this step, once");

bool cow_interpose_fails(enum cow_interpose_step step)
{
	return cmpxchg(&interpose_fail, step, COW_STEP_NONE) == step;
}

/* --------------------------------------------------------------- finding --- */

static struct passing *passing_of(struct bio *clone)
{
	return container_of(clone, struct passing, clone);
}

/* Of those whose clone this is: an interposer of that disk. 0: it is none's. */
static u64 order_of_clone(const struct bio *bio, const struct gendisk *disk)
{
	struct cow_interposer *interposer;

	if (!bio->bi_pool)
		return 0;
	hash_for_each_possible_rcu(interposers, interposer, node, (unsigned long)disk) {
		if (interposer->disk == disk && bio->bi_pool == &interposer->bios)
			return interposer->order;
	}
	return 0;
}

/*
 * Interposers of the bio's disk of this order or a lower one have had it, or what it is
 * chained to: that cannot end before it. The caller is in an RCU read section: an
 * interposer goes when it has no clones any more.
 */
static u64 mark_of(const struct bio *bio)
{
	const struct gendisk *disk = bio->bi_bdev->bd_disk;
	u64 order = order_of_clone(bio, disk);

	while (!order && bio->bi_end_io == chain_end) {
		bio = bio->bi_private;
		order = order_of_clone(bio, disk);
	}
	return order;
}

/* The function that ends chained bios has no name outside of block core. */
static void learn_chain_end(void)
{
	struct bio parent, bio;

	bio_init(&parent, NULL, NULL, 0, 0);
	bio_init(&bio, NULL, NULL, 0, 0);
	bio_chain(&bio, &parent);
	chain_end = bio.bi_end_io;
	bio_uninit(&bio);
	bio_uninit(&parent);
}

/* Where the bio begins on its disk. */
static sector_t disk_sector(struct bio *bio)
{
	if (bio_flagged(bio, BIO_REMAPPED))
		return bio->bi_iter.bi_sector;
	return bio->bi_iter.bi_sector + bio->bi_bdev->bd_start_sect;
}

/* Does it write to the origin? (A flush has no sectors.) */
static bool overlaps(const struct cow_interposer *interposer, struct bio *bio)
{
	sector_t begin = disk_sector(bio), end = begin + bio_sectors(bio);

	return begin < end && begin < interposer->first + interposer->sectors &&
	       end > interposer->first;
}

/* ---------------------------------------------------------------- taking --- */

/* The device would refuse it: it must get to see it as it is. */
static bool is_unsupported(struct bio *bio)
{
	switch (bio_op(bio)) {
	case REQ_OP_DISCARD:
		return !bdev_max_discard_sectors(bio->bi_bdev);
	case REQ_OP_SECURE_ERASE:
		return !bdev_max_secure_erase_sectors(bio->bi_bdev);
	case REQ_OP_WRITE_ZEROES:
		return !bdev_write_zeroes_sectors(bio->bi_bdev);
	default:
		return false;
	}
}

/*
 * The next interposer that wants this bio, a write, or NULL. The caller is in an RCU
 * read section. Any context.
 */
static struct cow_interposer *interposer_of(struct bio *bio)
{
	struct gendisk *disk = bio->bi_bdev->bd_disk;
	struct cow_interposer *interposer, *found = NULL;
	u64 mark = mark_of(bio);

	hash_for_each_possible_rcu(interposers, interposer, node, (unsigned long)disk) {
		if (interposer->disk == disk && overlaps(interposer, bio) &&
		    interposer->order > mark &&
		    (!found || interposer->order < found->order))
			found = interposer;
	}
	return found && !is_unsupported(bio) ? found : NULL;
}

/*
 * A device that has become smaller and larger again may have other contents behind where
 * its end was: LVM writes nothing when it changes what a volume stands on. So reads are
 * looked at, too: what scans a device that has changed reads it. The caller is in an RCU
 * read section.
 */
static void look_at_size(struct bio *bio)
{
	struct gendisk *disk = bio->bi_bdev->bd_disk;
	struct cow_interposer *interposer;

	hash_for_each_possible_rcu(interposers, interposer, node, (unsigned long)disk) {
		if (interposer->disk == disk)
			cow_guard_look(interposer->guard);
	}
}

/*
 * What the hooks ask: is it a write that an interposer wants? Any context, also inside
 * tracing: it calls nothing that is hooked or sleeps.
 */
notrace bool cow_interpose_wants(struct bio *bio)
{
	unsigned long disk = (unsigned long)bio->bi_bdev->bd_disk;
	bool wants;

	/* for nearly all other disks that is all it takes */
	if (hlist_empty(&interposers[hash_min(disk, HASH_BITS(interposers))]))
		return false;
	rcu_read_lock();
	look_at_size(bio);
	wants = op_is_write(bio_op(bio)) && interposer_of(bio);
	rcu_read_unlock();
	return wants;
}

static void passing_end(struct bio *clone)
{
	struct passing *passing = passing_of(clone);
	struct cow_interposer *interposer = passing->interposer;
	struct bio *original = passing->original;

	if (clone->bi_status)
		original->bi_status = clone->bi_status;
	bio_put(clone);
	bio_endio(original);
	percpu_ref_put(&interposer->passing);
}

/* The part of the bio that is the origin's, in its blocks. */
static void clip_to_origin(const struct cow_interposer *interposer, struct bio *bio,
			   u64 *block, u64 *length)
{
	sector_t begin = disk_sector(bio), end = begin + bio_sectors(bio);

	begin = max(begin, interposer->first) - interposer->first;
	end = min(end, interposer->first + interposer->sectors) - interposer->first;
	*block = begin / COWSNAP_BLOCK_SECTORS;
	*length = DIV_ROUND_UP_SECTOR_T(end, COWSNAP_BLOCK_SECTORS) - *block;
}

/* For the worker, which makes a clone for certain. */
static void put_off(struct cow_interposer *interposer, struct bio *bio)
{
	spin_lock(&interposer->gate_lock);
	bio_list_add(&interposer->held, bio);
	spin_unlock(&interposer->gate_lock);
	queue_work(interposer->wq, &interposer->let_in);
}

static struct passing *new_passing(struct cow_interposer *interposer, struct bio *bio,
				   bool may_wait)
{
	gfp_t gfp = may_wait ? GFP_NOIO : GFP_NOWAIT | __GFP_NOWARN;
	struct bio *clone = bio_alloc_clone(bio->bi_bdev, bio, gfp, &interposer->bios);
	struct passing *passing;

	if (!clone)
		return NULL;
	if (may_wait)
		clone->bi_opf &= ~REQ_NOWAIT;
	clone->bi_end_io = passing_end;
	passing = passing_of(clone);
	passing->interposer = interposer;
	passing->original = bio;
	return passing;
}

/* Where the bio begins, seen from the origin's first sector. */
static s64 origin_sector(const struct cow_interposer *interposer, struct bio *bio)
{
	return (s64)disk_sector(bio) - (s64)interposer->first;
}

static bool is_guarded(const struct cow_interposer *interposer, struct bio *bio)
{
	s64 begin = origin_sector(interposer, bio);

	return cow_guard_covers(interposer->guard, begin, begin + bio_sectors(bio));
}

static void make_wait(struct passing *passing, u64 block, u64 length)
{
	struct cow_bio *wait = &passing->wait;

	memset(wait, 0, sizeof(*wait));
	wait->bio = &passing->clone;
	wait->kind = COW_BIO_ORIGIN;
	wait->origin = passing->interposer->origin;
	wait->waiter.block = block;
	wait->waiter.length = length;
}

static void preserve_first(struct passing *passing)
{
	/* the worker submits it, and the submitter is long gone */
	passing->clone.bi_opf &= ~REQ_NOWAIT;
	cow_engine_queue(passing->interposer->engine, &passing->wait);
}

/* Nobody is in front of the origin yet: what is written now is not counted as unseen. */
static void count_taken(struct cow_interposer *interposer, struct bio *bio)
{
	if (READ_ONCE(interposer->guard->state) == COW_GUARD_AWAY &&
	    (bio->bi_bdev == interposer->bdev || !bdev_is_partition(interposer->bdev)))
		atomic64_add(bio_sectors(bio), &interposer->guard->taken);
}

/* A write for which a reference is held. @may_wait: in the worker. */
static void pass(struct cow_interposer *interposer, struct bio *bio, bool may_wait)
{
	struct passing *passing;
	u64 block, length;
	bool may_pass;

	clip_to_origin(interposer, bio, &block, &length);
	may_pass = cow_origin_may_pass(interposer->origin, block, length);
	if (!may_pass && bio_op(bio) == REQ_OP_DISCARD) {
		/* a hint only: not worth a copy */
		bio_endio(bio);
		percpu_ref_put(&interposer->passing);
		return;
	}
	passing = new_passing(interposer, bio, may_wait);
	if (!passing) {
		put_off(interposer, bio);
		percpu_ref_put(&interposer->passing);
		return;
	}
	count_taken(interposer, bio);
	if (unlikely(is_guarded(interposer, bio))) {
		make_wait(passing, block, length);
		cow_guard_write(interposer->guard, &passing->wait, origin_sector(interposer, bio));
	} else if (may_pass) {
		submit_bio_noacct(&passing->clone);
	} else {
		make_wait(passing, block, length);
		preserve_first(passing);
	}
}

enum gate {
	GATE_PASSED, /* with a reference */
	GATE_HELD, /* at the gate */
	GATE_AGAIN, /* look again: the gate has opened, or the interposer has gone */
};

static enum gate enter(struct cow_interposer *interposer, struct bio *bio)
{
	enum gate entered = GATE_AGAIN;

	if (percpu_ref_tryget_live(&interposer->passing))
		return GATE_PASSED;
	spin_lock(&interposer->gate_lock);
	if (interposer->closed && !interposer->gone) {
		bio_list_add(&interposer->held, bio);
		entered = GATE_HELD;
	}
	spin_unlock(&interposer->gate_lock);
	return entered;
}

static void take(struct bio *bio, bool may_wait)
{
	struct cow_interposer *interposer;
	enum gate entered = GATE_AGAIN;

	bio_clear_polled(bio);
	rcu_read_lock();
	while (entered == GATE_AGAIN) {
		interposer = interposer_of(bio);
		if (!interposer)
			break;
		entered = enter(interposer, bio);
		if (entered == GATE_AGAIN) {
			/* what makes it go away waits for us */
			rcu_read_unlock();
			cpu_relax();
			rcu_read_lock();
		}
	}
	rcu_read_unlock();
	if (entered == GATE_PASSED)
		pass(interposer, bio, may_wait);
	else if (entered == GATE_AGAIN)
		submit_bio_noacct(bio);
}

/*
 * What the hooks call in the place of the hooked function: process context, with
 * whatever the submitter holds. Does not sleep where that function would not.
 */
void cow_interpose_take(struct bio *bio)
{
	take(bio, false);
}

/* ------------------------------------------------------------------ gate --- */

static struct bio *pop_held(struct cow_interposer *interposer)
{
	struct bio *bio = NULL;

	spin_lock(&interposer->gate_lock);
	if (!interposer->closed || interposer->gone)
		bio = bio_list_pop(&interposer->held);
	spin_unlock(&interposer->gate_lock);
	return bio;
}

/* The worker: what was held, and what found no memory. */
static void let_in(struct work_struct *work)
{
	struct cow_interposer *interposer = container_of(work, struct cow_interposer, let_in);
	unsigned int noio = memalloc_noio_save();
	struct bio *bio;

	while ((bio = pop_held(interposer)))
		take(bio, true);
	memalloc_noio_restore(noio);
}

static void all_passed(struct percpu_ref *ref)
{
	struct cow_interposer *interposer = container_of(ref, struct cow_interposer, passing);

	wake_up_all(&interposer->drained);
}

/* gate_mutex held. */
static void close_gate(struct cow_interposer *interposer)
{
	if (interposer->closers++)
		return;
	spin_lock(&interposer->gate_lock);
	interposer->closed = true;
	spin_unlock(&interposer->gate_lock);
	percpu_ref_kill(&interposer->passing);
}

/* gate_mutex held. */
static void open_gate(struct cow_interposer *interposer)
{
	if (--interposer->closers)
		return;
	percpu_ref_resurrect(&interposer->passing);
	spin_lock(&interposer->gate_lock);
	interposer->closed = false;
	spin_unlock(&interposer->gate_lock);
	queue_work(interposer->wq, &interposer->let_in);
}

static bool all_ended(struct cow_interposer *interposer, unsigned int wait_ms)
{
	return wait_event_timeout(interposer->drained, percpu_ref_is_zero(&interposer->passing),
				  msecs_to_jiffies(wait_ms));
}

/*
 * So that closing the gate does not wait for a grace period: to be called some time
 * before it, and cow_gate_relax() afterwards. May sleep.
 */
void cow_gate_prepare(struct cow_interposer *interposer)
{
	percpu_ref_switch_to_atomic_sync(&interposer->passing);
}

void cow_gate_relax(struct cow_interposer *interposer)
{
	percpu_ref_switch_to_percpu(&interposer->passing);
}

/*
 * Close the gate and wait for what was taken: for a create, which holds
 * engine->create_mutex and calls cow_gate_open() when this returns 0. -EBUSY when it
 * does not end within @wait_ms, -ENODEV when writes are not taken. May sleep.
 */
int cow_gate_close(struct cow_interposer *interposer, unsigned int wait_ms)
{
	mutex_lock_nest_lock(&interposer->gate_mutex, &interposer->engine->create_mutex);
	if (!interposer->armed) {
		mutex_unlock(&interposer->gate_mutex);
		return -ENODEV;
	}
	close_gate(interposer);
	if (all_ended(interposer, wait_ms))
		return 0;
	cow_gate_open(interposer);
	return -EBUSY;
}

void cow_gate_open(struct cow_interposer *interposer)
{
	open_gate(interposer);
	mutex_unlock(&interposer->gate_mutex);
}

/* The own mapped device is suspended: writes wait, as they would for a stacked one. */
void cow_interposer_suspend(struct cow_interposer *interposer)
{
	mutex_lock(&interposer->gate_mutex);
	if (interposer->armed && !interposer->suspended) {
		interposer->suspended = true;
		close_gate(interposer);
	}
	mutex_unlock(&interposer->gate_mutex);
	if (READ_ONCE(interposer->suspended) && !all_ended(interposer, COW_INTERPOSE_WAIT_MS))
		DMWARN("origin %u: suspended, but writes to its device do not end",
		       interposer->origin->id);
}

void cow_interposer_resume(struct cow_interposer *interposer)
{
	mutex_lock(&interposer->gate_mutex);
	if (interposer->suspended) {
		interposer->suspended = false;
		open_gate(interposer);
	}
	mutex_unlock(&interposer->gate_mutex);
}

/*
 * Call @look while nothing that was taken is under way and nothing is taken. -EBUSY when
 * that does not come to be; -ENODEV when writes are not taken. May sleep; @look may not.
 */
int cow_interposer_still(struct cow_interposer *interposer, void (*look)(void *context),
			 void *context)
{
	int r = -ENODEV;

	mutex_lock(&interposer->gate_mutex);
	if (interposer->armed) {
		close_gate(interposer);
		r = all_ended(interposer, COW_INTERPOSE_WAIT_MS) ? 0 : -EBUSY;
		if (!r)
			look(context);
		open_gate(interposer);
	}
	mutex_unlock(&interposer->gate_mutex);
	return r;
}

/* Of one that is suspended: have all writes ended? */
bool cow_interposer_is_still(struct cow_interposer *interposer)
{
	return READ_ONCE(interposer->suspended) && percpu_ref_is_zero(&interposer->passing);
}

/* ----------------------------------------------------- attaching, detaching --- */

static bool is_mapped(struct block_device *bdev)
{
	struct mapped_device *md = dm_get_md(disk_devt(bdev->bd_disk));

	if (md)
		dm_put(md);
	return md;
}

/*
 * Does the driver count? What its queue says is no proof: MD's linear on 6.1 does not.
 * When it does, a read is counted at its end. May sleep.
 */
static bool counts_reads(struct block_device *bdev)
{
	u64 before = part_stat_read(bdev, ios[STAT_READ]);
	void *buffer = kmalloc(COWSNAP_BLOCK_BYTES, GFP_KERNEL);

	if (!buffer)
		return false;
	cow_io_sync(bdev, 0, buffer, bdev_logical_block_size(bdev), REQ_OP_READ);
	kfree(buffer);
	return part_stat_read(bdev, ios[STAT_READ]) != before;
}

/* Why no origin can be interposed on this device, or NULL. May sleep. */
const char *cow_interpose_refusal(struct block_device *bdev)
{
	struct request_queue *q = bdev_get_queue(bdev);

	if (bdev_is_zoned(bdev))
		return "A zoned device cannot be an origin";
	if (blk_queue_dax(q))
		return "A device with DAX cannot be interposed: writes pass by";
	if (bdev_get_integrity(bdev))
		return "A device with integrity metadata cannot be interposed";
	if (cow_has_inline_encryption(q))
		return "A device with inline encryption cannot be interposed";
	if (cow_has_rw_page(bdev))
		return "A device with rw_page cannot be interposed: writes pass by";
	if (queue_is_mq(q) || is_mapped(bdev))
		return NULL;
	if (cow_is_nvme_multipath(bdev))
		return "NVMe with several paths cannot be interposed: not all is counted";
	if (!blk_queue_io_stat(q))
		return "The device must count what is in flight: write 1 to its queue/iostats";
	if (!counts_reads(bdev))
		return "A device whose driver counts nothing cannot be interposed";
	return NULL;
}

static struct cow_interposer *interposer_alloc(void)
{
	struct cow_interposer *interposer = kzalloc(sizeof(*interposer), GFP_KERNEL);

	if (!interposer)
		return NULL;
	if (bioset_init(&interposer->bios, RESERVED_CLONES, offsetof(struct passing, clone), 0))
		goto free;
	if (percpu_ref_init(&interposer->passing, all_passed, PERCPU_REF_ALLOW_REINIT,
			    GFP_KERNEL))
		goto free_bios;
	interposer->wq = alloc_workqueue("cowsnap_gate", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!interposer->wq)
		goto free_ref;
	init_waitqueue_head(&interposer->drained);
	mutex_init(&interposer->gate_mutex);
	spin_lock_init(&interposer->gate_lock);
	bio_list_init(&interposer->held);
	INIT_WORK(&interposer->let_in, let_in);
	return interposer;

free_ref:
	percpu_ref_exit(&interposer->passing);
free_bios:
	bioset_exit(&interposer->bios);
free:
	kfree(interposer);
	return NULL;
}

/*
 * An interposer that is not armed yet, for the guard's device, which the caller keeps
 * open; he has the hooks, too. Of no origin yet. NULL without memory. May sleep.
 */
struct cow_interposer *cow_interposer_make(struct cow_guard *guard)
{
	struct block_device *bdev = guard->bdev;
	struct cow_interposer *interposer;

	interposer = cow_interpose_fails(COW_STEP_MEMORY) ? NULL : interposer_alloc();
	if (!interposer)
		return NULL;
	interposer->engine = guard->engine;
	interposer->guard = guard;
	interposer->bdev = bdev;
	interposer->disk = bdev->bd_disk;
	interposer->first = bdev->bd_start_sect;
	return interposer;
}

/* Of one that has no origin yet. */
void cow_interposer_adopt(struct cow_interposer *interposer, struct cow_origin *origin)
{
	interposer->origin = origin;
	interposer->sectors = origin->size_sectors;
}

static int publish(struct cow_interposer *interposer)
{
	struct cow_interposer *other;
	int r = 0;

	spin_lock(&interposers_lock);
	hash_for_each_possible(interposers, other, node, (unsigned long)interposer->disk) {
		if (other->bdev == interposer->bdev)
			r = -EBUSY;
	}
	if (!r) {
		interposer->order = ++last_order;
		hash_add_rcu(interposers, &interposer->node, (unsigned long)interposer->disk);
	}
	spin_unlock(&interposers_lock);
	if (r)
		DMERR("origin %u: another origin is attached to its device",
		      interposer->origin->id);
	return r;
}

/*
 * gate_mutex held. Afterwards no write is taken, none that was taken is under way, and
 * all that were held are on their way as they are.
 */
static void disarm(struct cow_interposer *interposer)
{
	struct bio *bio;

	close_gate(interposer);
	wait_event(interposer->drained, percpu_ref_is_zero(&interposer->passing));
	spin_lock(&interposers_lock);
	hash_del_rcu(&interposer->node);
	spin_unlock(&interposers_lock);
	spin_lock(&interposer->gate_lock);
	interposer->gone = true;
	spin_unlock(&interposer->gate_lock);
	synchronize_rcu();
	cancel_work_sync(&interposer->let_in);
	while ((bio = pop_held(interposer)))
		submit_bio_noacct(bio);
	interposer->armed = false;
}

static int arm(struct cow_interposer *interposer)
{
	int r = publish(interposer);

	if (r)
		return r;
	r = cow_interpose_fails(COW_STEP_ARMED) ? -EIO : cow_wait_for_submitters();
	if (!r)
		r = cow_interpose_fails(COW_STEP_SUBMITTERS) ? -EIO : cow_drain_below(interposer);
	if (!r && cow_interpose_fails(COW_STEP_DRAINED))
		r = -EIO;
	if (r)
		disarm(interposer);
	return r;
}

/*
 * From now on all writes are taken, and when it returns 0 none is under way that was
 * not. Does nothing when it is armed. An interposer whose arming has failed can only be
 * freed. May sleep, for as long as what is below takes.
 */
int cow_interposer_arm(struct cow_interposer *interposer)
{
	int r = 0;

	mutex_lock(&interposer->gate_mutex);
	if (interposer->gone) {
		r = -EIO;
	} else if (!interposer->armed) {
		r = arm(interposer);
		interposer->armed = !r;
	}
	mutex_unlock(&interposer->gate_mutex);
	return r;
}

bool cow_interposer_armed(const struct cow_interposer *interposer)
{
	return READ_ONCE(interposer->armed);
}

/* The device is as if there had never been one. May sleep, for as long as writes take. */
void cow_interposer_disarm(struct cow_interposer *interposer)
{
	mutex_lock(&interposer->gate_mutex);
	if (interposer->armed)
		disarm(interposer);
	mutex_unlock(&interposer->gate_mutex);
}

/* It is not armed. */
void cow_interposer_free(struct cow_interposer *interposer)
{
	destroy_workqueue(interposer->wq);
	percpu_ref_exit(&interposer->passing);
	bioset_exit(&interposer->bios);
	kfree(interposer);
}

/* While only the statistics tell what is in flight below. gate_mutex held. */
bool cow_gate_hold_still(struct cow_interposer *interposer,
			 bool (*is_still)(struct block_device *bdev))
{
	unsigned long end = jiffies + msecs_to_jiffies(COW_INTERPOSE_WAIT_MS);
	bool still;

	close_gate(interposer);
	while (!(still = is_still(interposer->bdev)) && time_before(jiffies, end))
		usleep_range(500, 1000);
	open_gate(interposer);
	return still;
}

void cow_interpose_init(void)
{
	learn_chain_end();
}

void cow_interpose_exit(void)
{
	cow_hook_exit();
}
