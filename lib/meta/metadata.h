// SPDX-License-Identifier: GPL-2.0-or-later
// What cowsnap knows about a store, its origins and snapshots and the kernel does
// not: names, uuids, devices. Structures and their JSON; no I/O.
#ifndef COWSNAP_META_METADATA_H
#define COWSNAP_META_METADATA_H

#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include "base/uuid.h"
#include "block/block_devices.h"

namespace cowsnap {

/// The highest version of the JSON that this program reads and writes. 2: origins may be
/// interposed. 3: snapshots may be held. 4: origins may be fail-closed.
inline constexpr std::uint32_t kMetadataSchema = 4;

/// How an origin is attached to its device.
enum class AttachMethod {
    Stacked,     ///< its mapped device is used in place of the device
    Interposed,  ///< the device is used as before
};
/// "stacked" or "interposed".
std::string_view methodName(AttachMethod method);

/// What the boot does with an origin that it cannot attach.
enum class BootPolicy {
    FailOpen,    ///< it goes on, and the origin's snapshots become stale
    FailClosed,  ///< it does not mount the device
};
/// "fail-open" or "fail-closed".
std::string_view policyName(BootPolicy policy);
/// The policy with this name; nothing if there is none.
std::optional<BootPolicy> policyNamed(std::string_view name);

/// What a snapshot is without a repair.
enum class Consistency {
    Unknown,     ///< nobody looked when it was created
    Crash,       ///< what a power cut would have left
    FileSystem,  ///< the file systems on it were frozen
};
/// "crash", "file-system", or empty.
std::string_view consistencyName(Consistency consistency);

/// A rollback that was asked for: what the snapshot of what is there before will be called.
struct RollbackRecord {
    Uuid target;                ///< the snapshot that the origin goes back to
    std::uint32_t undo_id = 0;  ///< of the snapshot of what is there before
    Uuid undo;
    std::string undo_name;
    bool scheduled = false;  ///< for when the origin is attached the next time
    bool force = false;      ///< although the target is stale
    bool cancelled = false;  ///< it goes back to what was there before
};

/// A rollback that is over and was not cancelled.
struct RolledBackRecord {
    Uuid target;  ///< the snapshot that the origin went back to
    Uuid undo;    ///< the one of what was there before
};

struct OriginRecord {
    Uuid uuid;
    std::uint32_t id = 0;  ///< in tables and messages; never used again in this store
    std::string name;
    DeviceIdentity device;
    std::string mapped_name;  ///< device-mapper name of its cow-origin
    AttachMethod method = AttachMethod::Stacked;
    bool detaching = false;  ///< a detach was begun: it is finished at the next start
    std::optional<RollbackRecord> rollback{};       ///< until it is known to be over
    std::optional<RolledBackRecord> rolled_back{};  ///< the last one that was made
    BootPolicy boot_policy = BootPolicy::FailOpen;
};

struct SnapshotRecord {
    Uuid uuid;
    std::uint32_t id = 0;  ///< in tables and messages; never used again in this store
    std::string name;
    Uuid origin;
    std::uint64_t created = 0;  ///< seconds since 1970
    std::uint64_t set = 0;      ///< the kernel's number of the set; 0 until it is known
    bool writable = false;
    std::string description;
    std::set<std::string> tags;
    std::set<std::string> holds;  ///< while there is one, nobody deletes the snapshot
    std::uint64_t expires = 0;    ///< seconds since 1970; 0: never
    Consistency consistency = Consistency::Unknown;
    bool deleting = false;  ///< a deletion was begun: it is finished at the next start
};

/// What a store may be extended with, without anyone asking each time: only what an administrator
/// named, or the volume group of the volume that they made the store on.
struct AutoextendRecord {
    bool enabled = false;
    std::string volume_group;       ///< its UUID; empty: none
    std::string volume_group_name;  ///< when it was recorded, to speak of it
    std::vector<DeviceIdentity> spares;
    std::uint64_t max_bytes = 0;  ///< the store does not grow beyond; 0: no limit
    /// Whether there is something that it may be extended with.
    bool hasSource() const { return !volume_group.empty() || !spares.empty(); }
    bool operator==(const AutoextendRecord&) const = default;
};

struct Metadata {
    Uuid store;
    std::string name;
    std::vector<DeviceIdentity> devices;  ///< the store's, in their order
    std::optional<std::uint64_t> full_wait_ms;
    AutoextendRecord autoextend{};
    std::uint32_t next_origin_id = 1;
    std::uint32_t next_snapshot_id = 1;
    std::vector<OriginRecord> origins;
    std::vector<SnapshotRecord> snapshots;

    OriginRecord* originWithId(std::uint32_t id);
    const OriginRecord* originWithId(std::uint32_t id) const;
    OriginRecord* origin(const Uuid& uuid);
    const OriginRecord* origin(const Uuid& uuid) const;
    SnapshotRecord* snapshotWithId(std::uint32_t id);
    const SnapshotRecord* snapshotWithId(std::uint32_t id) const;
    SnapshotRecord* snapshot(const Uuid& uuid);
    const SnapshotRecord* snapshot(const Uuid& uuid) const;
    bool originNameTaken(std::string_view name) const;
    /// By a snapshot, or by one that a rollback will make.
    bool snapshotNameTaken(std::string_view name) const;
};

/// The version of what formatMetadata() writes: the lowest that says all of it, so that a
/// program that would stack an interposed origin, delete a held snapshot, or forget that an origin
/// is fail-closed, does not read it, and reads all else. Tags and times of expiry alone do not
/// raise it: a program that does not know them keeps more than was asked for, never less; nor does
/// what a store may be extended with: such a program takes nothing; nor what an origin was rolled
/// back to: such a program does not say so, and forgets it.
std::uint32_t metadataSchema(const Metadata& metadata);
std::string formatMetadata(const Metadata& metadata);

/// Reads what formatMetadata() wrote. MetadataCorrupt names what is wrong;
/// NotSupported if schema is newer than kMetadataSchema.
Metadata parseMetadata(std::uint32_t schema, std::string_view json);

nlohmann::json toJson(const DeviceIdentity& identity);
/// Throws nlohmann::json::exception if something is missing or of another type.
DeviceIdentity deviceIdentityFromJson(const nlohmann::json& json);

}  // namespace cowsnap

#endif
