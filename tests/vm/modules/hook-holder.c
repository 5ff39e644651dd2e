// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds a kernel function as a live patch does: while this is loaded, nobody else may send
 * those who call the function elsewhere. It changes nothing for them itself.
 */
#include <linux/ftrace.h>
#include <linux/module.h>
#include <linux/string.h>

static char *function = "submit_bio_noacct";
module_param(function, charp, 0400);
MODULE_PARM_DESC(function, "the function that is held");

static void notrace pass(unsigned long ip, unsigned long parent_ip, struct ftrace_ops *ops,
			 struct ftrace_regs *fregs)
{
}

static struct ftrace_ops holder_ops = {
	.func = pass,
	.flags = FTRACE_OPS_FL_IPMODIFY | FTRACE_OPS_FL_SAVE_REGS | FTRACE_OPS_FL_RECURSION,
};

static int __init holder_init(void)
{
	int r = ftrace_set_filter(&holder_ops, (unsigned char *)function, strlen(function), 1);

	if (!r)
		r = register_ftrace_function(&holder_ops);
	if (r)
		ftrace_free_filter(&holder_ops);
	return r;
}

static void __exit holder_exit(void)
{
	unregister_ftrace_function(&holder_ops);
	ftrace_free_filter(&holder_ops);
}

module_init(holder_init);
module_exit(holder_exit);

MODULE_DESCRIPTION("Holds a function, for tests of dm-cow-snap");
MODULE_AUTHOR("The cowsnap developers");
MODULE_LICENSE("GPL");
