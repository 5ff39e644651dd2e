// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/snapshot_checks.h"

#include <string>
#include <vector>

#include "base/names.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

/// What the cow-origin says; null if there is none.
const OriginStatus* statusOf(const StoreState& store, const OriginRecord& origin) {
    const auto state = store.origins.find(origin.id);
    if (state == store.origins.end() || !state->second.mapped)
        return nullptr;
    return &state->second.status;
}

bool isScheduled(const StoreState& store, const OriginRecord& origin) {
    if (const auto* const status = statusOf(store, origin))
        return status->rollback == COWSNAP_ROLLBACK_SCHEDULED;
    return origin.rollback && origin.rollback->scheduled;
}

constexpr std::string_view kUntilCopied =
    "until all is copied back: \"snapd-cli job list\" shows how far that is, and \"snapd-cli job "
    "wait JOB\" waits for it";

}  // namespace

void checkSetSize(std::size_t members) {
    if (members == 0)
        fail(ErrorKind::InvalidArgument, "name at least one origin to snapshot");
    if (members > COWSNAP_SET_MAX)
        fail(ErrorKind::InvalidArgument, "a set has at most {} origins, these are {}",
             COWSNAP_SET_MAX, members);
}

void checkNotLost(const SnapshotRecord& snapshot, const SnapshotState& state) {
    if (state.line.state == COWSNAP_STATE_LOST)
        fail(ErrorKind::Overflowed,
             "the snapshot {} is lost: it missed writes of its origin and can only be deleted",
             snapshot.name);
}

void checkNotOpen(const SnapshotRecord& snapshot, const SnapshotState& state) {
    if (state.mapped && state.mapped->open_count > 0)
        fail(ErrorKind::Busy,
             "the snapshot {} is open as {}: unmount it, or stop what uses it, first",
             snapshot.name, state.mapped->path());
}

bool isReplaced(const SnapshotState& state) {
    return !state.mapped && !state.problem.empty();
}

void checkNotReplaced(const SnapshotRecord& snapshot, const SnapshotState& state) {
    if (isReplaced(state))
        fail(ErrorKind::Busy, "the snapshot {}: {}", snapshot.name, state.problem);
}

void checkNotHeld(const SnapshotRecord& snapshot) {
    if (snapshot.holds.empty())
        return;
    std::vector<std::string> commands;
    for (const auto& hold : snapshot.holds)
        commands.push_back(
            fmt::format("\"snapd-cli release {} {}\"", shellWord(hold), shellWord(snapshot.name)));
    fail(ErrorKind::Held,
         "the snapshot {} is held ({}): it can be deleted when all holds are released, with {}",
         snapshot.name, fmt::join(snapshot.holds, ", "), fmt::join(commands, " and "));
}

bool rollbackNeeds(const StoreState& store, const SnapshotRecord& snapshot) {
    const OriginRecord* const origin = store.metadata.origin(snapshot.origin);
    if (origin == nullptr)
        return false;
    if (const auto* const status = statusOf(store, *origin))
        return status->rollback != COWSNAP_ROLLBACK_NONE &&
               (status->target == snapshot.id || status->undo == snapshot.id);
    return origin->rollback &&
           (origin->rollback->target == snapshot.uuid || origin->rollback->undo == snapshot.uuid);
}

std::string toGoOn(const StoreState& store, const OriginRecord& origin) {
    const auto state = store.origins.find(origin.id);
    if (state != store.origins.end() && state->second.condition == OriginCondition::Attached)
        return {};
    return fmt::format(
        "the origin {0} is not attached, and its rollback goes on only when it is: \"snapd-cli "
        "origin attach {1}\". If its device does not come back, another one of the same size takes "
        "its place: \"snapd-cli origin attach DEVICE --store {2} --as {3}\"; what was not "
        "preserved "
        "is lost",
        origin.name, shellWord(origin.device.path), shellWord(store.name), shellWord(origin.name));
}

void checkNoRollbackNeeds(const StoreState& store, const SnapshotRecord& snapshot) {
    if (!rollbackNeeds(store, snapshot))
        return;
    const OriginRecord& origin = *store.metadata.origin(snapshot.origin);
    if (isScheduled(store, origin))
        fail(ErrorKind::Busy,
             "the origin {} is to be rolled back to the snapshot {} when it is attached the next "
             "time: cancel that first, with \"snapd-cli cancel {}\"",
             origin.name, snapshot.name, shellWord(origin.name));
    if (const std::string advice = toGoOn(store, origin); !advice.empty())
        fail(ErrorKind::Busy,
             "the rollback of the origin {} needs the snapshot {} until all is copied back. But {}",
             origin.name, snapshot.name, advice);
    fail(ErrorKind::Busy, "the rollback of the origin {} needs the snapshot {} {}", origin.name,
         snapshot.name, kUntilCopied);
}

void checkNoRollbackRuns(const StoreState& store, const OriginRecord& origin) {
    const auto* const status = statusOf(store, origin);
    if (status == nullptr || status->rollback == COWSNAP_ROLLBACK_NONE ||
        status->rollback == COWSNAP_ROLLBACK_SCHEDULED)
        return;
    fail(ErrorKind::Busy,
         "the origin {} is being rolled back, and no snapshot of it can be created {}", origin.name,
         kUntilCopied);
}

}  // namespace cowsnap
