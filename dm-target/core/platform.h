/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What core/ needs from its surroundings: the kernel's types and lists, CRC32C
 * and memory. In the kernel these are the kernel's own; in user space (tests,
 * simulator, cowsnap-store) platform_user.h stands for them. core/ includes
 * nothing else from outside, and proto/.
 */
#ifndef COW_PLATFORM_H
#define COW_PLATFORM_H

#ifdef __KERNEL__

#include <linux/bitops.h>
#include <linux/bug.h>
#include <linux/build_bug.h>
#include <linux/crc32c.h>
#include <linux/errno.h>
#include <linux/kernel.h>
#include <linux/list.h>
#include <linux/mm.h>
#include <linux/sched.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/sort.h>
#include <linux/string.h>
#include <linux/types.h>
#include <linux/vmalloc.h>

/* CRC32C as the disk format defines it. */
static inline u32 cow_crc32c(u32 crc, const void *data, size_t bytes)
{
	return ~crc32c(~crc, data, bytes);
}

/*
 * Zeroed memory of any size, for tables that live long; NULL when there is none.
 * Freed with cow_free(). May sleep, and must not be called with a lock held, but
 * for the engine's: who holds that is inside memalloc_noio_save(), and does not
 * wait, because reclaim may be waiting for a write that only he can let go. He
 * gets some of the reserves instead.
 */
static inline void *cow_alloc(size_t bytes)
{
	unsigned int flags;
	void *p;

	if (current->flags & PF_MEMALLOC_NOIO)
		return kzalloc(bytes, GFP_NOWAIT | __GFP_HIGH | __GFP_NOWARN);
	flags = memalloc_noio_save();
	/* kvzalloc() refuses more: segments of a store of more than 32 TiB, by 1 MiB each */
	if (bytes > INT_MAX)
		p = __vmalloc(bytes, GFP_KERNEL | __GFP_ZERO | __GFP_NOWARN);
	else
		p = kvzalloc(bytes, GFP_KERNEL | __GFP_NOWARN);
	memalloc_noio_restore(flags);
	return p;
}

/* Is so little left that no more should be begun before something has ended? */
static inline bool cow_memory_short(void)
{
	struct page *page = alloc_page(GFP_NOWAIT | __GFP_NOWARN);

	if (page)
		__free_page(page);
	return !page;
}

static inline void cow_free(const void *p)
{
	kvfree(p);
}

#else
#include "platform_user.h"
#endif

#include "../../proto/cowsnap_disk.h"
#include "../../proto/cowsnap_dm.h"

#endif
