/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The device-mapper contract of cowsnap: names of the targets, order of the
 * arguments, messages, status lines and events. Kernel module, daemon and
 * tools include this file; it knows nobody. Plain C11 and C++ can include it.
 *
 * Grammar notation: <x> is one word, [x] is optional, x... repeats. Numbers
 * are unsigned decimals without sign or prefix. Devices are paths or
 * major:minor.
 */
#ifndef COWSNAP_DM_H
#define COWSNAP_DM_H

/* ------------------------------------------------------------- targets --- */

#define COWSNAP_TARGET_STORE "cow-store"
#define COWSNAP_TARGET_ORIGIN "cow-origin"
#define COWSNAP_TARGET_SNAP "cow-snap"

/*
 * Version of all three targets. Major: the grammar of old lines changed.
 * Minor: something was added. What each minor version added:
 *
 *   1.0  in-order completion (what is released to the origin is always found
 *        again after a crash), atomic sets, writable snapshots, online
 *        extension, dropping of the oldest snapshots of a full store
 *   1.1  the feature "interpose" of cow-origin, where the kernel can; what was
 *        written to an origin with no cow-origin in front of it is found out: the
 *        state and the event "stale"
 *   1.2  rollback: the messages "rollback" and "cancel", the end of cow-origin's status, the
 *        event "rolled_back"
 *   1.3  the message "watch"
 */
#define COWSNAP_DM_VERSION_MAJOR 1
#define COWSNAP_DM_VERSION_MINOR 3
#define COWSNAP_DM_VERSION_PATCH 0

/* Ids of origins and snapshots: chosen by user space, 1 to COWSNAP_ID_MAX. */
#define COWSNAP_ID_MAX 4294967294u

/* The unit of preserving. */
#define COWSNAP_BLOCK_BYTES 4096u
#define COWSNAP_BLOCK_SECTORS 8u

/* At most this many origins in one "create": what one transaction of the store can hold. */
#define COWSNAP_SET_MAX 1008u

/* At most this many snapshots in one "delete", which is one transaction as well. */
#define COWSNAP_DELETE_MAX 1008u

/* At most this many places are watched in an origin; see "watch". */
#define COWSNAP_WATCH_MAX 64u

/*
 * ---------------------------------------------------------------- tables ---
 *
 * <start> <length> cow-store <dev> <low water> [<#features> <feature>...]
 *
 *   start must be 0. length is how many sectors of <dev> the store uses (at
 *   most the size of dev, at least COWSNAP_STORE_MIN_SECTORS). A device whose
 *   first COWSNAP_STORE_BLANK_SECTORS sectors are zero is formatted; other
 *   unknown content is refused. A reload with a greater length extends the
 *   store; with a smaller one it is refused.
 *   low water: an event is raised when fewer segments than this are free.
 *   Features:
 *     full_wait_ms <n>   how long a write to an origin may wait for room in
 *                        a full store before the oldest snapshots of that
 *                        origin are dropped (default 10000, at most
 *                        COWSNAP_FULL_WAIT_MAX_MS)
 *     loss_wait_ms <n>   how long writes to the origins of a store that fails,
 *                        and on which that cannot be recorded, may wait for
 *                        the message "loss_recorded" (default 10000, at most
 *                        COWSNAP_LOSS_WAIT_MAX_MS)
 *     segment_sectors <n> only when formatting: sectors of a segment, a power
 *                        of two, 128 (64 KiB) to 2048 (1 MiB, the default)
 *
 *   The contents of the device are the two slots for the metadata of user
 *   space (cowsnap_disk.h); what lies behind them reads as zeros and refuses
 *   writes.
 *
 * <start> <length> cow-origin <store> <origin id> <origin dev> [<#features> ...]
 *
 *   start must be 0, length must be the size of <origin dev>. An id that the
 *   store does not know is registered with this size; a known id must have
 *   the same size. If <origin dev> has grown since, an id that is known can
 *   still be interposed with its size, or stacked for its rollback: what lies
 *   behind that is passed, and in no snapshot. Features:
 *     interpose          <origin dev> is in use and stays so: what is written to
 *                        it, by whomever, is preserved. The cow-origin's own
 *                        device reads as zeros and takes no writes. (Default:
 *                        <origin dev> must not be in use, and the cow-origin's
 *                        device is used in its place.)
 *
 * <start> <length> cow-snap <store> <snapshot id> [<#features> <feature>...]
 *
 *   start must be 0, length the size of the snapshot's origin, whose
 *   cow-origin must be there. One cow-snap for each snapshot. Features:
 *     read_only          writes are refused (default: writes go to the
 *                        snapshot's overlay)
 */
