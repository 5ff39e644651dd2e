// SPDX-License-Identifier: GPL-2.0-or-later
// Finding out whether a store is right. The verdict is the engine's own: it is activated on a
// shadow, so nothing is written. What it refuses or misses is then looked for block by block, to
// give it a name and a place.
#ifndef COWSNAP_STORE_CHECK_H
#define COWSNAP_STORE_CHECK_H

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "base/uuid.h"
#include "store/blocks.h"

namespace cowsnap::store {

/// Something that is not as it should be.
struct Finding {
    /// Damage: something is lost. Otherwise only a second copy is, or what nobody needs any more;
    /// that cannot be told from what a power cut leaves, and the next use of the store mends it.
    bool damage = false;
    std::string structure;    ///< "superblock", "control record", "segment table", ...
    std::uint64_t block = 0;  ///< of the store
    std::string what;
    std::vector<std::uint32_t> snapshots;  ///< ids of those that it touches
};

struct SnapshotFact {
    std::uint32_t id = 0;
    std::uint32_t origin = 0;
    std::string name;    ///< empty if the metadata does not have it
    bool lost = false;   ///< recorded as not exact: the store failed once
    bool stale = false;  ///< recorded as not exact: its origin was written unseen
};

/// A rollback that is recorded: nothing is wrong with that.
struct RollbackFact {
    std::uint32_t origin = 0;
    std::uint32_t target = 0;  ///< the snapshot that the origin goes back to
    bool scheduled = false;    ///< it has not begun
    std::uint64_t done_blocks = 0;
    std::uint64_t blocks = 0;  ///< of the origin
};

struct Report {
    Uuid uuid;
    std::uint64_t store_blocks = 0;
    std::uint32_t segment_blocks = 0;
    std::uint64_t segments = 0;
    std::uint64_t free_segments = 0;  ///< 0 unless the store activates
    std::uint64_t origins = 0;
    std::vector<SnapshotFact> snapshots;
    std::vector<RollbackFact> rollbacks;
    bool activates = false;
    std::string refusal;  ///< why not
    bool data_checked = false;
    std::uint64_t data_blocks = 0;  ///< that were checked
    std::vector<Finding> findings;

    /// No damage: the store activates and all snapshots are exact.
    bool passed() const;
    std::uint64_t damages() const;
};

/// Called now and then with how many of how many blocks were looked at.
using Progress = std::function<void(std::uint64_t done, std::uint64_t total)>;

struct CheckOptions {
    bool data = false;  ///< compare all data that a snapshot may return with its checksum
    Progress progress;
};

/// Throws Error: NotFound if there is no store, NotSupported if it is of an unknown version,
/// Failed if the first blocks cannot be read.
Report check(Blocks& blocks, const CheckOptions& options = {});

}  // namespace cowsnap::store

#endif
