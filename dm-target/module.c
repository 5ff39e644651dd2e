// SPDX-License-Identifier: GPL-2.0-only
/*
 * dm-cow-snap: loading and unloading of the three targets, and what their
 * constructors share.
 */
#include <linux/module.h>

#include "cowsnap.h"

/*
 * The engine of the cow-store that @arg names. *device is the store's device,
 * opened for @ti: it cannot be removed while that lasts. A reference is taken.
 */
struct cow_engine *cow_engine_from_arg(struct dm_target *ti, const char *arg,
				       struct dm_dev **device)
{
	struct cow_engine *engine = NULL;
	struct mapped_device *md;
	int r = dm_get_device(ti, arg, dm_table_get_mode(ti->table), device);

	if (r) {
		ti->error = "The store's device cannot be opened";
		return ERR_PTR(r);
	}
	mutex_lock(&cow_engines_mutex);
	md = dm_get_md((*device)->bdev->bd_dev);
	if (md) {
		engine = cow_engine_find(md);
		dm_put(md);
	}
	if (engine)
		cow_engine_get(engine);
	mutex_unlock(&cow_engines_mutex);
	if (engine)
		return engine;
	dm_put_device(ti, *device);
	ti->error = "The device is not a cow-store";
	return ERR_PTR(-EINVAL);
}

/*
 * [<#features> <feature>...] from argv[0] on. @feature handles one name: it
 * returns 0 when it took the name alone, 1 when it took its value, too, and
 * -EINVAL for what it does not know. @value is NULL at the end.
 */
int cow_parse_features(struct dm_target *ti, unsigned int argc, char **argv,
		       int (*feature)(void *context, const char *name, const char *value),
		       void *context)
{
	unsigned int i;
	u32 count;

	if (!argc)
		return 0;
	if (cow_parse_u32(argv[0], 0, 64, &count)) {
		ti->error = "The number of features is not a number";
		return -EINVAL;
	}
	if (count != argc - 1) {
		ti->error = "The number of features does not match the features";
		return -EINVAL;
	}
	for (i = 1; i < argc; i++) {
		int r = feature(context, argv[i], i + 1 < argc ? argv[i + 1] : NULL);

		if (r < 0) {
			DMERR("feature '%s': unknown, or its value is wrong", argv[i]);
			ti->error = "Unknown feature, or a wrong value";
			return r;
		}
		i += r;
	}
	return 0;
}

static int __init cow_init(void)
{
	int r = cow_engine_init();

	if (r)
		return r;
	cow_interpose_init();
	r = dm_register_target(&cow_store_type);
	if (r)
		goto bad_store;
	r = dm_register_target(&cow_origin_type);
	if (r)
		goto bad_origin;
	r = dm_register_target(&cow_snap_type);
	if (r)
		goto bad_snap;
	return 0;
bad_snap:
	dm_unregister_target(&cow_origin_type);
bad_origin:
	dm_unregister_target(&cow_store_type);
bad_store:
	cow_interpose_exit();
	cow_engine_exit();
	return r;
}

static void __exit cow_exit(void)
{
	dm_unregister_target(&cow_snap_type);
	dm_unregister_target(&cow_origin_type);
	dm_unregister_target(&cow_store_type);
	cow_loss_forget_all();
	cow_interpose_exit();
	cow_engine_exit();
}

module_init(cow_init);
module_exit(cow_exit);

MODULE_DESCRIPTION("Snapshots of live block devices: cow-store, cow-origin, cow-snap");
MODULE_AUTHOR("The cowsnap developers");
MODULE_ALIAS("dm-cow-store");
MODULE_ALIAS("dm-cow-origin");
MODULE_LICENSE("GPL");
