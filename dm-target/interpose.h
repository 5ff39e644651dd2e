/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What interpose.c and its helpers share. The argument for why it is right is at the
 * top of interpose.c.
 */
#ifndef COW_INTERPOSE_H
#define COW_INTERPOSE_H

#include <linux/percpu-refcount.h>

#include "cowsnap.h"

/* Whoever holds up attaching or creating for longer makes it fail. */
#define COW_INTERPOSE_WAIT_MS 20000

/* The steps of attaching; the module's parameter interpose_fail makes it fail there. */
enum cow_interpose_step {
	COW_STEP_NONE,
	COW_STEP_HOOK, /* to the hooks */
	COW_STEP_MEMORY, /* to the interposer's memory */
	COW_STEP_ARMED, /* writes are taken */
	COW_STEP_SUBMITTERS, /* nobody is on the way who was let pass before */
	COW_STEP_DRAINED, /* nothing is below that was let pass before */
	COW_STEP_STILL, /* nothing is under way for a moment, to see what the device has */
	COW_STEP_RECORDED, /* the store has it that somebody is in front */
};

/* In front of one device, or of one partition. */
struct cow_interposer {
	struct hlist_node node; /* interposers */
	struct cow_engine *engine;
	struct cow_origin *origin;
	struct cow_guard *guard;
	struct block_device *bdev; /* its attachment keeps it open */
	struct workqueue_struct *wq; /* its own: let_in waits for clones that others send */
	struct gendisk *disk;
	sector_t first; /* of the origin, on the disk */
	sector_t sectors;
	u64 order; /* a write that two of them want goes to the lower one first */

	struct bio_set bios; /* of the clones; their mark */
	struct percpu_ref passing; /* writes that were taken and have not ended */
	wait_queue_head_t drained; /* there are none */

	/* closers, armed, suspended; a create holds it while it has the gate closed */
	struct mutex gate_mutex;
	unsigned int closers;
	bool armed;
	bool suspended; /* one of the closers is the suspended mapped device */

	spinlock_t gate_lock; /* held, closed, gone */
	struct bio_list held; /* writes at the gate, and those that found no memory */
	bool closed;
	bool gone; /* no longer found: what is held passes as it is */
	struct work_struct let_in;
};

/* interpose.c, for the two below */
bool cow_interpose_wants(struct bio *bio);
void cow_interpose_take(struct bio *bio);
bool cow_interpose_fails(enum cow_interpose_step step);
bool cow_gate_hold_still(struct cow_interposer *interposer,
			 bool (*is_still)(struct block_device *bdev));

/* hook-entry.S, and what it and interpose-hook.c send callers of hooked functions to */
void cow_hook_entry(void);
void cow_hook_take(struct bio *bio);

/*
 * interpose-drain.c: after arming, to be called in this order. Until no write is on its
 * way to the device, or has reached it, that was submitted before. Both may sleep, and
 * fail with the cause in the log.
 */
int cow_wait_for_submitters(void);
int cow_drain_below(struct cow_interposer *interposer);

#endif
