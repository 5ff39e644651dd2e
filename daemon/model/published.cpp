// SPDX-License-Identifier: GPL-2.0-or-later
// Properties from state.
#include "model/published.h"

#include <algorithm>

#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

ObjectPath pathOf(std::string_view kind, const Uuid& uuid) {
    return {fmt::format("{}/{}/{}", kRootPath, kind, uuid.underscored())};
}

std::uint32_t count(std::size_t number) {
    return static_cast<std::uint32_t>(number);
}

PublishedObject publishStore(const StoreState& store) {
    std::vector<std::string> devices;
    for (const auto& device : store.devices)
        devices.push_back(device.path);
    const AutoextendRecord& autoextend = store.metadata.autoextend;
    std::vector<std::string> spares;
    for (const auto& spare : autoextend.spares)
        spares.push_back(spare.path);
    const std::uint64_t segment_bytes = store.status.segment_sectors * kSectorBytes;
    return {storePath(store.uuid).path,
            kStoreInterface,
            {
                {"Uuid", store.uuid.dashed()},
                {"Name", store.name},
                {"Devices", devices},
                {"Device", store.mapped ? store.mapped->path() : std::string()},
                {"State", stateName(store)},
                {"Problem", store.problem},
                {"MetadataDamaged", store.metadata_damaged},
                {"SizeBytes", store.status.total_segments * segment_bytes},
                {"SegmentBytes", segment_bytes},
                {"FreeBytes", store.status.free_segments * segment_bytes},
                {"UsedBytes", store.status.usedSegments() * segment_bytes},
                {"ExpectedFull", store.expected_full},
                {"LowWaterBytes", store.low_water_segments * segment_bytes},
                {"DamagedBytes", store.status.damaged_blocks * COWSNAP_BLOCK_BYTES},
                {"Autoextend", autoextend.enabled && autoextend.hasSource()},
                {"AutoextendGroup", autoextend.volume_group_name},
                {"AutoextendMaxBytes", autoextend.max_bytes},
                {"AutoextendProblem", store.autoextend_problem},
                {"Spares", spares},
                {"OriginCount", count(store.metadata.origins.size())},
                {"SnapshotCount", count(store.metadata.snapshots.size())},
            },
            store.uuid};
}

struct PublishedRollback {
    std::string state;
    ObjectPath target;
    ObjectPath undo;
};

ObjectPath snapshotWithId(const StoreState& store, std::uint32_t id) {
    const auto* const record = store.metadata.snapshotWithId(id);
    return record == nullptr ? ObjectPath{"/"} : snapshotPath(record->uuid);
}

ObjectPath snapshotIfThere(const StoreState& store, const Uuid& uuid) {
    return store.metadata.snapshot(uuid) == nullptr ? ObjectPath{"/"} : snapshotPath(uuid);
}

PublishedRollback rollbackOf(const StoreState& store, const OriginRecord& origin,
                             const OriginState& state) {
    if (state.mapped && state.status.rollback != COWSNAP_ROLLBACK_SCHEDULED)
        return {state.status.rollback, snapshotWithId(store, state.status.target),
                snapshotWithId(store, state.status.undo)};
    // A cow-origin that is not there tells nothing, and the snapshot is still to come.
    if (origin.rollback)
        return {origin.rollback->scheduled || state.mapped ? COWSNAP_ROLLBACK_SCHEDULED
                                                           : COWSNAP_ROLLBACK_WAITING,
                snapshotPath(origin.rollback->target), snapshotPath(origin.rollback->undo)};
    if (state.mapped)
        return {state.status.rollback, snapshotWithId(store, state.status.target), {"/"}};
    return {COWSNAP_ROLLBACK_NONE, {"/"}, {"/"}};
}

}  // namespace

std::string rollbackStateOf(const StoreState& store, const OriginRecord& origin) {
    const auto found = store.origins.find(origin.id);
    return rollbackOf(store, origin, found == store.origins.end() ? OriginState() : found->second)
        .state;
}

