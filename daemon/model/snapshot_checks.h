// SPDX-License-Identifier: GPL-2.0-or-later
// What keeps a snapshot from being read, rolled back to or deleted, in one place, so that all who
// refuse something for it say the same. Pure; what it looks at was read before.
#ifndef COWSNAP_MODEL_SNAPSHOT_CHECKS_H
#define COWSNAP_MODEL_SNAPSHOT_CHECKS_H

#include <cstddef>
#include <string>

#include "model/store_state.h"

namespace cowsnap {

/// InvalidArgument if a set cannot have so many members.
void checkSetSize(std::size_t members);

/// Overflowed if it missed writes of its origin.
void checkNotLost(const SnapshotRecord& snapshot, const SnapshotState& state);

/// Busy if somebody has its device open.
void checkNotOpen(const SnapshotRecord& snapshot, const SnapshotState& state);

/// Whether its mapped device is there, and shows something else: someone changed the table.
bool isReplaced(const SnapshotState& state);

/// Busy if it is; such a device is nobody's to remove here.
void checkNotReplaced(const SnapshotRecord& snapshot, const SnapshotState& state);

/// Held, with the commands that release it.
void checkNotHeld(const SnapshotRecord& snapshot);

/// Whether the kernel refuses to delete it for a rollback of its origin: the target of one that is
/// scheduled, target and undo of one that runs.
bool rollbackNeeds(const StoreState& store, const SnapshotRecord& snapshot);

/// What has the rollback of an origin go on that is not attached, in words; empty if it is.
std::string toGoOn(const StoreState& store, const OriginRecord& origin);

/// Busy, with what to do, if a rollback needs it.
void checkNoRollbackNeeds(const StoreState& store, const SnapshotRecord& snapshot);

/// Busy while blocks of the origin are copied back: no snapshot of it is created meanwhile.
void checkNoRollbackRuns(const StoreState& store, const OriginRecord& origin);

}  // namespace cowsnap

#endif