#define COWSNAP_FEATURE_FULL_WAIT_MS "full_wait_ms"
#define COWSNAP_FEATURE_LOSS_WAIT_MS "loss_wait_ms"
#define COWSNAP_FEATURE_SEGMENT_SECTORS "segment_sectors"
#define COWSNAP_FEATURE_READ_ONLY "read_only"
#define COWSNAP_FEATURE_INTERPOSE "interpose"

#define COWSNAP_FULL_WAIT_DEFAULT_MS 10000u
#define COWSNAP_FULL_WAIT_MAX_MS 3600000u
#define COWSNAP_LOSS_WAIT_DEFAULT_MS 10000u
#define COWSNAP_LOSS_WAIT_MAX_MS 3600000u

#define COWSNAP_STORE_MIN_SECTORS 16384u /* 8 MiB */
#define COWSNAP_STORE_BLANK_SECTORS 256u /* 128 KiB */

/*
 * -------------------------------------------------------------- messages ---
 *
 * All go to the cow-store (dmsetup message <store> 0 <message>). A message
 * that returns 0 has been made durable. Errors: EINVAL grammar, ENOENT
 * unknown id, EEXIST id in use, EBUSY open, attached or being worked on,
 * ENOSPC no room, EIO the store fails, E2BIG too many at once; the cause is in the
 * kernel's log.
 *
 * create <snapshot id> <origin id> [<snapshot id> <origin id>]...
 *     Snapshots of these origins at one instant (at most COWSNAP_SET_MAX). File
 *     systems mounted on the origins are frozen meanwhile, in this order: name one
 *     on a loop device before that which has the loop device's file, or its freeze
 *     waits for the other one's thaw, for ever.
 * delete <snapshot id>...
 *     All or none (at most COWSNAP_DELETE_MAX). EBUSY when one has a cow-snap, or a
 *     rollback needs it.
 * rollback <origin id> <snapshot id> <undo snapshot id> [force] [schedule]
 *     The origin goes back to the snapshot. Its device shows that when the message
 *     returns, with what was written to the snapshot, and can be used; blocks are
 *     copied back meanwhile. What was there before is in the undo snapshot, which is
 *     made with it. The device must not be in use: what is mounted or cached would be
 *     of another state; whoever sends this has to see to it. Until the end the two
 *     snapshots cannot be deleted, and none of the origin be made, and the
 *     origin's own device is not to be used by itself (it begins with a marker).
 *     The rest of a rollback that was interrupted begins with the next resuming
 *     of the cow-origin.
 *     schedule: not now, but when the origin is attached the next time.
 *     force: although the snapshot is stale.
 *     EBUSY: the snapshot has a cow-snap, or the origin a rollback; EOPNOTSUPP: the origin
 *     is interposed (it can be scheduled; the origin must be stacked for it); ESTALE:
 *     not forced; EUCLEAN: the snapshot is lost or damaged.
 * cancel <origin id>
 *     Of a scheduled rollback: it is not. Of one that runs: the origin goes back to
 *     the undo snapshot, in the same way and as quickly; what was written since is
 *     gone. That cannot be cancelled again. ENOENT: there is none.
 * watch <origin id> <sector>[:raw]...
 *     In these sectors of the origin (at most COWSNAP_WATCH_MAX, all those of other
 *     messages included, which stay) begins what is written as a device of its own:
 *     partitions, volumes. From the next create on, what mounts or repairs a file
 *     system there while no cow-origin is in front is found out, as it is at the
 *     beginning of the origin. raw: it is encrypted, any change counts. Those that are
 *     watched already are passed over. ENODEV: there is no cow-origin of the origin;
 *     ENOSPC: too many, none is taken.
 * forget <origin id>
 *     Drops an origin's registration. EBUSY with snapshots, cow-snaps or a cow-origin.
 * loss_recorded
 *     After the event "unrecorded": its number has been written, durably, where
 *     the next activation of this store finds it. The origins go on. EINVAL
 *     when the store has not failed.
 * lost <last set>
 *     All snapshots with a set of at most <last set> are not exact any more: the
 *     store missed writes. For a store that comes back after "unrecorded", before
 *     its origins are attached. Saying it again does no harm. (Until the module
 *     is unloaded, it remembers and does this by itself.)
 * origins [<after id>]
 *     Answers a line for each origin with an id greater than <after id>:
 *     <origin id> <size in sectors> <attached 0|1> <snapshots>
 * snapshots [<after id>]
 *     Answers a line for each snapshot with an id greater than <after id>, in
 *     the order of ids:
 *     <snapshot id> <origin id> <created> <set> <state> <open 0|1>
 *         <blocks> <overlay blocks>
 *     created: seconds since 1970; set: number of the create that made it,
 *     equal for all members; state: one of COWSNAP_STATE_*; blocks: preserved
 *     in the time between this snapshot and the next one, and still needed.
 * events [<after number>]
 *     Answers a line for each remembered event (at most COWSNAP_EVENTS_KEPT) with
 *     a greater number, oldest first:
 *     <number> <event> <id>
 */
