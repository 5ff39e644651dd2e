// SPDX-License-Identifier: GPL-2.0-or-later
// What people say of snapshots: names, descriptions, tags, holds, times of expiry. All of it is in
// the metadata alone; the kernel has no part in it.
#include <spdlog/spdlog.h>

#include <set>
#include <utility>

#include "base/names.h"
#include "model/done_so_far.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

/// What is to be written to a store, which snapshots that changes, and what it changes of each.
struct ChangedRecords {
    Metadata metadata;
    std::vector<SnapshotRecord> records;
    std::vector<std::string> texts;
};

std::string tagsText(const std::set<std::string>& tags) {
    return tags.empty() ? std::string("has no tags")
                        : fmt::format("has the tags {}", fmt::join(tags, ", "));
}

}  // namespace

/// change says in words what it changes.
void Engine::changeRecords(
    const std::vector<Uuid>& snapshots,
    const std::function<std::string(const StoreState&, Metadata&, SnapshotRecord&)>& change) {
    // All of them before anything is written, so that one that is refused leaves all as they were.
    std::map<Uuid, ChangedRecords> changed;
    for (const Uuid& uuid : std::set<Uuid>(snapshots.begin(), snapshots.end())) {
        StoreState& store = storeOfSnapshot(uuid);
        auto found = changed.find(store.uuid);
        if (found == changed.end()) {
            load(store);
            found = changed.emplace(store.uuid, ChangedRecords{store.metadata, {}, {}}).first;
        }
        auto& [metadata, records, texts] = found->second;
        SnapshotRecord* const record = metadata.snapshot(uuid);
        if (record == nullptr)
            fail(ErrorKind::NotFound, "the snapshot {} is gone", uuid.dashed());
        texts.push_back(change(store, metadata, *record));
        records.push_back(*record);
    }
    for (const auto& [uuid, in_store] : changed)
        checkFits(stores_.at(uuid), in_store.metadata);
    turns_.checked();
    DoneSoFar done;
    for (auto& [uuid, in_store] : changed) {
        try {
            StoreState& store = usableStore(uuid);
            persist(store, std::move(in_store.metadata));
            for (std::size_t i = 0; i < in_store.records.size(); ++i) {
                const LogFields about(
                    logFieldsOf(store, {{kLogSnapshot, in_store.records[i].name}}));
                spdlog::info("the snapshot {} {}", in_store.records[i].name, in_store.texts[i]);
            }
            done.add(
                fmt::format("changed of the store {}: {}", store.name, namesOf(in_store.records)));
        } catch (const Error& error) {
            done.rethrow(error);
        }
    }
}

void Engine::renameSnapshot(const Uuid& snapshot, const std::string& name) {
    checkName("snapshot", name);
    changeRecords({snapshot}, [&](const StoreState& store, Metadata& changed, auto& record) {
        if (record.name != name && changed.snapshotNameTaken(name))
            fail(ErrorKind::Exists,
                 "there is a snapshot named \"{}\" already in the store {}: choose another name, "
                 "or rename that one first",
                 name, store.name);
        return fmt::format("was called {} before", std::exchange(record.name, name));
    });
}

void Engine::setDescription(const Uuid& snapshot, const std::string& description) {
    checkDescription(description);
    changeRecords({snapshot}, [&](const StoreState&, Metadata&, auto& record) {
        record.description = description;
        return fmt::format("is described as \"{}\"", description);
    });
}

void Engine::setTags(const Uuid& snapshot, const std::vector<std::string>& tags) {
    for (const auto& tag : tags)
        checkName("tag", tag);
    changeRecords({snapshot}, [&](const StoreState&, Metadata&, auto& record) {
        record.tags = std::set<std::string>(tags.begin(), tags.end());
        return tagsText(record.tags);
    });
}

void Engine::changeTags(const Uuid& snapshot, const std::vector<std::string>& added,
                        const std::vector<std::string>& removed) {
    for (const auto& tag : added)
        checkName("tag", tag);
    if (added.empty() && removed.empty())
        fail(ErrorKind::InvalidArgument, "name at least one tag to add or to remove");
    changeRecords({snapshot}, [&](const StoreState&, Metadata&, auto& record) {
        for (const auto& tag : removed)
            if (record.tags.erase(tag) == 0)
                fail(ErrorKind::NotFound, "the snapshot {} has no tag \"{}\"", record.name, tag);
        record.tags.insert(added.begin(), added.end());
        return tagsText(record.tags);
    });
}

void Engine::setExpiry(const Uuid& snapshot, std::uint64_t expires) {
    checkExpiry(expires);
    changeRecords({snapshot}, [&](const StoreState&, Metadata&, auto& record) {
        record.expires = expires;
        return expires == 0 ? std::string("does not expire")
                            : fmt::format("expires at {} (seconds since 1970)", expires);
    });
}

void Engine::holdSnapshots(const std::vector<Uuid>& snapshots, const std::string& hold) {
    checkName("hold", hold);
    if (snapshots.empty())
        fail(ErrorKind::InvalidArgument, "name at least one snapshot to hold");
    changeRecords(snapshots, [&](const StoreState&, Metadata&, auto& record) {
        if (!record.holds.insert(hold).second)
            fail(ErrorKind::Exists, "the snapshot {} has a hold \"{}\" already", record.name, hold);
        return fmt::format("is held by {}", hold);
    });
}

void Engine::releaseSnapshots(const std::vector<Uuid>& snapshots, const std::string& hold) {
    if (snapshots.empty())
        fail(ErrorKind::InvalidArgument, "name at least one snapshot to release");
    changeRecords(snapshots, [&](const StoreState&, Metadata&, auto& record) {
        if (record.holds.erase(hold) > 0)
            return fmt::format("is not held by {} any more", hold);
        if (record.holds.empty())
            fail(ErrorKind::NotFound, "the snapshot {} is not held", record.name);
        fail(ErrorKind::NotFound, "the snapshot {} has no hold \"{}\"; it has: {}", record.name,
             hold, fmt::join(record.holds, ", "));
    });
}

}  // namespace cowsnap
