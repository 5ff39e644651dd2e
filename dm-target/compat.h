/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The only place that knows how kernels differ. COW_HAVE_* come from Kbuild, which
 * looks into the kernel's headers; version numbers say little, as stable kernels
 * take over changes of interfaces.
 */
#ifndef COW_COMPAT_H
#define COW_COMPAT_H

#include <linux/blkdev.h>
#include <linux/device-mapper.h>
#include <linux/ftrace.h>

/* Exported, but their prototypes are in drivers/md/dm.h, which is not installed. */
void dm_internal_suspend_noflush(struct mapped_device *md);
void dm_internal_resume(struct mapped_device *md);

#ifdef COW_HAVE_BDEV_FREEZE

static inline int cow_bdev_freeze(struct block_device *bdev)
{
	return bdev_freeze(bdev);
}

static inline void cow_bdev_thaw(struct block_device *bdev)
{
	bdev_thaw(bdev);
}

#else

static inline int cow_bdev_freeze(struct block_device *bdev)
{
	return freeze_bdev(bdev);
}

static inline void cow_bdev_thaw(struct block_device *bdev)
{
	thaw_bdev(bdev);
}

#endif

/* Hooking a function with ftrace: code of this module that it calls directly */
#ifdef COW_HAVE_DIRECT_HOOK

static inline int cow_register_direct(struct ftrace_ops *ops, unsigned long address)
{
#ifdef COW_HAVE_DIRECT_MULTI
	int r = register_ftrace_direct_multi(ops, address);

	/* when it fails it leaves these, and refuses whoever has them */
	if (r) {
		ops->func = NULL;
		ops->trampoline = 0;
	}
	return r;
#else
	return register_ftrace_direct(ops, address);
#endif
}

static inline void cow_unregister_direct(struct ftrace_ops *ops, unsigned long address)
{
#ifdef COW_HAVE_DIRECT_MULTI
	unregister_ftrace_direct_multi(ops, address);
#else
	unregister_ftrace_direct(ops, address, false);
#endif
}

#endif

/* ... or a callback: the function's first argument, and sending its caller elsewhere */
#ifdef CONFIG_DYNAMIC_FTRACE_WITH_ARGS

#if defined(COW_HAVE_FTRACE_REGS_ARGUMENT)
#define COW_HAVE_HOOK
#define cow_hook_argument(fregs) ftrace_regs_get_argument(fregs, 0)
#define cow_hook_go_to(fregs, to) ftrace_regs_set_instruction_pointer(fregs, to)
#elif defined(CONFIG_X86_64)
#define COW_HAVE_HOOK
#define cow_hook_argument(fregs) regs_get_kernel_argument(&(fregs)->regs, 0)
#define cow_hook_go_to(fregs, to) ftrace_instruction_pointer_set(fregs, to)
#endif

#endif

/* Readers and writers of single pages that are no bios. */
static inline bool cow_has_rw_page(const struct block_device *bdev)
{
#ifdef COW_HAVE_RW_PAGE
	return bdev->bd_disk->fops->rw_page;
#else
	return false;
#endif
}

static inline bool cow_has_inline_encryption(const struct request_queue *q)
{
#ifdef CONFIG_BLK_INLINE_ENCRYPTION
	return q->crypto_profile;
#else
	return false;
#endif
}

/*
 * Does the kernel count what is written to it? Before there was a feature for it, DM
 * counted always, and did not say so.
 */
static inline bool cow_counts_writes(struct block_device *bdev)
{
#ifndef COW_HAVE_FEAT_IO_STAT
	struct mapped_device *md = dm_get_md(disk_devt(bdev->bd_disk));

	if (md) {
		dm_put(md);
		return true;
	}
#endif
	return blk_queue_io_stat(bdev_get_queue(bdev));
}

/* The disk of an NVMe namespace that has several paths; the disks of the paths have requests. */
static inline bool cow_is_nvme_multipath(struct block_device *bdev)
{
	return !queue_is_mq(bdev_get_queue(bdev)) &&
	       !strncmp(bdev->bd_disk->disk_name, "nvme", 4);
}

/* NVMe with several paths counts for the disk only, whatever partition is written. */
static inline struct block_device *cow_counting_device(struct block_device *bdev)
{
	return cow_is_nvme_multipath(bdev) ? bdev_whole(bdev) : bdev;
}

/*
 * A block device that is open, shared and without a holder. For reading: whether
 * bios may write is not asked of who has it open, and a kernel may refuse to open a
 * device for writing on which a file system is mounted (bdev_allow_write_mounted).
 */
struct cow_bdev {
	struct block_device *bdev; /* NULL: not open */
#ifdef COW_HAVE_BDEV_FILE
	struct file *file;
#endif
};

#ifdef COW_HAVE_BDEV_FILE

static inline int cow_bdev_open(struct cow_bdev *device, dev_t dev)
{
	device->file = bdev_file_open_by_dev(dev, BLK_OPEN_READ, NULL, NULL);
	if (IS_ERR(device->file))
		return PTR_ERR(device->file);
	device->bdev = file_bdev(device->file);
	return 0;
}

static inline void cow_bdev_close(struct cow_bdev *device)
{
	if (device->bdev)
		bdev_fput(device->file);
	device->bdev = NULL;
}

#else

static inline int cow_bdev_open(struct cow_bdev *device, dev_t dev)
{
	struct block_device *bdev = blkdev_get_by_dev(dev, FMODE_READ, NULL);

	if (IS_ERR(bdev))
		return PTR_ERR(bdev);
	device->bdev = bdev;
	return 0;
}

static inline void cow_bdev_close(struct cow_bdev *device)
{
	if (device->bdev)
		blkdev_put(device->bdev, FMODE_READ);
	device->bdev = NULL;
}

#endif

#endif
