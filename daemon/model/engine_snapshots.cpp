// SPDX-License-Identifier: GPL-2.0-or-later
// Snapshots: creating sets, deleting, and their devices.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <set>
#include <span>

#include "assembly/places.h"
#include "base/names.h"
#include "cowsnap_dm.h"
#include "dm/module.h"
#include "model/done_so_far.h"
#include "model/engine.h"
#include "model/snapshot_checks.h"

namespace cowsnap {

namespace {

/// What of a device the kernel freezes when it makes a snapshot: the file system that is mounted
/// from the device itself, and those on the partitions of a disk.
enum class Frozen { Nothing, All, NotAll };

Frozen frozenOn(BlockDevices& devices, const std::string& path) {
    const auto user = devices.user(path);
    if (!user || user->kind == DeviceUser::Kind::Swap)
        return Frozen::Nothing;
    if (user->kind == DeviceUser::Kind::FileSystem)
        return Frozen::All;
    if (user->kind == DeviceUser::Kind::Other)
        return Frozen::NotAll;
    Frozen result = Frozen::Nothing;
    for (const DeviceNumber partition : devices.partitions(devices.describe(path).number)) {
        const Frozen on_partition = frozenOn(devices, devices.pathOf(partition));
        if (on_partition == Frozen::NotAll)
            return Frozen::NotAll;
        if (on_partition == Frozen::All)
            result = Frozen::All;
    }
    return result;
}

std::vector<SnapshotRecord> recordsOf(const Metadata& metadata,
                                      const std::vector<Uuid>& snapshots) {
    const std::set<Uuid> chosen(snapshots.begin(), snapshots.end());
    std::vector<SnapshotRecord> records;
    for (const auto& record : metadata.snapshots)
        if (chosen.contains(record.uuid))
            records.push_back(record);
    return records;
}

std::string deletedText(const StoreState& store, std::span<const SnapshotRecord> snapshots) {
    return fmt::format("deleted of the store {}: {}", store.name, namesOf(snapshots));
}

Consistency consistencyOf(BlockDevices& devices, const OriginState& origin) {
    try {
        return frozenOn(devices, origin.device) == Frozen::All ? Consistency::FileSystem
                                                               : Consistency::Crash;
    } catch (const Error& error) {
        spdlog::warn("cannot tell what is mounted from {}: {}", origin.device, error.what());
        return Consistency::Crash;
    }
}

bool isOn(const std::set<DeviceNumber>& below, const OriginState& origin) {
    return origin.lower && origin.mapped &&
           (below.contains(*origin.lower) || below.contains(origin.mapped->number));
}

/// A stacked origin is suspended when all file systems are frozen, and that waits for its writes.
/// One without a file system may have writes under way; on a loop device whose file is on a frozen
/// file system these would never end.
void checkNoFileIsFrozen(BlockDevices& devices, const StoreState& store,
                         std::span<const std::pair<std::uint32_t, std::uint32_t>> ids) {
    for (const auto& [snapshot, id] : ids) {
        const OriginState& upper = store.origins.at(id);
        if (upper.method != AttachMethod::Stacked || !upper.mapped ||
            consistencyOf(devices, upper) == Consistency::FileSystem)
            continue;
        for (const DeviceNumber number : allBelow(devices, upper.mapped->number)) {
            if (!devices.pathOf(number).starts_with("/dev/loop"))
                continue;
            const auto below_file = allBelow(devices, number);
            for (const auto& [other_snapshot, other_id] : ids) {
                const OriginState& lower = store.origins.at(other_id);
                if (other_id == id || !isOn(below_file, lower))
                    continue;
                fail(ErrorKind::NotSupported,
                     "these snapshots cannot be one set: what is written to {} goes to a file on "
                     "{}, whose file system is frozen meanwhile, and there is none on the former "
                     "that could be frozen before. Create them one after the other",
                     upper.device, lower.device);
            }
        }
    }
}

}  // namespace

/// The kernel freezes file systems in this order: one on a loop device comes before that which has
/// the loop device's file, whose freeze would keep it from being written.
void Engine::upperFirst(const StoreState& store,
                        std::vector<std::pair<std::uint32_t, std::uint32_t>>& ids) {
    if (ids.size() < 2)
        return;
    std::map<std::uint32_t, std::size_t> below;  // how many of the others an origin stands on
    for (const auto& [snapshot, id] : ids) {
        const OriginState& upper = store.origins.at(id);
        if (!upper.lower || !upper.mapped)
            continue;
        const auto stands_on =
            allBelow(devices_, upper.method == AttachMethod::Interposed ? *upper.lower
                                                                        : upper.mapped->number);
        below[id] =
            static_cast<std::size_t>(std::count_if(ids.begin(), ids.end(), [&](const auto& other) {
                const OriginState& lower = store.origins.at(other.second);
                return other.second != id && isOn(stands_on, lower);
            }));
    }
    std::stable_sort(ids.begin(), ids.end(), [&](const auto& one, const auto& other) {
        return below[one.second] > below[other.second];
    });
}

/// A boot without cowsnap is found out by what it changes where something begins. What cannot be
/// watched is no reason to have no snapshot.
void Engine::watch(const StoreState& store,
                   const std::vector<std::pair<std::uint32_t, std::uint32_t>>& ids) {
    for (const auto& [snapshot, id] : ids) {
        const OriginState& origin = store.origins.at(id);
        if (!origin.lower)
            continue;
        try {
            std::vector<std::pair<std::uint64_t, bool>> places;
            for (const Place& place : placesIn(devices_, mapper_, *origin.lower))
                places.emplace_back(place.sector, place.encrypted);
            if (places.empty() || !canWatch(mapper_))
                continue;
            places.resize(std::min<std::size_t>(places.size(), COWSNAP_WATCH_MAX));
            mapper_.message(store.mapped->name, watchMessage(id, places));
        } catch (const Error& error) {
            spdlog::warn(
                "partitions and volumes in origin {} of the store {} are not watched: a boot "
                "without cowsnap that changes only them may not be found out: {}",
                id, store.name, error.what());
        }
    }
}

std::vector<Uuid> Engine::createSnapshots(const std::vector<std::pair<Uuid, std::string>>& members,
                                          const SnapshotOptions& options) {
    checkSetSize(members.size());
    checkDescription(options.description);
    checkExpiry(options.expires);
    for (const auto& tag : options.tags)
        checkName("tag", tag);
    for (const auto& hold : options.holds)
        checkName("hold", hold);
    StoreState& store = storeOfOrigin(members.front().first);
    load(store);
    Metadata changed = store.metadata;
    std::vector<Uuid> created;
    std::vector<std::pair<std::uint32_t, std::uint32_t>> ids;
    std::set<Uuid> origins;
    for (const auto& [origin_uuid, name] : members) {
        checkName("snapshot", name);
        if (&storeOfOrigin(origin_uuid) != &store)
            fail(ErrorKind::InvalidArgument, "the origins of a set must be of one store");
        const OriginRecord& origin = *store.metadata.origin(origin_uuid);
        if (!origins.insert(origin_uuid).second)
            fail(ErrorKind::InvalidArgument, "the origin {} is named twice in the set",
                 origin.name);
        const auto state = store.origins.find(origin.id);
        if (state == store.origins.end() || state->second.condition == OriginCondition::Missing)
            fail(ErrorKind::NotFound, "the origin {} is not attached: attach {} first", origin.name,
                 origin.device.path);
        if (state->second.condition != OriginCondition::Attached || state->second.resized)
            fail(ErrorKind::NotSupported, "no snapshot of the origin {} can be created: {}",
                 origin.name, state->second.problem);
        checkNoRollbackRuns(store, origin);
        if (changed.snapshotNameTaken(name))
            fail(ErrorKind::Exists,
                 "there is a snapshot named \"{}\" already in the store {}: choose another name, "
                 "or delete it",
                 name, store.name);
        SnapshotRecord snapshot;
        snapshot.uuid = Uuid::random();
        snapshot.id = changed.next_snapshot_id;
        snapshot.name = name;
        snapshot.origin = origin_uuid;
        snapshot.created = static_cast<std::uint64_t>(std::time(nullptr));
        snapshot.writable = options.writable;
        snapshot.description = options.description;
        snapshot.tags = options.tags;
        snapshot.holds = options.holds;
        snapshot.expires = options.expires;
        snapshot.consistency = consistencyOf(devices_, state->second);
        if (snapshot.id > COWSNAP_ID_MAX)
            fail(ErrorKind::Overflowed, "the store {} has used up its ids", store.name);
        ++changed.next_snapshot_id;
        ids.emplace_back(snapshot.id, origin.id);
        created.push_back(snapshot.uuid);
        changed.snapshots.push_back(std::move(snapshot));
    }
    checkFits(store, changed);
    if (ids.size() > 1)
        checkNoFileIsFrozen(devices_, store, ids);
    turns_.checked();
    upperFirst(store, ids);
    persist(store, std::move(changed));
    watch(store, ids);
    try {
        mapper_.message(store.mapped->name, createMessage(ids));
    } catch (const Error& error) {
        changed = store.metadata;
        std::erase_if(changed.snapshots, [&](const auto& snapshot) {
            return std::find(created.begin(), created.end(), snapshot.uuid) != created.end();
        });
        persist(store, std::move(changed));
        load(store);
        fail(error.kind(), "no snapshot was created: {}", error.what());
    }
    load(store);
    for (std::size_t i = 0; i < members.size(); ++i) {
        const std::string& origin = store.metadata.origin(members[i].first)->name;
        const LogFields about(
            logFieldsOf(store, {{kLogOrigin, origin}, {kLogSnapshot, members[i].second}}));
        spdlog::info("created the snapshot {} of the origin {}", members[i].second, origin);
    }
    return created;
}

namespace {

/// In how many parts so many snapshots of a store are deleted.
std::size_t partsOf(std::size_t snapshots) {
    return (snapshots + COWSNAP_DELETE_MAX - 1) / COWSNAP_DELETE_MAX;
}

}  // namespace

void Engine::deleteSnapshots(const std::vector<Uuid>& snapshots) {
    if (snapshots.empty())
        fail(ErrorKind::InvalidArgument, "name at least one snapshot to delete");
    std::map<Uuid, std::vector<Uuid>> by_store;
    std::set<Uuid> seen;
    for (const Uuid& uuid : snapshots) {
        StoreState& store = storeOfSnapshot(uuid);
        if (seen.insert(uuid).second)
            by_store[store.uuid].push_back(uuid);
    }
    for (const auto& [store, members] : by_store) {
        load(usableStore(store));
        for (const Uuid& uuid : members) {
            const auto* const record = usableStore(store).metadata.snapshot(uuid);
            if (record == nullptr)
                fail(ErrorKind::NotFound, "the snapshot {} is gone already", uuid.dashed());
            checkNotHeld(*record);
            const SnapshotState& state = usableStore(store).snapshots.at(record->id);
            checkNotOpen(*record, state);
            checkNotReplaced(*record, state);
            checkNoRollbackNeeds(usableStore(store), *record);
        }
    }
    turns_.checked();
    DoneSoFar done;
    Amount parts;
    for (const auto& [uuid, members] : by_store)
        parts.total += partsOf(members.size());
    for (const auto& [uuid, members] : by_store) {
        try {
            StoreState& store = usableStore(uuid);
            std::string deleted = deletedText(store, recordsOf(store.metadata, members));
            deleteInStore(store, members, parts);
            parts.done += partsOf(members.size());
            done.add(std::move(deleted));
        } catch (const Error& error) {
            done.rethrow(error);
        }
    }
}

void Engine::removeSnapshotDevice(const StoreState& store, const SnapshotRecord& snapshot) {
    const auto state = store.snapshots.find(snapshot.id);
    if (state == store.snapshots.end() || !state->second.mapped)
        return;
    mapper_.remove(state->second.mapped->name, Visibility::Hidden);
}

/// In parts, as many at once as the kernel takes; each is a step after those that parts has, if it
/// has any. The records say what is to go, so that the next start goes on where this was
/// interrupted.
void Engine::deleteInStore(StoreState& store, const std::vector<Uuid>& snapshots,
                           const Amount& parts) {
    const std::set<Uuid> chosen(snapshots.begin(), snapshots.end());
    const auto going = recordsOf(store.metadata, snapshots);
    Metadata changed = store.metadata;
    for (auto& record : changed.snapshots)
        record.deleting |= chosen.contains(record.uuid);
    if (parts.total > 0)
        turns_.step(parts);
    // Deleting is what makes room; without any, the next start does not know that these were to go.
    persistFound(store, std::move(changed));
    const std::span<const SnapshotRecord> all(going);
    std::size_t gone = 0;
    try {
        while (gone < all.size()) {
            if (gone > 0 && parts.total > 0)
                turns_.step({parts.done + partsOf(gone), parts.total});
            const auto part =
                all.subspan(gone, std::min<std::size_t>(COWSNAP_DELETE_MAX, all.size() - gone));
            deletePart(store, part);
            gone += part.size();
        }
    } catch (const Error& error) {
        writeDeleted(store, all.first(gone));
        if (gone == 0)
            fail(error.kind(), "no snapshot of the store {} was deleted: {}", store.name,
                 error.what());
        fail(ErrorKind::PartlyDone, "{}, but not {}: {}", deletedText(store, all.first(gone)),
             namesOf(all.subspan(gone)), error.what());
    }
    changed = store.metadata;
    std::erase_if(changed.snapshots,
                  [&](const auto& record) { return chosen.contains(record.uuid); });
    persist(store, std::move(changed));
    load(store);
}

/// One transaction of the kernel's: all of them or none.
void Engine::deletePart(StoreState& store, std::span<const SnapshotRecord> snapshots) {
    std::vector<std::uint32_t> ids;
    for (const auto& record : snapshots) {
        removeSnapshotDevice(store, record);
        ids.push_back(record.id);
    }
    mapper_.message(store.mapped->name, deleteMessage(ids));
    for (const auto& record : snapshots) {
        const LogFields about(logFieldsOf(store, {{kLogSnapshot, record.name}}));
        spdlog::info("deleted the snapshot {}", record.name);
    }
}

/// After a deletion that failed when these were gone: no others go.
void Engine::writeDeleted(StoreState& store, std::span<const SnapshotRecord> gone) {
    std::set<Uuid> uuids;
    for (const auto& record : gone)
        uuids.insert(record.uuid);
    Metadata changed = store.metadata;
    std::erase_if(changed.snapshots,
                  [&](const auto& record) { return uuids.contains(record.uuid); });
    for (auto& record : changed.snapshots)
        record.deleting = false;
    try {
        persist(store, std::move(changed));
        load(store);
    } catch (const Error& error) {
        const LogFields about(logFieldsOf(store));
        spdlog::error(
            "the metadata of the store {} says still that snapshots are being deleted, so the next "
            "start deletes them: {}",
            store.name, error.what());
    }
}

std::string Engine::activate(const Uuid& uuid, bool read_only) {
    StoreState& store = storeOfSnapshot(uuid);
    load(store);
    const SnapshotRecord* const snapshot = store.metadata.snapshot(uuid);
    if (snapshot == nullptr)
        fail(ErrorKind::NotFound, "the snapshot {} is gone", uuid.dashed());
    if (!read_only && !snapshot->writable)
        fail(ErrorKind::InvalidArgument,
             "the snapshot {} is read-only: activate it so, or create a writable one",
             snapshot->name);
    const SnapshotState& state = store.snapshots.at(snapshot->id);
    checkNotLost(*snapshot, state);
    if (!state.problem.empty())
        fail(ErrorKind::Busy, "the snapshot {}: {}", snapshot->name, state.problem);
    if (state.mapped) {
        if (state.read_only == read_only)
            return state.mapped->path();
        fail(ErrorKind::Busy, "the snapshot {} is active as {}, {}: deactivate it first",
             snapshot->name, state.mapped->path(), state.read_only ? "read-only" : "writable");
    }
    const OriginRecord& origin = *store.metadata.origin(snapshot->origin);
    const OriginState& origin_state = store.origins.at(origin.id);
    if (!origin_state.mapped)
        fail(ErrorKind::NotFound,
             "the origin {} of the snapshot {} is not attached: attach {} first", origin.name,
             snapshot->name, origin.device.path);
    const std::string mapped_name = freeMappedName("cowsnap-snap-", snapshot->name, uuid);
    const std::string origin_name = origin.name;
    const std::string snapshot_name = snapshot->name;
    turns_.checked();
    const SnapTable table{store.mapped->number.text(), snapshot->id, read_only};
    mapper_.create(mapped_name, deviceMapperUuid(uuid, COWSNAP_DM_ROLE_SNAPSHOT),
                   {{0, origin_state.line.size_sectors, COWSNAP_TARGET_SNAP, formatTable(table)}},
                   Visibility::Hidden, read_only);
    load(store);
    const LogFields about(
        logFieldsOf(store, {{kLogOrigin, origin_name}, {kLogSnapshot, snapshot_name}}));
    spdlog::info("activated the snapshot {} as {}{}, {}", snapshot_name, kMapperDirectory,
                 mapped_name, read_only ? "read-only" : "writable");
    return std::string(kMapperDirectory) + mapped_name;
}

void Engine::deactivate(const Uuid& uuid) {
    StoreState& store = storeOfSnapshot(uuid);
    load(store);
    const SnapshotRecord* const snapshot = store.metadata.snapshot(uuid);
    if (snapshot == nullptr)
        fail(ErrorKind::NotFound, "the snapshot {} is gone", uuid.dashed());
    const SnapshotState& state = store.snapshots.at(snapshot->id);
    checkNotReplaced(*snapshot, state);
    if (!state.mapped)
        return;
    if (state.mapped->open_count > 0)
        fail(ErrorKind::Busy, "{} is open: unmount it, or stop what uses it, first",
             state.mapped->path());
    turns_.checked();
    const LogFields about(logFieldsOf(store, {{kLogSnapshot, snapshot->name}}));
    removeSnapshotDevice(store, *snapshot);
    spdlog::info("deactivated the snapshot {}", snapshot->name);
    load(store);
}

}  // namespace cowsnap
