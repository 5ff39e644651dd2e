// SPDX-License-Identifier: GPL-2.0-or-later
// The words that cowsnap's targets and this side exchange: table and status
// lines, messages and their answers, as proto/cowsnap_dm.h defines them. Text to
// structures and back; knows nothing of ioctls or devices.
#ifndef COWSNAP_DM_LINES_H
#define COWSNAP_DM_LINES_H

#include <algorithm>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/uuid.h"
#include "cowsnap_dm.h"

namespace cowsnap {

// Parsers throw Error (Failed) that names the line and the word that is wrong.
// Status lines may have more words at the end: a newer minor version of the
// module adds them there. Everything else must match exactly.

/// Status of a cow-store.
struct StoreStatus {
    Uuid uuid;
    std::string state;  ///< COWSNAP_STORE_*
    std::uint64_t segment_sectors = 0;
    std::uint64_t free_segments = 0;
    std::uint64_t total_segments = 0;
    std::uint64_t slot_sectors = 0;
    std::uint64_t origins = 0;
    std::uint64_t snapshots = 0;
    std::uint64_t last_event = 0;
    std::uint64_t damaged_blocks = 0;
    std::uint64_t usedSegments() const {
        return total_segments - std::min(total_segments, free_segments);
    }
    bool operator==(const StoreStatus&) const = default;
};
StoreStatus parseStoreStatus(std::string_view line);

/// Status of a cow-origin.
struct OriginStatus {
    std::uint32_t id = 0;
    std::uint64_t snapshots = 0;
    std::uint64_t preserved_blocks = 0;
    std::uint64_t waiting_bios = 0;
    std::uint64_t read_blocks = 0;
    std::string rollback = COWSNAP_ROLLBACK_NONE;  ///< COWSNAP_ROLLBACK_*; modules before 1.2: none
    std::uint32_t target = 0;                      ///< of the rollback: the snapshot it goes to
    std::uint32_t undo = 0;         ///< the snapshot of what was before; 0 if it is being cancelled
    std::uint64_t done_blocks = 0;  ///< that are copied back
    std::uint64_t blocks = 0;       ///< of the origin
    bool operator==(const OriginStatus&) const = default;
};
OriginStatus parseOriginStatus(std::string_view line);

/// Status of a cow-snap.
struct SnapStatus {
    std::string state;  ///< COWSNAP_STATE_*
    std::uint32_t origin = 0;
    bool read_only = false;
    std::uint64_t overlay_blocks = 0;
    bool operator==(const SnapStatus&) const = default;
};
SnapStatus parseSnapStatus(std::string_view line);

/// Arguments of a cow-store.
struct StoreTable {
    std::string device;
    std::uint64_t low_water_segments = 0;
    std::optional<std::uint64_t> full_wait_ms;
    std::optional<std::uint64_t> loss_wait_ms;
    std::optional<std::uint64_t> segment_sectors;
    bool operator==(const StoreTable&) const = default;
};
StoreTable parseStoreTable(std::string_view line);
std::string formatTable(const StoreTable& table);

/// Arguments of a cow-origin.
struct OriginTable {
    std::string store;
    std::uint32_t id = 0;
    std::string device;
    bool interpose = false;
    bool operator==(const OriginTable&) const = default;
};
OriginTable parseOriginTable(std::string_view line);
std::string formatTable(const OriginTable& table);

/// Arguments of a cow-snap.
struct SnapTable {
    std::string store;
    std::uint32_t id = 0;
    bool read_only = false;
    bool operator==(const SnapTable&) const = default;
};
SnapTable parseSnapTable(std::string_view line);
std::string formatTable(const SnapTable& table);

/// A line of the answer to "origins".
struct OriginLine {
    std::uint32_t id = 0;
    std::uint64_t size_sectors = 0;
    bool attached = false;
    std::uint64_t snapshots = 0;
    bool operator==(const OriginLine&) const = default;
};
std::vector<OriginLine> parseOriginsAnswer(std::string_view answer);

/// A line of the answer to "snapshots".
struct SnapshotLine {
    std::uint32_t id = 0;
    std::uint32_t origin = 0;
    std::uint64_t created = 0;  ///< seconds since 1970
    std::uint64_t set = 0;
    std::string state;  ///< COWSNAP_STATE_*
    bool open = false;
    std::uint64_t blocks = 0;
    std::uint64_t overlay_blocks = 0;
    bool operator==(const SnapshotLine&) const = default;
};
std::vector<SnapshotLine> parseSnapshotsAnswer(std::string_view answer);

/// A line of the answer to "events".
struct EventLine {
    std::uint64_t number = 0;
    std::string event;  ///< COWSNAP_EVENT_*, or one that a newer module has
    std::uint64_t id = 0;
    bool operator==(const EventLine&) const = default;
};
std::vector<EventLine> parseEventsAnswer(std::string_view answer);

/// "create" of snapshots (first) of origins (second).
std::string createMessage(
    std::span<const std::pair<std::uint32_t, std::uint32_t>> snapshots_of_origins);
/// "delete" of snapshots.
std::string deleteMessage(std::span<const std::uint32_t> snapshots);
/// A message as an error shows it: not with all of a thousand ids.
std::string briefMessage(std::string_view message);
/// "rollback" of an origin to one of its snapshots; what is there before becomes the snapshot undo.
std::string rollbackMessage(std::uint32_t origin, std::uint32_t target, std::uint32_t undo,
                            bool force, bool schedule);
/// "cancel" of an origin's rollback.
std::string cancelMessage(std::uint32_t origin);
/// "watch" of sectors of an origin (first), of which some are encrypted (second).
std::string watchMessage(std::uint32_t origin,
                         std::span<const std::pair<std::uint64_t, bool>> places);
/// "forget" of an origin.
std::string forgetMessage(std::uint32_t origin);
/// "lost": all snapshots with a set of at most this one.
std::string lostMessage(std::uint64_t last_set);

}  // namespace cowsnap

#endif
