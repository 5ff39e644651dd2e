// SPDX-License-Identifier: GPL-2.0-only
/*
 * Waiting for what was submitted to a device before it was interposed: first for
 * those who submit it, then for what has been submitted. The steps a. to c. at the top
 * of interpose.c.
 */
#include <linux/blk-mq.h>
#include <linux/delay.h>
#include <linux/lockdep.h>
#include <linux/part_stat.h>
#include <linux/sched/signal.h>
#include <linux/sched/task.h>

#include "interpose.h"

/* ------------------------------------------------------------ submitters --- */

struct submitters {
	struct task_struct **task;
	u32 count, room;
	bool more;
};

static bool is_submitting(const struct task_struct *task)
{
	return READ_ONCE(task->bio_list);
}

/* Those who are inside submit_bio_noacct() now; each is referenced. */
static void find_submitters(struct submitters *submitters)
{
	struct task_struct *process, *task;

	submitters->count = 0;
	submitters->more = false;
	rcu_read_lock();
	for_each_process_thread(process, task) {
		if (task == current || !is_submitting(task))
			continue;
		if (submitters->count == submitters->room) {
			submitters->more = true;
			break;
		}
		submitters->task[submitters->count++] = get_task_struct(task);
	}
	rcu_read_unlock();
}

static void forget_submitters(struct submitters *submitters)
{
	while (submitters->count)
		put_task_struct(submitters->task[--submitters->count]);
}

/* An array with room for all of them. */
static int list_submitters(struct submitters *submitters)
{
	submitters->room = 128;
	for (;;) {
		submitters->task = kvcalloc(submitters->room, sizeof(void *), GFP_KERNEL);
		if (!submitters->task)
			return -ENOMEM;
		find_submitters(submitters);
		if (!submitters->more)
			return 0;
		forget_submitters(submitters);
		kvfree(submitters->task);
		submitters->room *= 4;
	}
}

static int wait_until_out(struct task_struct *task, unsigned long end)
{
	while (is_submitting(task)) {
		if (fatal_signal_pending(current))
			return -EINTR;
		if (time_after(jiffies, end)) {
			DMERR("interpose: %s (%d) is held up while it submits I/O", task->comm,
			      task_pid_nr(task));
			return -EBUSY;
		}
		usleep_range(200, 400);
	}
	return 0;
}

int cow_wait_for_submitters(void)
{
	unsigned long end = jiffies + msecs_to_jiffies(COW_INTERPOSE_WAIT_MS);
	struct submitters submitters;
	u32 i;
	int r;

	synchronize_rcu_tasks();
	r = list_submitters(&submitters);
	if (r)
		return r;
	for (i = 0; i < submitters.count && !r; i++)
		r = wait_until_out(submitters.task[i], end);
	forget_submitters(&submitters);
	kvfree(submitters.task);
	return r;
}

/* ----------------------------------------------------------------- below --- */

/* A freeze waits until all requests have ended; new ones wait in the queue's entry. */
static int drain_queue(struct request_queue *q)
{
	int left;

	blk_freeze_queue_start(q);
	left = blk_mq_freeze_queue_wait_timeout(q, msecs_to_jiffies(COW_INTERPOSE_WAIT_MS));
	blk_mq_unfreeze_queue(q);
	return left ? 0 : -EBUSY;
}

/*
 * lockdep takes the locks of all mapped devices for one: the own one's suspend_lock is
 * held, and the device's is another.
 */
static void drain_mapped(struct mapped_device *md)
{
	lockdep_off();
	dm_internal_suspend_noflush(md);
	dm_internal_resume(md);
	lockdep_on();
}

/* Of one disk; it begins at 0 itself. */
static bool overlap(const struct block_device *a, const struct block_device *b)
{
	return a->bd_start_sect < b->bd_start_sect + b->bd_nr_sectors &&
	       b->bd_start_sect < a->bd_start_sect + a->bd_nr_sectors;
}

static u64 writes_ended(struct block_device *part)
{
	return part_stat_read(part, ios[STAT_WRITE]) + part_stat_read(part, ios[STAT_DISCARD]);
}

/*
 * Counted for the whole disk and for its partitions apart. One CPU is looked at after the
 * other: of a write that begins on one that was looked at, and ends on one that was not,
 * only the end is seen, which would hide another write. That it has ended is counted
 * before it is in flight no longer, so such a look is told by that, and says nothing.
 */
static bool no_write_in_flight(struct block_device *bdev)
{
	struct gendisk *disk = bdev->bd_disk;
	struct block_device *part;
	u64 ended = 0;
	unsigned long index;
	long in_flight = 0;
	int cpu;

	rcu_read_lock();
	xa_for_each(&disk->part_tbl, index, part)
		ended += overlap(part, bdev) ? writes_ended(part) : 0;
	smp_rmb(); /* before what is in flight */
	xa_for_each(&disk->part_tbl, index, part) {
		/* those to other partitions go on: the gate lets them pass */
		if (!overlap(part, bdev))
			continue;
		/* one may end on another CPU than it began on */
		for_each_possible_cpu(cpu)
			in_flight += part_stat_local_read_cpu(part, in_flight[1], cpu);
	}
	smp_rmb(); /* after what is in flight */
	xa_for_each(&disk->part_tbl, index, part)
		ended -= overlap(part, bdev) ? writes_ended(part) : 0;
	rcu_read_unlock();
	return in_flight <= 0 && !ended;
}

/*
 * MD on 6.1 keeps a write with a preceding flush, one at a time, uncounted in its hands
 * until the flush has ended. Who submits the next one waits until then, and that one ends
 * when the write of the one before was counted: one work item hands both on. The gate
 * is open meanwhile, nothing waits for this flush.
 */
static int drain_counted(struct cow_interposer *interposer)
{
	blkdev_issue_flush(interposer->bdev);
	return cow_gate_hold_still(interposer, no_write_in_flight) ? 0 : -EBUSY;
}

int cow_drain_below(struct cow_interposer *interposer)
{
	struct request_queue *q = bdev_get_queue(interposer->bdev);
	struct mapped_device *md;
	int r = 0;

	if (queue_is_mq(q)) {
		r = drain_queue(q);
	} else {
		md = dm_get_md(disk_devt(interposer->disk));
		if (md) {
			drain_mapped(md);
			dm_put(md);
		} else {
			r = drain_counted(interposer);
		}
	}
	if (r)
		DMERR("interpose: what is in flight on %s does not end",
		      interposer->disk->disk_name);
	return r;
}