#define COWSNAP_MESSAGE_CREATE "create"
#define COWSNAP_MESSAGE_DELETE "delete"
#define COWSNAP_MESSAGE_ROLLBACK "rollback"
#define COWSNAP_MESSAGE_CANCEL "cancel"
#define COWSNAP_MESSAGE_FORGET "forget"
#define COWSNAP_MESSAGE_WATCH "watch"
#define COWSNAP_WATCH_RAW ":raw"
#define COWSNAP_MESSAGE_LOSS_RECORDED "loss_recorded"
#define COWSNAP_MESSAGE_LOST "lost"
#define COWSNAP_MESSAGE_ORIGINS "origins"
#define COWSNAP_MESSAGE_SNAPSHOTS "snapshots"
#define COWSNAP_MESSAGE_EVENTS "events"

#define COWSNAP_ROLLBACK_FORCE "force"
#define COWSNAP_ROLLBACK_SCHEDULE "schedule"

#define COWSNAP_STATE_ACTIVE "active"
/* Its origin was written with nothing in front of it: not exact; it reads what is there. */
#define COWSNAP_STATE_STALE "stale"
#define COWSNAP_STATE_DAMAGED "damaged" /* some blocks read as EIO */
#define COWSNAP_STATE_LOST "lost" /* not exact any more: reads are EIO */

/* Events. Each also raises the event counter of the cow-store's device. */
#define COWSNAP_EVENTS_KEPT 64u
#define COWSNAP_EVENT_LOW_WATER "low_water" /* id: free segments */
#define COWSNAP_EVENT_FULL "full" /* id: the origin that waits */
#define COWSNAP_EVENT_DROPPED "dropped" /* id: the snapshot dropped for room */
#define COWSNAP_EVENT_DAMAGE "damage" /* id: an origin with damage */
#define COWSNAP_EVENT_STALE "stale" /* id: an origin; its snapshots until now are */
#define COWSNAP_EVENT_ROLLED_BACK "rolled_back" /* id: an origin; all is copied back */
#define COWSNAP_EVENT_ROLLBACK_WAITS "rollback_waits" /* id: an origin; see its status */
#define COWSNAP_EVENT_FAILED "failed" /* id: 0; the store fails */
/* The store fails and cannot be told that its snapshots are lost; id: last set */
#define COWSNAP_EVENT_UNRECORDED "unrecorded"

/*
 * ---------------------------------------------------------------- status ---
 *
 * STATUSTYPE_INFO, words separated by one space:
 *
 * cow-store:
 *   <uuid> <state> <segment sectors> <free>/<total segments> <slot sectors>
 *   <origins> <snapshots> <last event number> <damaged blocks>
 *
 *   uuid: the store's, 36 characters. state: COWSNAP_STORE_*. slot sectors: size
 *   of one metadata slot; slot 0 starts at sector 0, slot 1 behind it.
 *
 * cow-origin:
 *   <origin id> <snapshots> <preserved blocks> <waiting bios> <read blocks>
 *       <rollback> <target> <undo> <done blocks>/<blocks>
 *
 *   preserved blocks: in the current epoch; read blocks: 4 KiB blocks read
 *   from the origin for preserving since the target was loaded; rollback: one of
 *   COWSNAP_ROLLBACK_*; target, undo: ids of its snapshots, or 0 (undo is 0 while a
 *   rollback is being cancelled); done blocks: how far copying back has come.
 *
 * cow-snap:
 *   <state> <origin id> <ro|rw> <overlay blocks>
 *
 * STATUSTYPE_TABLE repeats the table line with all features that are set.
 */
#define COWSNAP_ROLLBACK_NONE "none"
#define COWSNAP_ROLLBACK_SCHEDULED "scheduled"
#define COWSNAP_ROLLBACK_RUNNING "running"
/* It tries again every few seconds: a block cannot be read or written, or the store fails. */
#define COWSNAP_ROLLBACK_WAITING "waiting"

#define COWSNAP_STORE_ACTIVE "active"
#define COWSNAP_STORE_FULL "full" /* writes are waiting for room */
#define COWSNAP_STORE_FAILED "failed" /* the device fails; see the events */

/*
 * Device-mapper UUIDs of devices made by the daemon:
 * COWSNAP-<32 hex digits of the store's, origin's or snapshot's uuid>-<role>
 */
#define COWSNAP_DM_UUID_PREFIX "COWSNAP-"
#define COWSNAP_DM_ROLE_STORE "store"
#define COWSNAP_DM_ROLE_DATA "data" /* the devices of a store, concatenated */
#define COWSNAP_DM_ROLE_ORIGIN "origin"
#define COWSNAP_DM_ROLE_SNAPSHOT "snapshot"

#endif
