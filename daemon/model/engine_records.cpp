// SPDX-License-Identifier: GPL-2.0-or-later
// What people say of snapshots: names, descriptions, tags, holds, times of expiry. All of it is in
// the metadata alone; the kernel has no part in it.
#include <set>

#include "base/names.h"
#include "model/engine.h"

namespace cowsnap {

void Engine::changeRecords(
    const std::vector<Uuid>& snapshots,
    const std::function<void(const StoreState&, Metadata&, SnapshotRecord&)>& change) {
    // All of them before anything is written, so that one that is refused leaves all as they were.
    std::map<Uuid, Metadata> changed;
    for (const Uuid& uuid : std::set<Uuid>(snapshots.begin(), snapshots.end())) {
        StoreState& store = storeOfSnapshot(uuid);
        auto found = changed.find(store.uuid);
        if (found == changed.end()) {
            load(store);
            found = changed.emplace(store.uuid, store.metadata).first;
        }
        SnapshotRecord* const record = found->second.snapshot(uuid);
        if (record == nullptr)
            fail(ErrorKind::NotFound, "the snapshot {} is gone", uuid.dashed());
        change(store, found->second, *record);
    }
    turns_.checked();
    for (auto& [store, metadata] : changed)
        persist(usableStore(store), std::move(metadata));
}

void Engine::renameSnapshot(const Uuid& snapshot, const std::string& name) {
    checkName("snapshot", name);
    changeRecords({snapshot}, [&](const StoreState& store, Metadata& changed, auto& record) {
        if (record.name != name && changed.snapshotNameTaken(name))
            fail(ErrorKind::Exists,
                 "there is a snapshot named \"{}\" already in the store {}: choose another name, "
                 "or rename that one first",
                 name, store.name);
        record.name = name;
    });
}

void Engine::setDescription(const Uuid& snapshot, const std::string& description) {
    checkDescription(description);
    changeRecords({snapshot}, [&](const StoreState&, Metadata&, auto& record) {
        record.description = description;
    });
}

void Engine::setTags(const Uuid& snapshot, const std::vector<std::string>& tags) {
    for (const auto& tag : tags)
        checkName("tag", tag);
    changeRecords({snapshot}, [&](const StoreState&, Metadata&, auto& record) {
        record.tags = std::set<std::string>(tags.begin(), tags.end());
    });
}

void Engine::setExpiry(const Uuid& snapshot, std::uint64_t expires) {
    checkExpiry(expires);
    changeRecords({snapshot},
                  [&](const StoreState&, Metadata&, auto& record) { record.expires = expires; });
}

void Engine::holdSnapshots(const std::vector<Uuid>& snapshots, const std::string& hold) {
    checkName("hold", hold);
    if (snapshots.empty())
        fail(ErrorKind::InvalidArgument, "name at least one snapshot to hold");
    changeRecords(snapshots, [&](const StoreState&, Metadata&, auto& record) {
        if (!record.holds.insert(hold).second)
            fail(ErrorKind::Exists, "the snapshot {} has a hold \"{}\" already", record.name, hold);
    });
}

void Engine::releaseSnapshots(const std::vector<Uuid>& snapshots, const std::string& hold) {
    if (snapshots.empty())
        fail(ErrorKind::InvalidArgument, "name at least one snapshot to release");
    changeRecords(snapshots, [&](const StoreState&, Metadata&, auto& record) {
        if (record.holds.erase(hold) > 0)
            return;
        if (record.holds.empty())
            fail(ErrorKind::NotFound, "the snapshot {} is not held", record.name);
        fail(ErrorKind::NotFound, "the snapshot {} has no hold \"{}\"; it has: {}", record.name,
             hold, fmt::join(record.holds, ", "));
    });
}

}  // namespace cowsnap
