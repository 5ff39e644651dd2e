// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hooks of interpose.c: ftrace calls for each bio that is submitted, and sends
 * writes that an interposer wants to cow_interpose_take() in the place of the
 * function that was called. Two functions are hooked:
 *
 *   submit_bio_noacct          all bios enter here
 *   submit_bio_noacct_nocheck  what blk-throttle held comes back here; all others get
 *                              here, too, and pass: they are no writes, or marked, or
 *                              nobody wants them
 *
 * IPMODIFY: only one at a time may send callers elsewhere; a live patch of these
 * functions, or another filter, is an error, with its cause. PERMANENT: while this is in
 * use kernel.ftrace_enabled cannot be set to 0, which would let writes pass unseen.
 * RECURSION: no recursion check is wanted, as what it finds would pass unseen, too; none
 * is needed, as the callbacks call nothing that is hooked.
 *
 * Lock: hook_mutex, taken last by those who may sleep.
 */
#include <linux/ftrace.h>
#include <linux/srcu.h>

#include "interpose.h"

#ifdef COW_HAVE_HOOK

#define HOOK_FLAGS                                                                         \
	(FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_RECURSION)

static DEFINE_MUTEX(hook_mutex);
static unsigned int hook_users;
/* Those inside take(). */
DEFINE_STATIC_SRCU(hook_srcu);

static void take(struct bio *bio)
{
	int index = srcu_read_lock(&hook_srcu);

	cow_interpose_take(bio);
	srcu_read_unlock(&hook_srcu, index);
}

static void notrace hooked(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			   struct ftrace_regs *fregs)
{
	struct bio *bio = (struct bio *)cow_hook_argument(fregs);

	if (!op_is_write(bio_op(bio)))
		return;
	rcu_read_lock();
	if (cow_interposer_of(bio))
		cow_hook_go_to(fregs, (unsigned long)take);
	rcu_read_unlock();
}

static struct ftrace_ops entry_ops = {
	.func = hooked,
	.flags = HOOK_FLAGS,
};

static struct ftrace_ops throttled_ops = {
	.func = hooked,
	.flags = HOOK_FLAGS,
};

static int report(const char *function, int r)
{
	DMERR("interpose: %s() cannot be hooked (%d)", function, r);
	if (r == -EBUSY)
		DMERR("a live patch or another filter has it, or kernel.ftrace_enabled is 0");
	return r;
}

static int install(void)
{
	unsigned char name[32];
	int r = ftrace_set_filter_ip(&entry_ops, (unsigned long)submit_bio_noacct, 0, 1);

	if (!r)
		r = register_ftrace_function(&entry_ops);
	if (r)
		return report("submit_bio_noacct", r);
	strscpy(name, "submit_bio_noacct_nocheck", sizeof(name));
	r = ftrace_set_filter(&throttled_ops, name, strlen(name), 1);
	if (!r)
		r = register_ftrace_function(&throttled_ops);
	if (r) {
		report("submit_bio_noacct_nocheck", r);
		unregister_ftrace_function(&entry_ops);
	}
	return r;
}

/* Nobody is in take(), or will be. */
static void remove(void)
{
	unregister_ftrace_function(&throttled_ops);
	unregister_ftrace_function(&entry_ops);
	synchronize_srcu(&hook_srcu);
	synchronize_rcu_tasks();
}

int cow_hook_get(void)
{
	int r = 0;

	if (cow_interpose_fails(COW_STEP_HOOK))
		return -EIO;
	mutex_lock(&hook_mutex);
	if (!hook_users)
		r = install();
	if (!r)
		hook_users++;
	mutex_unlock(&hook_mutex);
	return r;
}

void cow_hook_put(void)
{
	mutex_lock(&hook_mutex);
	if (!--hook_users)
		remove();
	mutex_unlock(&hook_mutex);
}

#else

int cow_hook_get(void)
{
	DMERR("interpose: this kernel's functions cannot be hooked: no ftrace with arguments");
	return -EOPNOTSUPP;
}

void cow_hook_put(void)
{
}

#endif
