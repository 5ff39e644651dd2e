// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the worker has for an origin's device: reads of blocks that are to be preserved, and
 * writes that have waited until theirs were.
 *
 * Submitting to a device may sleep: for a tag, for memory, or until its driver has
 * written something itself. MD writes that an array is dirty before the first write to it,
 * and in its bitmap before the first one to a region; a loop device needs its file. What
 * these write goes to another device, which may be an origin of the same store, and
 * then waits for the worker, if its block has to be preserved. So the worker must not be the
 * one who sleeps: it has engine->mutex, and all origins wait for it. Each
 * attachment has a work instead, which holds nothing, in a workqueue with a rescuer of
 * its own, and allocates the bios of reads itself, from its own bio_set. So origins depend on each
 * other only as their devices do, which has an end. (For room, see io_extent_new().) The
 * interposer's worker has another workqueue: it may wait for what is sent here.
 *
 * While there is only one attachment nobody else's writes wait for the worker (those to
 * snapshots have their origin's), and nothing that the origin's device needs is among
 * what the worker has: the store is not on the origin, nor the origin on its snapshots. Then
 * the worker submits itself, which saves a change of threads. The second attachment is
 * made under engine->mutex, before any write to its device is taken: by then the worker
 * has nothing on its way any more.
 *
 * The order does not matter: these are requests that are under way at the same time. Who
 * waits until an origin is quiet, or its writes have ended, waits for these, too.
 */
#include <linux/sched/mm.h>

#include "cowsnap.h"

/* Of each attachment: its work waits for one that ends. */
#define COW_RESERVED_READS 4

static struct cow_attachment *attachment_of(struct cow_sender *sender)
{
	return container_of(sender, struct cow_attachment, sender);
}

static bool take(struct cow_sender *sender, struct list_head *reads, struct bio_list *writes)
{
	INIT_LIST_HEAD(reads);
	spin_lock(&sender->lock);
	list_splice_tail_init(&sender->reads, reads);
	*writes = sender->writes;
	bio_list_init(&sender->writes);
	spin_unlock(&sender->lock);
	return !list_empty(reads) || !bio_list_empty(writes);
}

static void send_work(struct work_struct *work)
{
	struct cow_sender *sender = container_of(work, struct cow_sender, work);
	struct cow_attachment *attachment = attachment_of(sender);
	unsigned int noio = memalloc_noio_save();
	struct cow_kextent *extent, *next;
	struct bio_list writes;
	struct list_head reads;
	struct blk_plug plug;
	struct bio *bio;

	while (take(sender, &reads, &writes)) {
		blk_start_plug(&plug);
		list_for_each_entry_safe(extent, next, &reads, send)
			cow_extent_submit(attachment, extent);
		while ((bio = bio_list_pop(&writes)))
			submit_bio_noacct(bio);
		blk_finish_plug(&plug);
	}
	memalloc_noio_restore(noio);
}

/* Engine context. Does no other origin wait for the worker? */
static bool is_alone(const struct cow_attachment *attachment)
{
	return attachment->engine->attached < 2;
}

/* Engine context. A write to the attachment's device, which is set. */
void cow_send_write(struct cow_attachment *attachment, struct bio *bio)
{
	struct cow_sender *sender = &attachment->sender;

	if (is_alone(attachment)) {
		submit_bio_noacct(bio);
		return;
	}
	spin_lock(&sender->lock);
	bio_list_add(&sender->writes, bio);
	spin_unlock(&sender->lock);
	queue_work(sender->wq, &sender->work);
}

/* Engine context. The extent is to be read from the attachment's device. */
void cow_send_read(struct cow_attachment *attachment, struct cow_kextent *extent)
{
	struct cow_sender *sender = &attachment->sender;

	if (is_alone(attachment)) {
		cow_extent_submit(attachment, extent);
		return;
	}
	spin_lock(&sender->lock);
	list_add_tail(&extent->send, &sender->reads);
	spin_unlock(&sender->lock);
	queue_work(sender->wq, &sender->work);
}

/* -ENOMEM. May sleep. */
int cow_sender_init(struct cow_sender *sender)
{
	int r = bioset_init(&sender->bios, COW_RESERVED_READS, 0, BIOSET_NEED_BVECS);

	if (r)
		return r;
	sender->wq = alloc_workqueue("cowsnap_send", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!sender->wq) {
		bioset_exit(&sender->bios);
		return -ENOMEM;
	}
	spin_lock_init(&sender->lock);
	INIT_LIST_HEAD(&sender->reads);
	bio_list_init(&sender->writes);
	INIT_WORK(&sender->work, send_work);
	return 0;
}

/* There is nothing left that would be sent; the work may still be about to see that. */
void cow_sender_exit(struct cow_sender *sender)
{
	destroy_workqueue(sender->wq);
	bioset_exit(&sender->bios);
}
