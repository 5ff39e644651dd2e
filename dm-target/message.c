// SPDX-License-Identifier: GPL-2.0-only
/*
 * The messages of cow-store: parsing, and the lists that they answer with. The
 * grammar is in proto/cowsnap_dm.h.
 */
#include <linux/ctype.h>

#include "cowsnap.h"

/* A decimal number without sign, prefix or anything behind it. */
int cow_parse_u32(const char *word, u32 low, u32 high, u32 *value)
{
	const char *c;

	for (c = word; *c; c++)
		if (!isdigit(*c))
			return -EINVAL;
	if (!*word || kstrtou32(word, 10, value) || *value < low || *value > high)
		return -EINVAL;
	return 0;
}

static int parse_id(const char *message, const char *word, u32 *id)
{
	if (!cow_parse_u32(word, 1, COWSNAP_ID_MAX, id))
		return 0;
	DMERR("%s: '%s' is not an id (1 to %u)", message, word, COWSNAP_ID_MAX);
	return -EINVAL;
}

static int message_create(struct cow_engine *engine, unsigned int argc, char **argv)
{
	u32 count = (argc - 1) / 2;
	struct cow_member *members;
	u32 i;
	int r = 0;

	if (argc < 3 || argc % 2 != 1) {
		DMERR("create: pairs of <snapshot id> <origin id> are needed");
		return -EINVAL;
	}
	if (count > COWSNAP_SET_MAX) {
		DMERR("create: %u snapshots at once, at most %u can be made", count,
		      COWSNAP_SET_MAX);
		return -E2BIG;
	}
	members = kvcalloc(count, sizeof(*members), GFP_KERNEL);
	if (!members)
		return -ENOMEM;
	for (i = 0; i < count && !r; i++) {
		r = parse_id("create", argv[1 + 2 * i], &members[i].snapshot);
		if (!r)
			r = parse_id("create", argv[2 + 2 * i], &members[i].origin);
	}
	if (!r)
		r = cow_create(engine, members, count);
	kvfree(members);
	return r;
}

static int message_delete(struct cow_engine *engine, unsigned int argc, char **argv)
{
	char why[COW_WHY_BYTES] = "";
	u32 count = argc - 1;
	u32 *ids, i;
	int r = 0;

	if (!count) {
		DMERR("delete: a snapshot id is needed");
		return -EINVAL;
	}
	if (count > COWSNAP_DELETE_MAX) {
		DMERR("delete: %u snapshots at once, at most %u can be deleted", count,
		      COWSNAP_DELETE_MAX);
		return -E2BIG;
	}
	ids = kcalloc(count, sizeof(*ids), GFP_KERNEL);
	if (!ids)
		return -ENOMEM;
	for (i = 0; i < count && !r; i++)
		r = parse_id("delete", argv[1 + i], &ids[i]);
	if (!r) {
		mutex_lock(&engine->control);
		r = cow_delete(&engine->store, ids, count, false, why);
		mutex_unlock(&engine->control);
		if (r)
			DMERR("delete: %s", why);
		else
			cow_engine_swept(engine);
	}
	kfree(ids);
	return r;
}

static int message_forget(struct cow_engine *engine, unsigned int argc, char **argv)
{
	char why[COW_WHY_BYTES] = "";
	u32 id;
	int r;

	if (argc != 2) {
		DMERR("forget: one origin id is needed");
		return -EINVAL;
	}
	r = parse_id("forget", argv[1], &id);
	if (r)
		return r;
	mutex_lock(&engine->control);
	r = cow_origin_forget(&engine->store, id, why);
	mutex_unlock(&engine->control);
	if (r)
		DMERR("forget: %s", why);
	return r;
}

static int parse_rollback(unsigned int argc, char **argv, struct cow_member *member,
			  bool *schedule)
{
	unsigned int i;
	int r;

	if (argc < 4) {
		DMERR("rollback: <origin id> <snapshot id> <undo snapshot id> are needed");
		return -EINVAL;
	}
	r = parse_id("rollback", argv[1], &member->origin);
	if (!r)
		r = parse_id("rollback", argv[2], &member->target);
	if (!r)
		r = parse_id("rollback", argv[3], &member->snapshot);
	for (i = 4; i < argc && !r; i++) {
		if (!strcmp(argv[i], COWSNAP_ROLLBACK_FORCE) && !member->force) {
			member->force = true;
		} else if (!strcmp(argv[i], COWSNAP_ROLLBACK_SCHEDULE) && !*schedule) {
			*schedule = true;
		} else {
			DMERR("rollback: '%s' is not known here", argv[i]);
			r = -EINVAL;
		}
	}
	return r;
}

