// SPDX-License-Identifier: GPL-2.0-or-later
// Rolling an origin back to a snapshot, now or when it is attached the next time, and cancelling
// that. The record of it is in the metadata before the kernel is told, and goes when the kernel
// says that there is no rollback any more.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>

#include "base/names.h"
#include "cowsnap_dm.h"
#include "dm/module.h"
#include "model/engine.h"
#include "model/snapshot_checks.h"

namespace cowsnap {

namespace {

std::string undoName(const Metadata& metadata, const std::string& wanted, const std::string& target,
                     const Uuid& uuid) {
    std::string name = wanted.empty() ? "undo-" + target : wanted;
    if (wanted.empty() && (metadata.snapshotNameTaken(name) || name.size() > kNameMaxBytes))
        name = "undo-" + uuid.brief();
    checkName("snapshot", name);
    if (metadata.snapshotNameTaken(name))
        fail(ErrorKind::Exists,
             "there is a snapshot named \"{}\" already in the store {}: choose another name", name,
             metadata.name);
    return name;
}

void checkTarget(const SnapshotRecord& target, const SnapshotState& state, bool force) {
    checkNotLost(target, state);
    if (state.line.state == COWSNAP_STATE_STALE && !force)
        fail(ErrorKind::Stale,
             "the snapshot {} is stale: its origin was written while nothing was in front of it, "
             "or its device became smaller, so it is not what the origin was. If you want to go "
             "back to what it has all the same, say so (--force)",
             target.name);
    if (state.line.state == COWSNAP_STATE_DAMAGED)
        fail(ErrorKind::MetadataCorrupt,
             "the snapshot {} is damaged: some of its blocks cannot be read, and an origin is not "
             "rolled back to that",
             target.name);
}

/// What keeps an origin from being rolled back to it at once; empty if nothing does.
std::string useOfSnapshot(const SnapshotRecord& target, const SnapshotState& state) {
    if (state.mapped && state.mapped->open_count > 0)
        return fmt::format("the snapshot {} is open as {}", target.name, state.mapped->path());
    return {};
}

}  // namespace

/// What keeps an origin from being rolled back at once; empty if nothing does.
std::string Engine::useOf(const OriginRecord& origin, const OriginState& state) {
    if (state.condition != OriginCondition::Attached)
        return fmt::format("the origin {} is not attached", origin.name);
    const auto user = devices_.user(state.device);
    if (user)
        return fmt::format("{} is {}", state.device, user->text);
    if (state.method == AttachMethod::Stacked && state.mapped->open_count > 0)
        return fmt::format("{} is open", state.device);
    return {};
}

/// What is there before a rollback, called as whoever asked for that wanted.
SnapshotRecord Engine::undoRecord(const Metadata& metadata, const OriginRecord& origin) {
    SnapshotRecord undo;
    undo.uuid = origin.rollback->undo;
    undo.id = origin.rollback->undo_id;
    undo.name = origin.rollback->undo_name;
    undo.origin = origin.uuid;
    if (const auto* const target = metadata.snapshot(origin.rollback->target))
        undo.description = fmt::format("what was there before the rollback to {}", target->name);
    return undo;
}

Uuid Engine::rollback(const Uuid& snapshot, const RollbackOptions& options) {
    requireRollback(mapper_);
    StoreState& store = storeOfSnapshot(snapshot);
    load(store);
    const auto* const target = store.metadata.snapshot(snapshot);
    if (target == nullptr)
        fail(ErrorKind::NotFound, "the snapshot {} is gone", snapshot.dashed());
    const std::uint32_t target_id = target->id;
    checkTarget(*target, store.snapshots.at(target_id), options.force);
    Metadata changed = store.metadata;
    OriginRecord& origin = *changed.origin(target->origin);
    const OriginRecord before = origin;
    const OriginState state = store.origins.at(origin.id);
    if (origin.rollback)
        fail(ErrorKind::Busy, "the origin {} has a rollback already: let it end, or cancel it",
             origin.name);
    std::string use = useOf(origin, state);
    // Until it begins the snapshot may be used.
    if (use.empty())
        use = useOfSnapshot(*target, store.snapshots.at(target_id));
    if (!options.schedule && state.condition != OriginCondition::Attached)
        fail(ErrorKind::Busy,
             "{}: attach it first (\"snapd-cli origin attach {}\"); or have the rollback scheduled "
             "(--schedule), then it begins when that is done",
             use, shellWord(origin.device.path));
    if (!use.empty() && !options.schedule)
        fail(ErrorKind::Busy,
             "{}: stop using it first; or have the rollback scheduled (--schedule), then it begins "
             "when the origin is attached the next time, before file systems are mounted",
             use);
    RollbackRecord record;
    record.target = snapshot;
    record.undo_id = changed.next_snapshot_id;
    record.undo = Uuid::random();
    record.undo_name = undoName(store.metadata, options.undo_name, target->name, record.undo);
    record.scheduled = !use.empty();
    record.force = options.force;
    if (record.undo_id > COWSNAP_ID_MAX)
        fail(ErrorKind::Overflowed, "the store {} has used up its ids", store.name);
    ++changed.next_snapshot_id;
    origin.rollback = record;
    // The reads of an interposed origin cannot be redirected: it is attached anew, stacked.
    const bool stack_first = use.empty() && state.method == AttachMethod::Interposed;
    const std::string message = rollbackMessage(origin.id, target_id, record.undo_id, options.force,
                                                record.scheduled || stack_first);
    Metadata begun = changed;
    SnapshotRecord undo = undoRecord(begun, origin);
    undo.created = static_cast<std::uint64_t>(std::time(nullptr));
    begun.snapshots.push_back(std::move(undo));
    checkFits(store, begun);
    turns_.checked();
    persist(store, std::move(changed));
    // Only then the kernel may have it although something failed, and no cow-origin to tell.
    bool has_been_scheduled = false;
    try {
        if (record.scheduled) {
            mapper_.message(store.mapped->name, message);
        } else if (stack_first) {
            removeSnapshotDevice(store, *store.metadata.snapshot(snapshot));
            mapper_.message(store.mapped->name, message);
            has_been_scheduled = true;
            stackForRollback(store, before);
        } else {
            removeSnapshotDevice(store, *store.metadata.snapshot(snapshot));
            devices_.exclusively(state.device,
                                 [&] { mapper_.message(store.mapped->name, message); });
        }
    } catch (const Error& error) {
        // what the kernel has all the same is found by load()
        changed = store.metadata;
        if (!kernelHasRollback(store, before.id, has_been_scheduled))
            changed.origin(before.uuid)->rollback.reset();
        persist(store, std::move(changed));
        load(store);
        fail(error.kind(), "nothing was rolled back: {}", error.what());
    }
    load(store);
    const std::string target_name = store.metadata.snapshot(snapshot)->name;
    const LogFields about(
        logFieldsOf(store, {{kLogOrigin, before.name}, {kLogSnapshot, target_name}}));
    spdlog::info(
        "the origin {} {} rolled back to the snapshot {}; what was there before {} the "
        "snapshot {}",
        before.name, record.scheduled ? "will be" : "is", target_name,
        record.scheduled ? "will be" : "is", record.undo_name);
    return record.undo;
}

/// Scheduled already: it begins when the origin is attached again. If that fails the origin is
/// interposed as before.
void Engine::stackForRollback(StoreState& store, const OriginRecord& origin) {
    try {
        const BlockDevice device = findOriginDevice(devices_, origin);
        mapper_.remove(store.origins.at(origin.id).mapped->name, Visibility::Hidden);
        assembly_.attach(*store.mapped, *store.metadata.origin(origin.uuid), device);
    } catch (const Error&) {
        mapper_.message(store.mapped->name, cancelMessage(origin.id));
        const auto left = assembly_.find(origin.uuid, COWSNAP_DM_ROLE_ORIGIN);
        const bool is_half_made = left && !left->live_table;
        if (is_half_made)
            mapper_.remove(left->name, Visibility::Hidden);
        if (!left || is_half_made)
            assembly_.attach(*store.mapped, origin, findOriginDevice(devices_, origin));
        throw;
    }
}

/// Only a cow-origin tells; without one it is as otherwise says.
bool Engine::kernelHasRollback(StoreState& store, std::uint32_t origin_id, bool otherwise) {
    readKernel(store, mapper_.devices());
    const auto state = store.origins.find(origin_id);
    if (state == store.origins.end())
        return false;
    return state->second.mapped ? state->second.status.rollback != COWSNAP_ROLLBACK_NONE
                                : otherwise;
}

/// NotFound is no error: someone else did that, or it never came to be scheduled.
void Engine::unschedule(const StoreState& store, std::uint32_t origin_id) {
    try {
        mapper_.message(store.mapped->name, cancelMessage(origin_id));
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::NotFound)
            throw;
    }
}

