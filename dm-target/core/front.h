/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who is in front of an origin, and whether the origin was written while nobody was:
 * what is recorded, what can be seen, and what follows from both. Pure functions;
 * any context. front.c says why it is right.
 */
#ifndef COW_FRONT_H
#define COW_FRONT_H

#include "platform.h"

/*
 * Where in an origin something begins that is written as a device of its own: a
 * partition of a disk, a logical volume of a physical one.
 */
struct cow_place {
	u64 sector;
	bool raw; /* encrypted: no file system can be told there */
};

/*
 * What the control record says about who is in front of an origin. A cow-origin
 * that comes in front compares it with what it sees of the device (see front.c).
 */
enum cow_front_state {
	COW_FRONT_UNKNOWN = 0, /* nobody ever was */
	COW_FRONT_IN, /* a cow-origin is, or was when the machine stopped */
	COW_FRONT_LEFT, /* nobody is */
};

struct cow_front {
	u8 state; /* enum cow_front_state */
	u64 print[2]; /* IN: each half of the origin's narrow fingerprint is of one of them */
	u64 watched[2]; /* the places' fingerprints. IN: narrow, one of them; LEFT: [0], wide */
	u64 wide; /* LEFT: fingerprint */
	u64 instance; /* LEFT: of the device, another one each time that it appears */
	u64 written; /* LEFT: sectors, since it appeared; COWSNAP_NONE: not counted */
};

/* What can be seen of an origin's device. */
struct cow_sight {
	u64 print; /* narrow fingerprint */
	u64 wide; /* fingerprint */
	u64 watched; /* the places' fingerprint, narrow or wide as the record's */
	u64 instance; /* see above */
	u64 written;
};

/* The halves of a narrow fingerprint, and the sectors that they are of. */
#define COW_PRINT_XFS 0xffffffff00000000ull
#define COW_PRINT_EXT 0x00000000ffffffffull
#define COW_PRINT_XFS_SECTOR 0u
#define COW_PRINT_EXT_SECTOR 2u
#define COW_PRINT_SECTORS 3u

/* The halves of a narrow fingerprint, of 512 bytes from their sector. */
u64 cow_front_print_xfs(const void *sector);
u64 cow_front_print_ext(const void *sector);
/* The same of a place, from whose first sector on @sector counts: COW_PRINT_*_SECTOR. */
u64 cow_front_print_place(const void *bytes, u32 sector, bool raw);
/* The fingerprint of places, 0 for none, with one more; not COWSNAP_NONE. */
u64 cow_front_fold(u64 fold, u64 sector, u64 print);
/* Is each half in @mask that of one of the two that are recorded? */
bool cow_front_allows(const u64 *recorded, u64 print, u64 mask);
/* Has the origin, seen so, been written with nothing in front of it? Why, or NULL. */
const char *cow_front_verdict(const struct cow_front *front, const struct cow_sight *sight);

#endif