namespace {

PublishedObject publishOrigin(const StoreState& store, const OriginRecord& origin) {
    const auto found = store.origins.find(origin.id);
    const OriginState state = found == store.origins.end() ? OriginState() : found->second;
    const auto snapshots =
        std::count_if(store.metadata.snapshots.begin(), store.metadata.snapshots.end(),
                      [&](const auto& snapshot) { return snapshot.origin == origin.uuid; });
    const PublishedRollback rollback = rollbackOf(store, origin, state);
    const RolledBackRecord rolled_back = origin.rolled_back.value_or(RolledBackRecord());
    return {originPath(origin.uuid).path,
            kOriginInterface,
            {
                {"Uuid", origin.uuid.dashed()},
                {"Name", origin.name},
                {"Id", origin.id},
                {"Store", storePath(store.uuid)},
                {"BackingDevice", origin.device.path},
                {"Device", state.device},
                {"Method", std::string(methodName(state.mapped ? state.method : origin.method))},
                {"State", std::string(conditionName(state.condition))},
                {"Problem", state.problem},
                {"BootPolicy", std::string(policyName(origin.boot_policy))},
                {"SizeBytes", origin.device.size_sectors * kSectorBytes},
                {"SnapshotCount", count(static_cast<std::size_t>(snapshots))},
                {"PreservedBytes", state.status.preserved_blocks * COWSNAP_BLOCK_BYTES},
                {"ReadBytes", state.status.read_blocks * COWSNAP_BLOCK_BYTES},
                {"WaitingBios", state.status.waiting_bios},
                {"Rollback", rollback.state},
                {"RollbackTarget", rollback.target},
                {"RollbackUndo", rollback.undo},
                {"RollbackDoneBytes", state.status.done_blocks * COWSNAP_BLOCK_BYTES},
                {"RolledBackTo", snapshotIfThere(store, rolled_back.target)},
                {"RolledBackUndo", snapshotIfThere(store, rolled_back.undo)},
            },
            store.uuid};
}

PublishedObject publishSnapshot(const StoreState& store, const SnapshotRecord& snapshot) {
    const auto found = store.snapshots.find(snapshot.id);
    const SnapshotState state = found == store.snapshots.end() ? SnapshotState() : found->second;
    std::uint64_t size_sectors = 0;
    for (const auto& origin : store.metadata.origins)
        if (origin.uuid == snapshot.origin)
            size_sectors = origin.device.size_sectors;
    return {snapshotPath(snapshot.uuid).path,
            kSnapshotInterface,
            {
                {"Uuid", snapshot.uuid.dashed()},
                {"Name", snapshot.name},
                {"Id", snapshot.id},
                {"Store", storePath(store.uuid)},
                {"Origin", originPath(snapshot.origin)},
                {"Created", snapshot.created},
                {"Set", snapshot.set},
                {"Writable", snapshot.writable},
                {"Description", snapshot.description},
                {"Tags", std::vector<std::string>(snapshot.tags.begin(), snapshot.tags.end())},
                {"Holds", std::vector<std::string>(snapshot.holds.begin(), snapshot.holds.end())},
                {"Expires", snapshot.expires},
                {"Consistency", std::string(consistencyName(snapshot.consistency))},
                {"State", snapshotState(store, snapshot)},
                {"Problem", state.problem},
                {"Device", state.mapped ? state.mapped->path() : std::string()},
                {"DeviceReadOnly", state.mapped && state.read_only},
                {"Open", state.mapped && state.mapped->open_count > 0},
                {"SizeBytes", size_sectors * kSectorBytes},
                {"UsedBytes", state.line.blocks * COWSNAP_BLOCK_BYTES},
                {"OverlayBytes", state.line.overlay_blocks * COWSNAP_BLOCK_BYTES},
            },
            store.uuid};
}

}  // namespace

std::vector<PublishedObject> publish(const Engine& engine, const StoreSet& stores) {
    std::vector<PublishedObject> objects;
    for (const Uuid& uuid : stores) {
        const auto found = engine.stores().find(uuid);
        if (found == engine.stores().end())
            continue;
        const StoreState& store = found->second;
        objects.push_back(publishStore(store));
        for (const auto& origin : store.metadata.origins)
            objects.push_back(publishOrigin(store, origin));
        for (const auto& snapshot : store.metadata.snapshots)
            objects.push_back(publishSnapshot(store, snapshot));
    }
    return objects;
}

ObjectPath storePath(const Uuid& uuid) {
    return pathOf("store", uuid);
}
ObjectPath originPath(const Uuid& uuid) {
    return pathOf("origin", uuid);
}
ObjectPath snapshotPath(const Uuid& uuid) {
    return pathOf("snapshot", uuid);
}

Uuid uuidInPath(const ObjectPath& object, std::string_view kind) {
    const std::string prefix = fmt::format("{}/{}/", kRootPath, kind);
    if (object.path.starts_with(prefix))
        if (const auto uuid = Uuid::parse(object.path.substr(prefix.size())))
            return *uuid;
    fail(ErrorKind::InvalidArgument, "{} is not the path of a {}: it would be {}<uuid>",
         object.path, kind, prefix);
}

}  // namespace cowsnap
