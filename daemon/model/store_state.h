// SPDX-License-Identifier: GPL-2.0-or-later
// What the daemon knows of a store while it runs: its metadata and what the
// kernel said last. Plain data.
#ifndef COWSNAP_MODEL_STORE_STATE_H
#define COWSNAP_MODEL_STORE_STATE_H

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "dm/device_mapper.h"
#include "dm/lines.h"
#include "meta/metadata.h"
#include "meta/slots.h"

namespace cowsnap {

/// What the kernel says about an origin.
struct OriginState {
    OriginLine line;
    std::optional<MappedDevice> mapped;           ///< its cow-origin, if it is attached
    AttachMethod method = AttachMethod::Stacked;  ///< of the cow-origin
    std::optional<DeviceNumber> lower;            ///< the device that the cow-origin is attached to
    std::string device;                           ///< the path that is to be used
    OriginStatus status;                          ///< of the cow-origin
    std::string problem;                          ///< why it is not attached
};

/// What the kernel says about a snapshot.
struct SnapshotState {
    SnapshotLine line;
    std::optional<MappedDevice> mapped;  ///< its cow-snap, if it is active
    bool read_only = false;              ///< of the cow-snap
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

    std::optional<MappedDevice> mapped;  ///< its cow-store, if it runs
    std::uint64_t length_sectors = 0;
    std::uint64_t low_water_segments = 0;
    StoreStatus status;
    std::optional<MetadataSlots> slots;
    Metadata metadata;
    std::map<std::uint32_t, OriginState> origins;      ///< by id
    std::map<std::uint32_t, SnapshotState> snapshots;  ///< by id
    unsigned told_percent = 0;  ///< the highest part used that was warned of; 0: none
    bool events_known = false;  ///< whether the kernel's events were read before
    std::uint64_t last_event = 0;
    std::vector<EventLine> remembered_events;  ///< at most COWSNAP_EVENTS_KEPT, oldest first
};

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

/// What there is to tell clients.
struct Notices {
    std::vector<EventNotice> events;
    std::vector<SpaceNotice> space;
    std::vector<DroppedNotice> dropped;
};

}  // namespace cowsnap

#endif