static int message_rollback(struct cow_engine *engine, unsigned int argc, char **argv)
{
	struct cow_member member = { 0 };
	char why[COW_WHY_BYTES] = "";
	bool schedule = false;
	int r = parse_rollback(argc, argv, &member, &schedule);

	if (r)
		return r;
	if (!schedule)
		return cow_create(engine, &member, 1);
	mutex_lock(&engine->control);
	r = cow_rollback_schedule(&engine->store, &member, why);
	mutex_unlock(&engine->control);
	if (r)
		DMERR("rollback: %s", why);
	return r;
}

static int message_cancel(struct cow_engine *engine, unsigned int argc, char **argv)
{
	char why[COW_WHY_BYTES] = "";
	struct cow_origin *origin;
	bool runs = false;
	u32 id;
	int r;

	if (argc != 2) {
		DMERR("cancel: one origin id is needed");
		return -EINVAL;
	}
	r = parse_id("cancel", argv[1], &id);
	if (r)
		return r;
	mutex_lock(&engine->control);
	origin = cow_origin_find(&engine->store, id);
	if (!origin) {
		snprintf(why, COW_WHY_BYTES, "there is no origin %u", id);
		r = -ENOENT;
	} else if (origin->rollback.state == COW_ROLLBACK_RUNNING) {
		runs = true;
	} else {
		r = cow_rollback_unschedule(origin, why);
	}
	mutex_unlock(&engine->control);
	if (runs)
		return cow_reverse(engine, id);
	if (r)
		DMERR("cancel: %s", why);
	return r;
}

/* "<sector>" or "<sector>:raw" */
static int parse_place(const char *word, struct cow_place *place)
{
	char number[24];
	size_t length = strcspn(word, ":");

	place->raw = word[length];
	if (place->raw && strcmp(word + length, COWSNAP_WATCH_RAW))
		return -EINVAL;
	if (length >= sizeof(number) || !isdigit(word[0]))
		return -EINVAL;
	memcpy(number, word, length);
	number[length] = 0;
	return kstrtou64(number, 10, &place->sector);
}

static int watch_places(struct cow_engine *engine, u32 id, const struct cow_place *places,
			u32 count)
{
	struct cow_attachment *attachment;
	struct cow_origin *origin;
	int r = -ENODEV;

	mutex_lock(&engine->control);
	origin = cow_origin_find(&engine->store, id);
	attachment = origin ? origin->shell : NULL;
	if (attachment)
		r = cow_guard_watch(&attachment->guard, places, count);
	mutex_unlock(&engine->control);
	if (r == -ENODEV)
		DMERR("watch: there is no cow-origin of origin %u", id);
	else if (r == -EINVAL)
		DMERR("watch: not all of the sectors are in origin %u", id);
	else if (r)
		DMERR("watch: no more than %u places of origin %u can be watched",
		      COWSNAP_WATCH_MAX, id);
	return r;
}

static int message_watch(struct cow_engine *engine, unsigned int argc, char **argv)
{
	struct cow_place *places;
	u32 count = argc - 2, i, id;
	int r;

	if (argc < 3) {
		DMERR("watch: <origin id> <sector>... are needed");
		return -EINVAL;
	}
	if (count > COWSNAP_WATCH_MAX) {
		DMERR("watch: %u places, at most %u can be watched", count, COWSNAP_WATCH_MAX);
		return -E2BIG;
	}
	r = parse_id("watch", argv[1], &id);
	if (r)
		return r;
	places = kcalloc(count, sizeof(*places), GFP_KERNEL);
	if (!places)
		return -ENOMEM;
	for (i = 0; i < count && !r; i++) {
		r = parse_place(argv[2 + i], &places[i]);
		if (r)
			DMERR("watch: '%s' is not <sector> or <sector>" COWSNAP_WATCH_RAW,
			      argv[2 + i]);
	}
	if (!r)
		r = watch_places(engine, id, places, count);
	kfree(places);
	return r;
}

static int message_lost(struct cow_engine *engine, unsigned int argc, char **argv)
{
	char why[COW_WHY_BYTES] = "";
	u64 last_set;
	int r;

	if (argc != 2 || !isdigit(argv[1][0]) || kstrtou64(argv[1], 10, &last_set)) {
		DMERR("lost: the number of a set is needed");
		return -EINVAL;
	}
	mutex_lock(&engine->control);
	r = cow_store_lose(&engine->store, last_set, why);
	mutex_unlock(&engine->control);
	if (r)
		DMERR("lost: %s", why);
	return r;
}

static int message_loss_recorded(struct cow_engine *engine, unsigned int argc)
{
	if (argc == 1)
		return cow_loss_recorded(engine);
	DMERR("loss_recorded: takes no argument");
	return -EINVAL;
}

/* ------------------------------------------------------------------ lists --- */

