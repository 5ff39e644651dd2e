// SPDX-License-Identifier: GPL-2.0-only
/*
 * The hooks of interpose.c: for each bio that is submitted ftrace has
 * cow_interpose_wants() asked, and writes that it wants go to cow_interpose_take() in
 * the place of the function that was called. Two functions are hooked:
 *
 *   submit_bio_noacct          all bios enter here
 *   submit_bio_noacct_nocheck  what blk-throttle held comes back here; all others get
 *                              here, too, and pass: they are no writes, or marked, or
 *                              nobody wants them
 *
 * On x86-64 the functions call hook-entry.S directly, which costs a write to another
 * device some thirty instructions each; a callback with registers that can be changed
 * would cost four times as many, and is what is used elsewhere.
 *
 * Only one at a time may send callers elsewhere: a live patch of these functions, another
 * filter, or a BPF program at their entry is an error, with its cause; and they are refused
 * while this is in use. PERMANENT: while it is, kernel.ftrace_enabled cannot be set
 * to 0, which would let writes pass unseen. Direct calls cannot have that flag, so a
 * function of this file is hooked with it as well, first.
 *
 * Lock: hook_mutex, taken last by those who may sleep.
 */
#include <linux/srcu.h>

#include "interpose.h"

#if defined(COW_HAVE_DIRECT_HOOK) || defined(COW_HAVE_HOOK)

static DEFINE_MUTEX(hook_mutex);
static unsigned int hook_users;
/* Those inside cow_interpose_take(). */
DEFINE_STATIC_SRCU(hook_srcu);

void cow_hook_take(struct bio *bio)
{
	int index = srcu_read_lock(&hook_srcu);

	cow_interpose_take(bio);
	srcu_read_unlock(&hook_srcu, index);
}

#ifdef COW_HAVE_DIRECT_HOOK

static void notrace never(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			  struct ftrace_regs *fregs)
{
}

static struct ftrace_ops permanent_ops = {
	.func = never,
	.flags = FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_RECURSION,
};

static noinline void never_called(void)
{
	barrier();
}

static int begin(void)
{
	int r = ftrace_set_filter_ip(&permanent_ops, (unsigned long)never_called, 0, 1);

	return r ?: register_ftrace_function(&permanent_ops);
}

static void end(void)
{
	unregister_ftrace_function(&permanent_ops);
}

static void free_own_filter(void)
{
	ftrace_free_filter(&permanent_ops);
}

static int add(struct ftrace_ops *ops)
{
	return cow_register_direct(ops, (unsigned long)cow_hook_entry);
}

static void drop(struct ftrace_ops *ops)
{
	cow_unregister_direct(ops, (unsigned long)cow_hook_entry);
}

static struct ftrace_ops entry_ops, throttled_ops;

#else

#define HOOK_FLAGS                                                                         \
	(FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_PERMANENT | FTRACE_OPS_FL_RECURSION)

/*
 * RECURSION: no recursion check is wanted, as what it finds would pass unseen, too; none
 * is needed, as this calls nothing that is hooked.
 */
static void notrace hooked(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			   struct ftrace_regs *fregs)
{
	if (cow_interpose_wants((struct bio *)cow_hook_argument(fregs)))
		cow_hook_go_to(fregs, (unsigned long)cow_hook_take);
}

static int begin(void)
{
	return 0;
}

static void end(void)
{
}

static void free_own_filter(void)
{
}

static int add(struct ftrace_ops *ops)
{
	return register_ftrace_function(ops);
}

static void drop(struct ftrace_ops *ops)
{
	unregister_ftrace_function(ops);
}

static struct ftrace_ops entry_ops = {
	.func = hooked,
	.flags = HOOK_FLAGS,
};

static struct ftrace_ops throttled_ops = {
	.func = hooked,
	.flags = HOOK_FLAGS,
};

#endif

static int report(const char *function, int r)
{
	DMERR("interpose: %s() cannot be hooked (%d)", function, r);
	if (r == -EBUSY)
		DMERR("a live patch or another filter has it, or kernel.ftrace_enabled is 0");
	return r;
}

static int install_entry(void)
{
	int r = ftrace_set_filter_ip(&entry_ops, (unsigned long)submit_bio_noacct, 0, 1);

	return r ?: add(&entry_ops);
}

static int install_throttled(void)
{
	unsigned char name[] = "submit_bio_noacct_nocheck";
	int r = ftrace_set_filter(&throttled_ops, name, strlen(name), 1);

	return r ?: add(&throttled_ops);
}

/*
 * No hook is there any more. Who was on the way to cow_hook_take() gets there, then out of
 * what may sleep in it, then behind its last instruction.
 */
static void wait_for_those_inside(void)
{
	synchronize_rcu_tasks();
	synchronize_srcu(&hook_srcu);
	synchronize_rcu_tasks();
}

static int install(void)
{
	int r = begin();

	if (r)
		return report("submit_bio_noacct", r);
	r = install_entry();
	if (r) {
		report("submit_bio_noacct", r);
		goto end;
	}
	r = install_throttled();
	if (!r)
		return 0;
	report("submit_bio_noacct_nocheck", r);
	drop(&entry_ops);
	wait_for_those_inside();
end:
	end();
	return r;
}

static void remove(void)
{
	drop(&throttled_ops);
	drop(&entry_ops);
	end();
	wait_for_those_inside();
}

int cow_hook_get(void)
{
	int r = 0;

	if (cow_interpose_fails(COW_STEP_HOOK))
		return -EIO;
	if (!IS_ENABLED(CONFIG_TASKS_RCU)) {
		DMERR("interpose: this kernel has no CONFIG_TASKS_RCU: no hook can end");
		return -EOPNOTSUPP;
	}
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

/* Nobody has the hooks, or will. Once: ftrace does not forget filters that it frees. */
void cow_hook_exit(void)
{
	ftrace_free_filter(&entry_ops);
	ftrace_free_filter(&throttled_ops);
	free_own_filter();
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

void cow_hook_exit(void)
{
}

#endif
