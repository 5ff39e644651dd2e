/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the recover*.c files share: the state of one activation. They run in control
 * context, before the store is live; no lock is needed.
 */
#ifndef COW_RECOVER_H
#define COW_RECOVER_H

#include "store.h"

/* One segment of a log, in the order of generations. */
struct cow_found {
	struct cow_log *log;
	u64 generation;
	u64 segment;
	u64 first_sequence; /* 0: nothing valid in it */
	bool unreadable; /* a block of it could not be read, at one time or another */
};

struct cow_loader {
	struct cow_store *store;
	char *image; /* one segment */
	struct cow_found *found; /* all live segments, by log, then generation */
	u64 nr_found;
	u64 ahead; /* of found[], or of the tables: it was said until here that they will be read */
	struct cow_record *records;
	u32 *crc;
	struct list_head discarded; /* segments behind the end of a log */
	/* of the log being read */
	struct cow_bulk bulk; /* the exceptions of an origin, until they are all there */
	u64 first, end; /* its part of found[] */
	u64 expected; /* sequence; 0: any */
	u64 proof; /* all up to here were durable */
	bool proof_known;
	bool lost; /* what is missing may be in the next segment, if that has nothing */
	u64 first_scanned; /* of found[] */
	u32 activation; /* of the last batch taken */
	char *why;
};

/*
 * Reads all logs: records and checksums go to the indexes and segments, logs go on
 * where they ended. 0 or a negative errno, with the reason in @loader->why where
 * there is more to say. Segments behind the end of a log are in @loader->discarded.
 */
int cow_recover_logs(struct cow_loader *loader);

#endif
