// SPDX-License-Identifier: GPL-2.0-or-later
// The parts of a check, each of which adds findings to the report. Also what repair needs to know
// about single structures.
#ifndef COWSNAP_STORE_CHECK_PARTS_H
#define COWSNAP_STORE_CHECK_PARTS_H

#include <optional>
#include <string>
#include <vector>

#include "meta/slot_format.h"
#include "store/check.h"
#include "store/engine.h"

namespace cowsnap::store {

struct Checker {
    Blocks& blocks;
    Report& report;
    CheckOptions options;
    cow_super super{};

    void add(bool damage, std::string structure, std::uint64_t block, std::string what,
             std::vector<std::uint32_t> snapshots = {});
};

/// A block, zeros if it cannot be read.
struct ReadBlock {
    std::vector<std::byte> bytes;
    int error = 0;
};
ReadBlock readBlocks(Blocks& blocks, std::uint64_t block, std::uint64_t count = 1);

/// "wrong checksum", or how reading failed.
std::string faultText(int error, cow_check check);

/// Both copies of the superblock. chosen: the engine took one of them.
void checkSupers(Checker& checker, bool chosen);

/// A metadata slot.
struct Slot {
    SlotHeader header;
    std::string body;
};
std::vector<Slot> readSlots(Blocks& blocks, const cow_super& super);
/// The one that is valid and newest.
const Slot* newestSlot(const std::vector<Slot>& slots);
/// Whether the daemon would refuse them.
bool slotsUnusable(const std::vector<Slot>& slots);
void checkSlots(Checker& checker, const std::vector<Slot>& slots);

/// Checkpoints and journal. proven: what is, if the engine refused them, else nullptr.
void checkControl(Checker& checker, cow_store* proven);

/// A table block of which no copy is valid.
struct LostTable {
    std::uint64_t block = 0;
    std::uint64_t first_segment = 0;
    std::uint32_t count = 0;
    std::string what;
};
std::vector<LostTable> lostTables(Blocks& blocks, const cow_super& super);
void checkTables(Checker& checker, const cow_store& control);

/// What is known of segments whose owners are not.
struct SegmentTraces {
    std::uint64_t generation = 0;          ///< the highest seen
    std::vector<std::uint32_t> snapshots;  ///< that may have had blocks there
};
SegmentTraces tracesIn(Blocks& blocks, const cow_store& control, const LostTable& table);

/// Whether the segment belongs to a log of a snapshot that exists, or of a rollback that runs.
/// control: with control record.
bool ownerLives(const cow_store& control, const cow_owner& owner);
/// The snapshots that need what stands in a segment of this owner.
std::vector<std::uint32_t> snapshotsUsing(const cow_store& control, const cow_owner& owner);

/// What the engine found missing in logs when it was opened, and summaries.
void checkLogs(Checker& checker, Engine& engine);
/// Data of all blocks that a snapshot may return, and what only a scan needs.
void checkData(Checker& checker, Engine& engine);

}  // namespace cowsnap::store

#endif
