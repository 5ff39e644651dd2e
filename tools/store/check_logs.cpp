// SPDX-License-Identifier: GPL-2.0-or-later
// Batches, summaries and data: where what the engine misses should be, and what a read of a
// snapshot would find damaged.
#include <algorithm>
#include <array>
#include <map>
#include <set>
#include <tuple>

#include "base/error.h"
#include "store/check_parts.h"

namespace cowsnap::store {

namespace {

u32 usableBlocks(const cow_super& super) {
    return super.segment_blocks - COWSNAP_SUMMARY_BLOCKS(super.segment_blocks);
}

/// A segment as it is on the blocks; what cannot be read is zero.
struct SegmentImage {
    std::vector<std::byte> bytes;
    std::vector<int> errors;

    const std::byte* at(u32 position) const { return bytes.data() + position * kBlockBytes; }
};

SegmentImage readSegment(Blocks& blocks, const cow_super& super, u64 number) {
    const std::uint64_t first = cow_super_segment_block(&super, number);
    SegmentImage image{std::vector<std::byte>(super.segment_blocks * kBlockBytes),
                       std::vector<int>(super.segment_blocks)};
    if (!blocks.read(first, super.segment_blocks, image.bytes.data()))
        return image;
    for (u32 i = 0; i < super.segment_blocks; ++i) {
        std::byte* at = image.bytes.data() + i * kBlockBytes;
        image.errors[i] = blocks.read(first + i, 1, at);
        if (image.errors[i])
            std::fill_n(at, kBlockBytes, std::byte{0});
    }
    return image;
}

/// The header of a batch of this allocation of the segment at position.
cow_check headerAt(const SegmentImage& image, const cow_super& super, u64 number,
                   const cow_owner& owner, u32 position, cow_batch_info& info) {
    const cow_check check =
        cow_batch_decode(image.at(position), super.uuid, super.segment_blocks, &info);
    if (check != COW_VALID)
        return check;
    const bool right = info.segment == number && info.generation == owner.generation &&
                       info.position == position && info.epoch == owner.epoch &&
                       info.origin == owner.origin;
    return right ? COW_VALID : COW_STALE;
}

struct Hole {
    u32 position = 0;
    std::string what;
};

/// Positions where a batch should begin and none does, in front of one that does, or at the end if
/// something is known to be missing behind the last one.
std::vector<Hole> holesIn(const SegmentImage& image, const cow_super& super, u64 number,
                          const cow_owner& owner, bool end_missing) {
    std::vector<Hole> holes;
    const u32 usable = usableBlocks(super);
    cow_batch_info last{};
    // headers that a former activation left behind the end of the log are none of it
    const auto follows = [&](u32 position, cow_batch_info& info) {
        return headerAt(image, super, number, owner, position, info) == COW_VALID &&
               info.sequence > last.sequence && info.activation >= last.activation;
    };
    u32 position = 0;
    while (position < usable) {
        cow_batch_info info{};
        if (follows(position, info)) {
            position += 1U + info.blocks;
            last = info;
            continue;
        }
        const cow_check check = headerAt(image, super, number, owner, position, info);
        u32 next = position + 1;
        while (next < usable && !follows(next, info))
            ++next;
        if (next < usable || end_missing)
            holes.push_back({position, faultText(image.errors[position],
                                                 check == COW_VALID ? COW_STALE : check)});
        if (next == usable)
            break;
        position = next;
    }
    return holes;
}

bool summaryAt(Blocks& blocks, const cow_super& super, u64 number, const cow_owner& owner,
               cow_check& check, int& error) {
    std::array<cow_record, 256> records{};
    std::array<u32, 256> crcs{};
    cow_summary_info info{};
    const ReadBlock read =
        readBlocks(blocks, cow_super_segment_block(&super, number) + usableBlocks(super),
                   COWSNAP_SUMMARY_BLOCKS(super.segment_blocks));
    error = read.error;
    check = cow_summary_decode(read.bytes.data(), super.segment_blocks, super.uuid, &info,
                               records.data(), crcs.data());
    if (check == COW_VALID && (info.segment != number || info.generation != owner.generation ||
                               info.epoch != owner.epoch || info.origin != owner.origin))
        check = COW_STALE;
    return !error && check == COW_VALID;
}

/// A log: the origin, and the epoch if it is an overlay's.
using LogKey = std::tuple<u32, bool, u64>;
/// Its segments by generation.
using Logs = std::map<LogKey, std::map<u64, u64>>;

Logs logsOf(const cow_store& store) {
    Logs logs;
    for (u64 number = 0; number < store.nr_segments; ++number) {
        const cow_segment& segment = store.segments[number];
        if (segment.state == COW_SEGMENT_FREE || !ownerLives(store, segment.owner))
            continue;
        const bool overlay = segment.owner.kind == COWSNAP_OWNER_OVERLAY;
        logs[{segment.owner.origin, overlay, overlay ? segment.owner.epoch : 0}]
            [segment.owner.generation] = number;
    }
    return logs;
}

/// Summaries stand in the order of the log: one that is missing in front of another is damaged.
void checkSummaries(Checker& checker, const cow_store& store) {
    for (const auto& [key, segments] : logsOf(store)) {
        std::vector<Finding> missing;
        for (const auto& [generation, number] : segments) {
            cow_check check = COW_VALID;
            int error = 0;
            if (summaryAt(checker.blocks, checker.super, number, store.segments[number].owner,
                          check, error)) {
                for (auto& finding : missing)
                    checker.report.findings.push_back(std::move(finding));
                missing.clear();
                continue;
            }
            missing.push_back(
                {false,
                 "summary",
                 cow_super_segment_block(&checker.super, number) + usableBlocks(checker.super),
                 fmt::format("of segment {}: {}; its batches are read instead", number,
                             faultText(error, check)),
                 {}});
        }
    }
}

/// A block that an index points to.
struct Use {
    cow_origin* origin = nullptr;
    cow_overlay* overlay = nullptr;
    u64 block = 0;
};

/// Visits all blocks of an index; see cow_index_filter().
template <typename Visit>
void eachBlock(cow_index& index, Visit visit) {
    const auto visitor = [](void* context, u64 chunk, u64, u64 base, u16 bits) -> u16 {
        for (u32 i = 0; i < COW_CHUNK_BLOCKS; ++i)
            if (bits >> i & 1)
                (*static_cast<Visit*>(context))(chunk * COW_CHUNK_BLOCKS + i, base + i);
        return bits;
    };
    for (u64 chunk = 0; chunk != COW_NOT_FOUND;)
        chunk = cow_index_filter(&index, chunk, 4096, visitor, &visit);
}

template <typename Visit>
void eachUse(const cow_store& store, Visit visit) {
    for (cow_origin* origin : originsOf(store)) {
        eachBlock(origin->index, [&](u64 block, u64 location) {
            visit(Use{origin, nullptr, block}, location);
        });
        for (cow_snapshot* snapshot : snapshotsOf(*origin))
            if (snapshot->overlay)
                eachBlock(snapshot->overlay->index, [&](u64 block, u64 location) {
                    visit(Use{origin, snapshot->overlay, block}, location);
                });
        if (cow_overlay* shown = cow_rollback_overlay(origin))
            eachBlock(shown->index, [&](u64 block, u64 location) {
                visit(Use{origin, shown, block}, location);
            });
    }
}

bool reads(cow_store& store, cow_snapshot* snapshot, u64 block, u64 location) {
    cow_where where{};
    u64 found = COW_NOT_FOUND;
    cow_snapshot_lookup(snapshot, block, 1, &where, &found);
    if (where != COW_AT_STORE)
        return false;
    cow_store_unpin(&store, found);
    return found == location;
}

/// The snapshots that read block at location.
std::vector<std::uint32_t> readersOf(cow_store& store, const Use& use, u64 location) {
    std::vector<std::uint32_t> ids;
    for (cow_snapshot* snapshot : snapshotsOf(*use.origin))
        if (reads(store, snapshot, use.block, location))
            ids.push_back(snapshot->id);
    return ids;
}

/// Whether the origin's own device reads block at location.
bool rollbackReads(cow_store& store, const Use& use, u64 location) {
    cow_rollback& rollback = use.origin->rollback;
    return cow_rollback_shows(&rollback, use.block) &&
           reads(store, &rollback.shown, use.block, location);
}

const char* writtenWhere(const Use& use) {
    if (use.overlay == nullptr)
        return "";
    return use.overlay == cow_rollback_overlay(use.origin) ? ", as written during its rollback"
                                                           : ", as written in the snapshot";
}

bool unreadable(const cow_segment& segment, u32 position) {
    return segment.sums->unreadable[position / 64] >> (position % 64) & 1;
}

}  // namespace

void checkLogs(Checker& checker, Engine& engine) {
    const cow_store& store = engine.get();
    std::set<u64> segments(engine.damagedSegments().begin(), engine.damagedSegments().end());
    for (const u64 number : segments) {
        const cow_owner& owner = store.segments[number].owner;
        const auto snapshots = snapshotsUsing(store, owner);
        const SegmentImage image = readSegment(checker.blocks, checker.super, number);
        const std::uint64_t first = cow_super_segment_block(&checker.super, number);
        const auto holes = holesIn(image, checker.super, number, owner, true);
        for (const auto& hole : holes)
            checker.add(
                true, "batch", first + hole.position,
                fmt::format("at block {} of segment {}: {}", hole.position, number, hole.what),
                snapshots);
        if (holes.empty())
            checker.add(true, "log", first,
                        fmt::format("batches that follow those in segment {} are missing", number),
                        snapshots);
    }
    checkSummaries(checker, store);
    for (const auto& snapshot : checker.report.snapshots) {
        if (snapshot.stale)
            checker.add(false, "control record", checker.super.control_block,
                        fmt::format("snapshot {} is recorded as stale: its origin was written "
                                    "while nothing was in front of it, or its device became "
                                    "smaller",
                                    snapshot.id),
                        {snapshot.id});
        if (snapshot.lost)
            checker.add(false, "control record", checker.super.control_block,
                        fmt::format("snapshot {} is recorded as lost: the store failed while it "
                                    "existed; reads of it are errors",
                                    snapshot.id),
                        {snapshot.id});
    }
}

void checkData(Checker& checker, Engine& engine) {
    cow_store& store = engine.get();
    // One bit a block of the store: an index of what is needed would not fit into memory.
    std::vector<bool> needed(checker.blocks.size());
    std::uint64_t total = 0;
    eachUse(store, [&](const Use&, u64 location) {
        total += !needed[location];
        needed[location] = true;
    });
    std::map<u64, std::string> damaged;
    for (u64 number = 0; number < store.nr_segments; ++number) {
        const cow_segment& segment = store.segments[number];
        if (segment.state == COW_SEGMENT_FREE || !segment.sums || !ownerLives(store, segment.owner))
            continue;
        const SegmentImage image = readSegment(checker.blocks, checker.super, number);
        const std::uint64_t first = cow_super_segment_block(&checker.super, number);
        for (u32 position = 0; position < usableBlocks(checker.super); ++position) {
            if (!needed[first + position] || unreadable(segment, position))
                continue;
            ++checker.report.data_blocks;
            if (image.errors[position])
                damaged[first + position] = faultText(image.errors[position], COW_VALID);
            else if (cow_crc32c(0, image.at(position), kBlockBytes) != segment.sums->crc[position])
                damaged[first + position] = faultText(0, COW_CORRUPT);
        }
        if (segment.summarized)
            for (const auto& hole : holesIn(image, checker.super, number, segment.owner, false))
                checker.add(false, "batch", first + hole.position,
                            fmt::format("at block {} of segment {}: {}; the segment's summary "
                                        "has what it says",
                                        hole.position, number, hole.what));
        if (checker.options.progress)
            checker.options.progress(checker.report.data_blocks, total);
    }
    checker.report.data_checked = true;
    if (damaged.empty())
        return;
    eachUse(store, [&](const Use& use, u64 location) {
        const auto found = damaged.find(location);
        if (found == damaged.end())
            return;
        auto readers = readersOf(store, use, location);
        if (!readers.empty() || rollbackReads(store, use, location))
            checker.add(true, "data", location,
                        fmt::format("block {} of origin {}{}: {}", use.block, use.origin->id,
                                    writtenWhere(use), found->second),
                        std::move(readers));
    });
}

}  // namespace cowsnap::store
