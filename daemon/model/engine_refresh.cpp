// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel says, and making the metadata agree with it: the kernel tells
// which origins and snapshots there are, the metadata what they are called.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <ctime>
#include <set>
#include <string_view>

#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

/// All answers to a message that takes the last number seen.
template <typename Parse>
auto askAll(DeviceMapper& mapper, const std::string& store, std::string_view message, Parse parse) {
    decltype(parse(std::string_view())) all;
    for (;;) {
        const std::string text =
            all.empty() ? std::string(message) : fmt::format("{} {}", message, all.back().id);
        const auto lines = parse(mapper.message(store, text));
        if (lines.empty())
            return all;
        if (!all.empty() && lines.front().id <= all.back().id)
            fail(ErrorKind::Failed, "the answer to \"{}\" is not in the order of ids", text);
        all.insert(all.end(), lines.begin(), lines.end());
    }
}

std::string eventText(const StoreState& store, const EventLine& event) {
    const auto origin_name = [&] {
        for (const auto& origin : store.metadata.origins)
            if (origin.id == event.id)
                return origin.name;
        return fmt::format("with the id {}", event.id);
    };
    if (event.event == COWSNAP_EVENT_LOW_WATER)
        return fmt::format("the store {} has only {} free segments: extend it", store.name,
                           event.id);
    if (event.event == COWSNAP_EVENT_FULL)
        return fmt::format("the store {} is full, writes to the origin {} wait: extend it now",
                           store.name, origin_name());
    if (event.event == COWSNAP_EVENT_DROPPED)
        return fmt::format("a snapshot was dropped for room in the store {}", store.name);
    if (event.event == COWSNAP_EVENT_DAMAGE)
        return fmt::format("damage was found in the log of the origin {}", origin_name());
    if (event.event == COWSNAP_EVENT_STALE)
        return fmt::format(
            "the origin {} was written while nothing was in front of it, or its device became "
            "smaller: its snapshots until now are stale, not exact",
            origin_name());
    if (event.event == COWSNAP_EVENT_ROLLED_BACK)
        return fmt::format("the origin {} is rolled back: all of it is copied back", origin_name());
    if (event.event == COWSNAP_EVENT_ROLLBACK_WAITS)
        return fmt::format(
            "the rollback of the origin {} waits: a block cannot be read or written, or the store "
            "is full or fails; it is tried again, and can be cancelled",
            origin_name());
    if (event.event == COWSNAP_EVENT_FAILED)
        return fmt::format("a device of the store {} fails", store.name);
    if (event.event == COWSNAP_EVENT_UNRECORDED)
        return fmt::format(
            "the store {} cannot be told that its snapshots are lost: that is recorded outside it",
            store.name);
    return fmt::format("the store {} raised the event {}", store.name, event.event);
}

/// What its id is of, as far as that is known.
LogFields::Fields fieldsOfEvent(const StoreState& store, const EventLine& event) {
    static const std::set<std::string_view> of_origins{
        COWSNAP_EVENT_FULL, COWSNAP_EVENT_DAMAGE, COWSNAP_EVENT_STALE, COWSNAP_EVENT_ROLLED_BACK,
        COWSNAP_EVENT_ROLLBACK_WAITS};
    if (of_origins.contains(event.event))
        for (const auto& origin : store.metadata.origins)
            if (origin.id == event.id)
                return {{kLogOrigin, origin.name}};
    if (event.event == COWSNAP_EVENT_DROPPED)
        for (const auto& snapshot : store.metadata.snapshots)
            if (snapshot.id == event.id)
                return {{kLogSnapshot, snapshot.name}};
    return {};
}

}  // namespace

void Engine::persist(StoreState& store, Metadata metadata) {
    const std::string body = formatMetadata(metadata);
    store.slots->write(metadataSchema(metadata), body);
    store.metadata = std::move(metadata);
    store.metadata_damaged = false;  // it was the older one that was written over
    backups_.put(store.uuid, store.slots->generation(), body, metadata_backups_);
    registerClosed(store);
}

/// NoSpace if persist() would fail for want of room: asked before anything is changed.
void Engine::checkFits(const StoreState& store, const Metadata& metadata) {
    store.slots->checkFits(formatMetadata(metadata).size());
}

void Engine::load(StoreState& store) {
    readKernel(store, mapper_.devices());
    checkSpace(store);
    readEvents(store);
    reconcile(store);
}

