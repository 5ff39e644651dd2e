// SPDX-License-Identifier: GPL-2.0-only
/*
 * A store that fails. Its snapshots miss what is written from then on, and no later
 * activation may take them for exact. States:
 *
 *   broken      the engine holds the writes to the origins; loss_work runs
 *   recorded    the store itself says which snapshots are lost; writes go on
 *   unrecorded  the store takes no writes: this module remembers the loss for as
 *               long as it is loaded, an event asks user space to write it down,
 *               and writes go on after the message "loss_recorded", or after
 *               loss_wait_ms without one
 *
 * When the store is activated again, cow_loss_apply() tells it what the module
 * remembers, and the message "lost" what user space has written down, before any
 * origin is attached.
 *
 * Locks: engine->control around what touches the store; losses_lock is innermost.
 */
#include <linux/module.h>

#include "cowsnap.h"

struct cow_loss {
	struct list_head list; /* losses */
	u8 uuid[COWSNAP_UUID_SIZE];
	u64 last_set;
};

static LIST_HEAD(losses);
static DEFINE_SPINLOCK(losses_lock);

/* losses_lock held. */
static struct cow_loss *find(const u8 *uuid)
{
	struct cow_loss *loss;

	list_for_each_entry(loss, &losses, list)
		if (!memcmp(loss->uuid, uuid, COWSNAP_UUID_SIZE))
			return loss;
	return NULL;
}

static void remember(struct cow_engine *engine, u64 last_set)
{
	struct cow_loss *loss;

	spin_lock(&losses_lock);
	loss = find(engine->store.super.uuid);
	if (!loss) {
		loss = engine->loss;
		engine->loss = NULL;
		memcpy(loss->uuid, engine->store.super.uuid, COWSNAP_UUID_SIZE);
		loss->last_set = 0;
		list_add(&loss->list, &losses);
	}
	loss->last_set = max(loss->last_set, last_set);
	spin_unlock(&losses_lock);
}

/*
 * Any context that may queue work. While the store is being opened there are no
 * origins, so nothing is lost: it must not be told so.
 */
void cow_loss_begins(struct cow_engine *engine)
{
	if (READ_ONCE(engine->opened))
		queue_work(engine->control_wq, &engine->loss_work);
	else
		mod_delayed_work(engine->control_wq, &engine->let_go_work, 0);
}

static void loss_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(work, struct cow_engine, loss_work);
	u64 last_set;
	int r;

	mutex_lock(&engine->control);
	r = cow_store_record_loss(&engine->store);
	last_set = cow_store_last_set(&engine->store);
	if (r)
		remember(engine, last_set);
	mutex_unlock(&engine->control);
	if (r) {
		DMERR("store %pUb: cannot be told (%d) that its snapshots up to set %llu are lost",
		      engine->store.super.uuid, r, last_set);
		cow_engine_event(engine, COWSNAP_EVENT_UNRECORDED, last_set);
		queue_delayed_work(engine->control_wq, &engine->let_go_work,
				   msecs_to_jiffies(READ_ONCE(engine->loss_wait_ms)));
	}
	cow_engine_kick(engine);
}

static void let_go_work(struct work_struct *work)
{
	struct cow_engine *engine = container_of(to_delayed_work(work), struct cow_engine,
						 let_go_work);

	mutex_lock(&engine->control);
	if (engine->store.broken && !engine->store.failed)
		cow_store_let_go(&engine->store);
	mutex_unlock(&engine->control);
	cow_engine_kick(engine);
}

int cow_loss_init(struct cow_engine *engine)
{
	INIT_WORK(&engine->loss_work, loss_work);
	INIT_DELAYED_WORK(&engine->let_go_work, let_go_work);
	engine->loss_wait_ms = COWSNAP_LOSS_WAIT_DEFAULT_MS;
	engine->loss = kzalloc(sizeof(*engine->loss), GFP_KERNEL);
	return engine->loss ? 0 : -ENOMEM;
}

/* No target is left: nobody's writes are held. A loss may still come. */
void cow_loss_no_wait(struct cow_engine *engine)
{
	WRITE_ONCE(engine->loss_wait_ms, 0);
	flush_work(&engine->loss_work);
	flush_delayed_work(&engine->let_go_work);
}

void cow_loss_exit(struct cow_engine *engine)
{
	kfree(engine->loss);
}

/*
 * A store that was just opened, and has no origins yet, is told what it missed. An
 * error and @why when that cannot be made durable: it must not be used then. What
 * the module remembers cannot change meanwhile: this store has one engine.
 */
int cow_loss_apply(struct cow_engine *engine, char *why)
{
	struct cow_loss *loss;
	u64 last_set;
	int r;

	spin_lock(&losses_lock);
	loss = find(engine->store.super.uuid);
	last_set = loss ? loss->last_set : 0;
	spin_unlock(&losses_lock);
	mutex_lock(&engine->control);
	r = loss ? cow_store_lose(&engine->store, last_set, why) : 0;
	/* an I/O of the opening that fails from now on is a store that fails */
	if (!r)
		WRITE_ONCE(engine->opened, true);
	mutex_unlock(&engine->control);
	if (r || !loss)
		return r;
	DMWARN("store %pUb missed writes when it failed: its snapshots up to set %llu are lost",
	       engine->store.super.uuid, last_set);
	spin_lock(&losses_lock);
	list_del(&loss->list);
	spin_unlock(&losses_lock);
	kfree(loss);
	return 0;
}

/* The message "loss_recorded". */
int cow_loss_recorded(struct cow_engine *engine)
{
	if (!READ_ONCE(engine->store.broken)) {
		DMERR("%s: the store has not failed", COWSNAP_MESSAGE_LOSS_RECORDED);
		return -EINVAL;
	}
	flush_work(&engine->loss_work);
	mod_delayed_work(engine->control_wq, &engine->let_go_work, 0);
	flush_delayed_work(&engine->let_go_work);
	return 0;
}

void cow_loss_forget_all(void)
{
	struct cow_loss *loss, *next;

	list_for_each_entry_safe(loss, next, &losses, list)
		kfree(loss);
}