void Engine::cancelRollback(const Uuid& uuid) {
    requireRollback(mapper_);
    StoreState& store = storeOfOrigin(uuid);
    load(store);
    const OriginRecord origin = *store.metadata.origin(uuid);
    const OriginState state = store.origins.at(origin.id);
    const bool runs = state.mapped && (state.status.rollback == COWSNAP_ROLLBACK_RUNNING ||
                                       state.status.rollback == COWSNAP_ROLLBACK_WAITING);
    if (!origin.rollback && !runs)
        fail(ErrorKind::NotFound, "the origin {} has no rollback", origin.name);
    if (const std::string advice = toGoOn(store, origin);
        !advice.empty() && (runs || !origin.rollback->scheduled))
        fail(ErrorKind::Busy, "{}. Then it can be cancelled", advice);
    if (!runs) {
        turns_.checked();
        unschedule(store, origin.id);
        Metadata changed = store.metadata;
        changed.origin(uuid)->rollback.reset();
        const LogFields about(logFieldsOf(store, {{kLogOrigin, changed.origin(uuid)->name}}));
        persist(store, std::move(changed));
        load(store);
        spdlog::info("the rollback of the origin {} is not scheduled any more",
                     store.metadata.origin(uuid)->name);
        return;
    }
    if (state.status.undo == 0)
        fail(ErrorKind::Busy, "the rollback of the origin {} is being cancelled already",
             origin.name);
    if (const std::string use = useOf(origin, state); !use.empty())
        fail(ErrorKind::Busy,
             "{}, and what it shows would change: stop using it first. Or let the rollback end, "
             "and roll back to the snapshot of what was before",
             use);
    turns_.checked();
    // Before: it may be over before anybody can look.
    const auto recordCancelled = [&](bool cancelled) {
        Metadata changed = store.metadata;
        if (auto& rollback = changed.origin(uuid)->rollback) {
            rollback->cancelled = cancelled;
            persistFound(store, std::move(changed));
        }
    };
    recordCancelled(true);
    try {
        devices_.exclusively(
            state.device, [&] { mapper_.message(store.mapped->name, cancelMessage(origin.id)); });
    } catch (const Error&) {
        recordCancelled(false);
        throw;
    }
    load(store);
    const LogFields about(logFieldsOf(store, {{kLogOrigin, origin.name}}));
    spdlog::info("the rollback of the origin {} is cancelled: it goes back to what was before",
                 origin.name);
}