void Engine::refresh(const Uuid& uuid) {
    const auto found = stores_.find(uuid);
    if (found == stores_.end())
        return;
    turns_.require(uuid);
    StoreState& store = found->second;
    const LogFields about(logFieldsOf(store));
    if (store.lacks_module && mapper_.targetVersion(COWSNAP_TARGET_STORE)) {
        spdlog::info("the kernel module is loaded now: the store {} is started", store.name);
        startStore(uuid);
        return;
    }
    if (!store.slots)
        return;  // its metadata was never read: only opening it again helps
    if (!store.brought_up) {
        startStore(uuid);  // such as one whose metadata could not be written just then
        return;
    }
    try {
        load(store);
        if (store.metadata_damaged)
            store.metadata_damaged = !store.slots->damage().empty();
        store.problem.clear();
    } catch (const Error& error) {
        // What is known already is not told again with each look.
        if (store.problem != error.what())
            spdlog::error("cannot read the state of the store {}: {}", store.name, error.what());
        store.problem = error.what();
        store.problem_kind = error.kind();
    }
}

void Engine::recordLosses(const Uuid& uuid) {
    const auto found = stores_.find(uuid);
    if (found == stores_.end() || !found->second.mapped)
        return;
    const MappedDevice mapped = *found->second.mapped;
    try {
        recordLoss(uuid, mapped);
    } catch (const Error& error) {
        // It is tried again when the store has its turn.
        spdlog::warn("cannot write down what the store {} lost: {}", uuid.dashed(), error.what());
    }
}

Notices Engine::takeNotices(const StoreSet& stores) {
    Notices taken;
    const auto take = [&](auto& from, auto& to) {
        std::erase_if(from, [&](const auto& notice) {
            const bool wanted = stores.contains(notice.store);
            if (wanted)
                to.push_back(notice);
            return wanted;
        });
    };
    take(notices_.events, taken.events);
    take(notices_.space, taken.space);
    take(notices_.dropped, taken.dropped);
    take(notices_.extended, taken.extended);
    take(notices_.extend_failed, taken.extend_failed);
    return taken;
}

void Engine::readKernel(StoreState& store, const std::vector<MappedDevice>& devices) {
    readStoreTables(store, devices);
    store.status = storeStatus(mapper_, *store.mapped);
    if (store.status.uuid != store.uuid)
        fail(ErrorKind::Failed, "its device {} is that of the store {}: someone replaced it",
             store.mapped->name, store.status.uuid.dashed());
    std::map<std::string, const MappedDevice*> by_uuid;
    for (const auto& device : devices)
        by_uuid.emplace(device.uuid, &device);
    const auto find = [&](const auto* record,
                          std::string_view role) -> std::optional<MappedDevice> {
        if (record == nullptr)
            return std::nullopt;
        const auto found = by_uuid.find(deviceMapperUuid(record->uuid, role));
        if (found == by_uuid.end())
            return std::nullopt;
        return *found->second;
    };
    std::map<std::uint32_t, OriginState> origins;
    for (const auto& line :
         askAll(mapper_, store.mapped->name, COWSNAP_MESSAGE_ORIGINS, parseOriginsAnswer)) {
        OriginState& state = origins[line.id];
        state.line = line;
        readOrigin(store, find(store.metadata.originWithId(line.id), COWSNAP_DM_ROLE_ORIGIN),
                   state);
    }
    std::map<std::uint32_t, SnapshotState> snapshots;
    for (const auto& line :
         askAll(mapper_, store.mapped->name, COWSNAP_MESSAGE_SNAPSHOTS, parseSnapshotsAnswer)) {
        SnapshotState& state = snapshots[line.id];
        state.line = line;
        readSnapshot(store, find(store.metadata.snapshotWithId(line.id), COWSNAP_DM_ROLE_SNAPSHOT),
                     state);
    }
    store.origins = std::move(origins);
    store.snapshots = std::move(snapshots);
}

/// What a store that fails could not be told is written down here before its origins go on.
void Engine::recordLoss(const Uuid& store, const MappedDevice& mapped) {
    if (storeStatus(mapper_, mapped).state != COWSNAP_STORE_FAILED)
        return;
    for (const auto& event :
         parseEventsAnswer(mapper_.message(mapped.name, COWSNAP_MESSAGE_EVENTS)))
        if (event.event == COWSNAP_EVENT_UNRECORDED) {
            losses_.put(store, event.id);
            mapper_.message(mapped.name, COWSNAP_MESSAGE_LOSS_RECORDED);
        }
}

