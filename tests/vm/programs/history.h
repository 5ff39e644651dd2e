// SPDX-License-Identifier: GPL-2.0-or-later
// What a write log tells of an origin and its store: what the origin held when each snapshot was
// made, and that no block was overwritten before its old contents were durable in the store. Knows
// the disk format, but not the engine: nothing is activated here.
#ifndef COWSNAP_VM_HISTORY_H
#define COWSNAP_VM_HISTORY_H

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sim/disks.hpp"
#include "write_log.h"

namespace vmtest {

/// The disks' places in the log.
struct LogRoles {
    unsigned origin = 0;
    unsigned store = 1;
    unsigned notes = 2;  ///< the guest writes there what was acknowledged, a sector each
};

/// Writes to an image that may begin and end in the middle of a block.
void applyTo(sim::StoreImage& image, const LoggedWrite& write);
/// An empty image of a disk.
sim::StoreImage emptyImage(std::uint64_t sectors);

struct LoggedSnapshot {
    sim::StoreImage origin;  ///< what the origin held when it was made
    Instant created_sent = 0;
    Instant created_durable = kNever;
    Instant deleted_sent = kNever;
    Instant deleted_durable = kNever;
    // as the guest was told
    Instant created = kNever;
    Instant deleted = kNever;
};

struct HistoryCounts {
    std::uint64_t origin_writes = 0;
    std::uint64_t guarded_blocks = 0;    ///< written while there was a snapshot
    std::uint64_t preserved_blocks = 0;  ///< found in the store, durable
};

class History {
public:
    /// Reads all of the log. Throws std::runtime_error with what is wrong.
    History(const WriteLog& log, const LogRoles& roles);

    const std::map<std::uint32_t, LoggedSnapshot>& snapshots() const { return snapshots_; }
    /// When the guest had noted that the store is in use.
    Instant ready() const { return ready_; }
    const HistoryCounts& counts() const { return counts_; }

private:
    void sent(const LoggedWrite& write);
    void durable(const LoggedWrite& write);
    void sentToOrigin(const LoggedWrite& write);
    void sentToStore(const LoggedWrite& write);
    void note(const LoggedWrite& write);
    void learnSuper();
    template <typename Visit>
    void forEachJournalOp(const LoggedWrite& write, Visit visit) const;
    void lookForBatch(std::uint64_t block);
    bool publishIfWhole(std::uint64_t header_block);
    void publish(std::uint64_t block, const std::uint8_t* data, Instant header_sent);
    const LoggedSnapshot* newestSnapshot() const;

    LogRoles roles_;
    sim::StoreImage origin_;  ///< all that was sent
    sim::StoreImage store_;   ///< what is durable
    std::vector<std::uint8_t> uuid_;
    std::uint64_t journal_first_ = 0;
    std::uint64_t journal_blocks_ = 0;
    std::uint32_t segment_blocks_ = 0;
    std::map<std::uint64_t, Instant> block_sent_;  ///< of durable blocks of the store
    std::set<std::uint64_t> headers_;              ///< of batches that are not whole yet
    std::map<std::uint64_t, Instant> preserved_;   ///< blocks of the origin, newest batch
    std::map<std::uint32_t, LoggedSnapshot> snapshots_;
    Instant ready_ = kNever;
    Instant now_ = 0;
    HistoryCounts counts_;
};

}  // namespace vmtest

#endif