static int message_origins(struct cow_engine *engine, u32 after, char *result,
			   unsigned int maxlen)
{
	struct cow_origin *origin;
	unsigned int sz = 0;

	mutex_lock(&engine->control);
	list_for_each_entry(origin, &engine->store.origins, list)
		if (origin->id > after)
			DMEMIT("%u %llu %u %u\n", origin->id, origin->size_sectors,
			       origin->shell ? 1 : 0, origin->nr_snapshots);
	mutex_unlock(&engine->control);
	return 1;
}

const char *cow_snapshot_state(const struct cow_snapshot *snapshot)
{
	if (snapshot->lost)
		return COWSNAP_STATE_LOST;
	if (snapshot->stale)
		return COWSNAP_STATE_STALE;
	return snapshot->damaged ? COWSNAP_STATE_DAMAGED : COWSNAP_STATE_ACTIVE;
}

/* Live blocks of the epochs from this snapshot's to the next one's. */
static u64 snapshot_blocks(const struct cow_snapshot *snapshot)
{
	const struct cow_origin *origin = snapshot->origin;
	const struct cow_snapshot *next = list_next_entry(snapshot, list);
	u64 end = list_entry_is_head(next, &origin->snapshots, list) ? COWSNAP_NONE : next->epoch;
	const struct cow_epoch *epoch;
	u64 blocks = 0;

	list_for_each_entry_reverse(epoch, &origin->epochs, list) {
		if (epoch->number < snapshot->epoch)
			break;
		if (epoch->number < end)
			blocks += epoch->live;
	}
	return blocks;
}

static int message_snapshots(struct cow_engine *engine, u32 after, char *result,
			     unsigned int maxlen)
{
	struct cow_snapshot *snapshot;
	unsigned int sz = 0;

	mutex_lock(&engine->control);
	mutex_lock(&engine->mutex);
	list_for_each_entry(snapshot, &engine->store.snapshots, all) {
		if (snapshot->id <= after)
			continue;
		DMEMIT("%u %u %llu %llu %s %u %llu %llu\n", snapshot->id, snapshot->origin->id,
		       snapshot->created, snapshot->set, cow_snapshot_state(snapshot),
		       snapshot->users ? 1 : 0, snapshot_blocks(snapshot),
		       snapshot->overlay ? snapshot->overlay->live : 0ull);
	}
	mutex_unlock(&engine->mutex);
	mutex_unlock(&engine->control);
	return 1;
}

static int message_events(struct cow_engine *engine, u32 after, char *result, unsigned int maxlen)
{
	unsigned int sz = 0;
	u64 number;

	spin_lock(&engine->event_lock);
	number = engine->events > COWSNAP_EVENTS_KEPT ? engine->events - COWSNAP_EVENTS_KEPT : 0;
	for (number = max_t(u64, number, after) + 1; number <= engine->events; number++) {
		const struct cow_event *event = &engine->event[number % COWSNAP_EVENTS_KEPT];

		DMEMIT("%llu %s %llu\n", event->number, event->name, event->id);
	}
	spin_unlock(&engine->event_lock);
	return 1;
}

static int message_list(struct cow_engine *engine, unsigned int argc, char **argv, char *result,
			unsigned int maxlen)
{
	u32 after = 0;

	if (argc > 2 || (argc == 2 && cow_parse_u32(argv[1], 0, COWSNAP_ID_MAX, &after))) {
		DMERR("%s: takes one number at most", argv[0]);
		return -EINVAL;
	}
	if (maxlen)
		result[0] = 0;
	if (!strcmp(argv[0], COWSNAP_MESSAGE_ORIGINS))
		return message_origins(engine, after, result, maxlen);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_SNAPSHOTS))
		return message_snapshots(engine, after, result, maxlen);
	return message_events(engine, after, result, maxlen);
}

int cow_store_message(struct cow_engine *engine, unsigned int argc, char **argv, char *result,
		      unsigned int maxlen)
{
	if (!strcmp(argv[0], COWSNAP_MESSAGE_CREATE))
		return message_create(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_DELETE))
		return message_delete(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_ROLLBACK))
		return message_rollback(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_CANCEL))
		return message_cancel(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_FORGET))
		return message_forget(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_WATCH))
		return message_watch(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_LOST))
		return message_lost(engine, argc, argv);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_LOSS_RECORDED))
		return message_loss_recorded(engine, argc);
	if (!strcmp(argv[0], COWSNAP_MESSAGE_ORIGINS) ||
	    !strcmp(argv[0], COWSNAP_MESSAGE_SNAPSHOTS) ||
	    !strcmp(argv[0], COWSNAP_MESSAGE_EVENTS))
		return message_list(engine, argc, argv, result, maxlen);
	DMERR("unknown message '%s'", argv[0]);
	return -EINVAL;
}
