// SPDX-License-Identifier: GPL-2.0-or-later
// What the daemon knows of a store while it runs: its metadata and what the
// kernel said last. Plain data.
#ifndef COWSNAP_MODEL_STORE_STATE_H
#define COWSNAP_MODEL_STORE_STATE_H

#include <chrono>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/log_fields.h"
#include "dm/device_mapper.h"
#include "dm/lines.h"
#include "meta/metadata.h"
#include "meta/registry.h"
#include "meta/slots.h"
#include "model/growth.h"

namespace cowsnap {

/// Whether what is written to an origin is preserved, and if not, why.
enum class OriginCondition {
    Missing,   ///< it has no mapped device
    Attached,  ///< its cow-origin is in front of its device
    Gone,      ///< it is, but the device has been pulled out
    Changed,   ///< its mapped device is something else: someone changed the table
};
/// "missing", "attached", "gone" or "changed".
std::string_view conditionName(OriginCondition condition);

/// What the kernel says about an origin.
struct OriginState {
    OriginLine line;
    OriginCondition condition = OriginCondition::Missing;
    std::optional<MappedDevice> mapped;           ///< its cow-origin, if it has one
    AttachMethod method = AttachMethod::Stacked;  ///< of the cow-origin
    std::optional<DeviceNumber> lower;            ///< the device that the cow-origin is attached to
    std::string device;                           ///< the path that is to be used
    bool resized = false;  ///< the device is larger or smaller than what is snapshotted of it
    OriginStatus status;   ///< of the cow-origin
    std::string problem;   ///< why it is not attached, or what is wrong with its device
};

/// What the kernel says about a snapshot.
struct SnapshotState {
    SnapshotLine line;
    std::optional<MappedDevice> mapped;  ///< its cow-snap, if it is active
    bool read_only = false;              ///< of the cow-snap
    std::string problem{};               ///< what is wrong with its mapped device
};

/// A store that this machine has.
struct StoreState {
    Uuid uuid;
    std::string name;
    std::vector<DeviceIdentity> devices;

    /// Empty if the store runs and its metadata is read; else why not, and the kind
    /// of error that using it gives.
    std::string problem;
    ErrorKind problem_kind = ErrorKind::Failed;

    bool starting = false;      ///< it was found at the start, and not started yet
    bool lacks_module = false;  ///< it could not be started without the kernel module
    bool brought_up = false;    ///< its start, or making it, came to its end

    std::optional<MappedDevice> mapped;      ///< its cow-store, if it runs
    std::vector<MappedTarget> data_table{};  ///< of what the cow-store stands on, as it was made
    std::uint64_t length_sectors = 0;
    std::uint64_t low_water_segments = 0;
    StoreStatus status;
    std::optional<MetadataSlots> slots;
    Metadata metadata;
    std::map<std::uint32_t, OriginState> origins;      ///< by id
    std::map<std::uint32_t, SnapshotState> snapshots;  ///< by id
    bool metadata_damaged = false;                     ///< one slot is, as far as is known
    /// What stores.json has of its fail-closed origins; nothing until the store is registered.
    std::optional<std::vector<ClosedOrigin>> registered_closed{};
    Growth growth{};                   ///< of the used segments
    std::uint64_t expected_full = 0;   ///< seconds since 1970; 0: it is not known
    unsigned told_percent = 0;         ///< the highest part used that was warned of; 0: none
    std::string autoextend_problem{};  ///< why it could not be extended; empty if it could
    std::chrono::steady_clock::time_point autoextend_retry{};  ///< not before
    std::chrono::seconds autoextend_pause{0};                  ///< the last one
    bool events_known = false;  ///< whether the kernel's events were read before
    std::uint64_t last_event = 0;
    std::vector<EventLine> remembered_events;  ///< at most COWSNAP_EVENTS_KEPT, oldest first
};

/// The state of a store whose problem is not empty.
inline constexpr std::string_view kUnusable = "unusable";

/// COWSNAP_STORE_*, or kUnusable.
inline std::string stateName(const StoreState& store) {
    return store.problem.empty() ? store.status.state : std::string(kUnusable);
}

/// For what is logged about it.
inline LogFields::Fields logFieldsOf(const StoreState& store, LogFields::Fields more = {}) {
    LogFields::Fields fields{{kLogStore, store.name}, {kLogStoreUuid, store.uuid.dashed()}};
    fields.insert(fields.end(), more.begin(), more.end());
    return fields;
}

/// Something that happened to a store and clients are told of by a signal.
struct EventNotice {
    Uuid store;
    std::uint64_t number = 0;
    std::string event;
    std::uint64_t id = 0;
    std::string text;
};

/// A store has used more than one of the parts that people are warned of.
struct SpaceNotice {
    Uuid store;
    unsigned percent = 0;  ///< which of them
    std::uint64_t free_bytes = 0;
};

/// A snapshot that is gone without anyone asking for it.
struct DroppedNotice {
    Uuid store;
    Uuid snapshot;
    std::string name;
    std::string reason;
};

/// A store was extended without anyone asking for it.
struct ExtendedNotice {
    Uuid store;
    std::string device;
    std::uint64_t size_bytes = 0;  ///< of all of it now
};

/// A store gets full and could not be extended.
struct ExtendFailedNotice {
    Uuid store;
    std::string reason;
};

/// The state of a snapshot whose origin is not attached. What of the origin was not preserved
/// cannot be read, and whether the origin is written meanwhile is not known yet.
inline constexpr std::string_view kUnavailable = "unavailable";

/// COWSNAP_STATE_*, or kUnavailable; empty if the kernel does not know the snapshot.
std::string snapshotState(const StoreState& store, const SnapshotRecord& snapshot);

/// What there is to tell clients.
struct Notices {
    std::vector<EventNotice> events;
    std::vector<SpaceNotice> space;
    std::vector<DroppedNotice> dropped;
    std::vector<ExtendedNotice> extended;
    std::vector<ExtendFailedNotice> extend_failed;
};

}  // namespace cowsnap

#endif