void Engine::checkSpace(StoreState& store) {
    const std::uint64_t total = store.status.total_segments;
    const std::uint64_t used = store.status.usedSegments();
    store.growth.add(used, std::chrono::steady_clock::now());
    const auto until_full = store.growth.until(total - used);
    store.expected_full =
        until_full ? static_cast<std::uint64_t>(std::time(nullptr) + until_full->count()) : 0;
    const auto reached = [&](unsigned percent) {
        return total > 0 && used * 100 >= total * percent;
    };
    unsigned level = 0;
    for (const unsigned percent : space_warnings_)
        if (reached(percent))
            level = percent;
    if (level > store.told_percent) {
        const std::uint64_t free_bytes =
            (total - used) * store.status.segment_sectors * kSectorBytes;
        notices_.space.push_back({store.uuid, level, free_bytes});
        const LogFields about(logFieldsOf(store));
        spdlog::warn("the store {} is used to {} %, {} are free: extend it, or delete snapshots",
                     store.name, used * 100 / total, sizeText(free_bytes));
        store.told_percent = level;
        return;
    }
    // Usage that goes to and fro around a limit is told of once.
    constexpr unsigned clearly_percent = 5;
    const auto clearlyBelow = [&](unsigned percent) {
        return !reached(percent > clearly_percent ? percent - clearly_percent : percent / 2);
    };
    while (store.told_percent > level && clearlyBelow(store.told_percent)) {
        unsigned lower = 0;
        for (const unsigned percent : space_warnings_)
            if (percent < store.told_percent)
                lower = percent;
        store.told_percent = lower;
    }
}

void Engine::readEvents(StoreState& store) {
    if (store.events_known && store.status.last_event <= store.last_event)
        return;
    // What an earlier daemon told is not told again; what came before any ran is.
    std::uint64_t told = store.last_event;
    if (!store.events_known) {
        told = told_events_.last(store.uuid);
        if (told > store.status.last_event)
            told = 0;
    }
    auto& remembered = store.remembered_events;
    const auto lines = parseEventsAnswer(mapper_.message(
        store.mapped->name, fmt::format("{} {}", COWSNAP_MESSAGE_EVENTS, store.last_event)));
    // First, and again if it fails: writes to the origins wait for it.
    if (std::any_of(lines.begin(), lines.end(),
                    [](const auto& line) { return line.event == COWSNAP_EVENT_UNRECORDED; }))
        recordLoss(store.uuid, *store.mapped);
    for (const auto& line : lines) {
        store.last_event = std::max(store.last_event, line.number);
        remembered.push_back(line);
        if (line.number <= told)
            continue;
        notices_.events.push_back(
            {store.uuid, line.number, line.event, line.id, eventText(store, line)});
        const LogFields about(logFieldsOf(store, fieldsOfEvent(store, line)));
        spdlog::warn("{}", notices_.events.back().text);
    }
    if (store.last_event > told)
        told_events_.put(store.uuid, store.last_event);
    store.events_known = true;
    if (remembered.size() > COWSNAP_EVENTS_KEPT)
        remembered.erase(remembered.begin(), remembered.end() - COWSNAP_EVENTS_KEPT);
}

std::string Engine::dropReason(const StoreState& store, const SnapshotRecord& snapshot) const {
    std::string reason =
        "it is not in the store: its creation was interrupted, or it was deleted by other means";
    for (const auto& event : store.remembered_events)
        if (event.event == COWSNAP_EVENT_DROPPED && event.id == snapshot.id)
            reason = "it was dropped to make room in a full store";
    // The kernel knows no holds: an origin that gets errors would be worse than a broken hold.
    if (!snapshot.holds.empty())
        reason += fmt::format(", although it was held ({})", fmt::join(snapshot.holds, ", "));
    return reason;
}

namespace {

/// A rollback is over. One that was scheduled and cancelled by other means has made no snapshot.
void endRollback(const StoreState& store, OriginRecord& origin) {
    const RollbackRecord& rollback = *origin.rollback;
    if (!rollback.cancelled) {
        if (store.snapshots.contains(rollback.undo_id))
            origin.rolled_back = {rollback.target, rollback.undo};
        else if (!rollback.scheduled)
            origin.rolled_back.reset();
    }
    origin.rollback.reset();
}

/// What became of a rollback. False if that was known. Only a cow-origin tells.
bool takeInRollback(const StoreState& store, OriginRecord& origin) {
    const auto state = store.origins.find(origin.id);
    if (!origin.rollback || state == store.origins.end() || !state->second.mapped)
        return false;
    const OriginStatus& status = state->second.status;
    if (status.rollback == COWSNAP_ROLLBACK_NONE) {
        endRollback(store, origin);
        return true;
    }
    const bool scheduled = status.rollback == COWSNAP_ROLLBACK_SCHEDULED;
    const bool cancelled = !scheduled && status.undo == 0;
    if (origin.rollback->scheduled == scheduled && origin.rollback->cancelled == cancelled)
        return false;
    origin.rollback->scheduled = scheduled;
    origin.rollback->cancelled = cancelled;
    return true;
}

}  // namespace