/// A rollback that was to be scheduled for an origin that is not attached, and perhaps was not. One
/// that the kernel does not take now is not tried again: it must not begin when nobody thinks of it
/// any more.
void Engine::finishScheduling(StoreState& store) {
    Metadata changed = store.metadata;
    bool different = false;
    for (auto& origin : changed.origins) {
        const auto state = store.origins.find(origin.id);
        if (!origin.rollback || !origin.rollback->scheduled || state == store.origins.end() ||
            state->second.mapped || store.snapshots.contains(origin.rollback->undo_id))
            continue;
        const auto* const target = store.metadata.snapshot(origin.rollback->target);
        const LogFields about(
            logFieldsOf(store, {{kLogOrigin, origin.name},
                                {kLogSnapshot, target == nullptr ? std::string() : target->name}}));
        try {
            if (target == nullptr)
                fail(ErrorKind::NotFound, "the snapshot that it was to go back to is gone");
            mapper_.message(store.mapped->name,
                            rollbackMessage(origin.id, target->id, origin.rollback->undo_id,
                                            origin.rollback->force, true));
            spdlog::info("the rollback of the origin {} is scheduled, as was asked for",
                         origin.name);
        } catch (const Error& error) {
            if (error.kind() == ErrorKind::Busy)  // it is scheduled
                continue;
            spdlog::warn("the rollback of the origin {} is not scheduled: {}", origin.name,
                         error.what());
            origin.rollback.reset();
            different = true;
        }
    }
    if (different)
        persist(store, std::move(changed));
}

}  // namespace cowsnap