void Engine::reconcile(StoreState& store) {
    Metadata changed = store.metadata;
    bool different = false;
    for (const auto& [id, state] : store.origins) {
        changed.next_origin_id = std::max(changed.next_origin_id, id + 1);
        if (changed.originWithId(id) != nullptr)
            continue;
        OriginRecord origin;
        origin.uuid = Uuid::random();
        origin.id = id;
        origin.name = fmt::format("recovered-{}", id);
        origin.device.size_sectors = state.line.size_sectors;
        origin.mapped_name = fmt::format("cowsnap-recovered-{}", origin.uuid.brief());
        const LogFields about(logFieldsOf(store, {{kLogOrigin, origin.name}}));
        spdlog::warn(
            "the store {} has an origin with the id {} that the metadata does not know: it is "
            "named {}",
            store.name, id, origin.name);
        changed.origins.push_back(std::move(origin));
        different = true;
    }
    for (const auto& [id, state] : store.snapshots) {
        changed.next_snapshot_id = std::max(changed.next_snapshot_id, id + 1);
        if (auto* record = changed.snapshotWithId(id)) {
            record->created = state.line.created;
            record->set = state.line.set;
            continue;
        }
        const auto* const origin = changed.originWithId(state.line.origin);
        if (origin == nullptr)
            fail(ErrorKind::Failed,
                 "the kernel has a snapshot {} of an origin {} that it does not have", id,
                 state.line.origin);
        const bool is_undo = origin->rollback && origin->rollback->undo_id == id;
        SnapshotRecord snapshot = is_undo ? undoRecord(changed, *origin) : SnapshotRecord();
        snapshot.id = id;
        snapshot.origin = origin->uuid;
        snapshot.created = state.line.created;
        snapshot.set = state.line.set;
        snapshot.writable = state.line.overlay_blocks > 0;
        if (!is_undo) {
            snapshot.uuid = Uuid::random();
            snapshot.name = fmt::format("recovered-{}", id);
            while (changed.snapshotNameTaken(snapshot.name))
                snapshot.name += "-" + snapshot.uuid.brief();
            const LogFields about(logFieldsOf(store, {{kLogSnapshot, snapshot.name}}));
            spdlog::warn(
                "the store {} has a snapshot with the id {} that the metadata does not know: it is "
                "named {}",
                store.name, id, snapshot.name);
        }
        changed.snapshots.push_back(std::move(snapshot));
        different = true;
    }
    std::erase_if(changed.snapshots, [&](const SnapshotRecord& record) {
        if (store.snapshots.contains(record.id))
            return false;
        different = true;
        if (record.deleting)
            return true;
        notices_.dropped.push_back(
            {store.uuid, record.uuid, record.name, dropReason(store, record)});
        const LogFields about(logFieldsOf(store, {{kLogSnapshot, record.name}}));
        spdlog::warn("the snapshot {} is gone: {}", record.name, notices_.dropped.back().reason);
        return true;
    });
    for (auto& origin : changed.origins)
        different |= takeInRollback(store, origin);
    std::erase_if(changed.origins, [&](const OriginRecord& record) {
        if (store.origins.contains(record.id))
            return false;
        different = true;
        if (record.detaching)
            return true;
        const LogFields about(logFieldsOf(store, {{kLogOrigin, record.name}}));
        spdlog::warn("the origin {} was never completely attached: it is forgotten", record.name);
        return true;
    });
    if (different)
        persistFound(store, std::move(changed));
    else
        store.metadata = std::move(changed);
}

/// What is there already is known, whether or not there is room to write it down: else nothing
/// could be deleted to make room. It is found again at the next start, and written with what comes
/// next.
void Engine::persistFound(StoreState& store, Metadata found) {
    try {
        persist(store, found);
    } catch (const Error& error) {
        if (error.kind() != ErrorKind::NoSpace)
            throw;
        const LogFields about(logFieldsOf(store));
        spdlog::error("what is known of the store {} is not written down: {}", store.name,
                      error.what());
        store.metadata = std::move(found);
    }
}

void Engine::finishInterrupted(StoreState& store) {
    const LogFields about(logFieldsOf(store));
    finishScheduling(store);
    std::vector<Uuid> deleting;
    for (const auto& snapshot : store.metadata.snapshots)
        if (snapshot.deleting)
            deleting.push_back(snapshot.uuid);
    if (!deleting.empty()) {
        try {
            deleteInStore(store, deleting);
            spdlog::info("finished an interrupted deletion of {} snapshots", deleting.size());
        } catch (const Error& error) {
            spdlog::warn("an interrupted deletion was undone: {}", error.what());
        }
    }
    std::vector<Uuid> detaching;
    for (const auto& origin : store.metadata.origins)
        if (origin.detaching)
            detaching.push_back(origin.uuid);
    for (const Uuid& uuid : detaching) {
        try {
            finishDetach(store, uuid);
            spdlog::info("finished an interrupted detach");
        } catch (const Error& error) {
            spdlog::warn("an interrupted detach was undone: {}", error.what());
            Metadata changed = store.metadata;
            if (auto* record = changed.origin(uuid))
                record->detaching = false;
            persist(store, std::move(changed));
        }
    }
    load(store);
}

}  // namespace cowsnap
