// SPDX-License-Identifier: GPL-2.0-or-later
// Whether the mapped devices are what they were made as, and the devices below them are there and
// as large as they were. What someone else changed is told, once, and not overwritten.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "base/names.h"
#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

std::optional<MappedDevice> findIn(const std::vector<MappedDevice>& devices, const Uuid& uuid,
                                   std::string_view role) {
    const std::string wanted = deviceMapperUuid(uuid, role);
    const auto found = std::find_if(devices.begin(), devices.end(),
                                    [&](const auto& device) { return device.uuid == wanted; });
    if (found == devices.end())
        return std::nullopt;
    return *found;
}

bool isOnly(const std::vector<MappedTarget>& table, std::string_view type) {
    return table.size() == 1 && table.front().type == type;
}

std::string text(const std::vector<MappedTarget>& table) {
    std::string lines;
    for (const auto& target : table)
        lines += fmt::format("{}{} {} {} {}", lines.empty() ? "" : "\\n", target.start_sector,
                             target.length_sectors, target.type, target.arguments);
    return lines;
}

/// What comes of a device that is suspended and that the daemon did not suspend.
std::string suspendedText(const MappedDevice& device, std::string_view who_waits) {
    return fmt::format(
        "its mapped device {0} is suspended: someone did that (\"dmsetup suspend\"), and {1} waits "
        "until it is resumed: \"dmsetup resume {0}\"",
        device.name, who_waits);
}

std::string resized(std::string_view how, const std::string& path, std::uint64_t size_sectors,
                    std::uint64_t now_sectors) {
    return fmt::format("its device {} has {} from {} to {} sectors", path, how, size_sectors,
                       now_sectors);
}

}  // namespace

std::string_view conditionName(OriginCondition condition) {
    switch (condition) {
        case OriginCondition::Attached:
            return "attached";
        case OriginCondition::Gone:
            return "gone";
        case OriginCondition::Changed:
            return "changed";
        case OriginCondition::Missing:
            break;
    }
    return "missing";
}

std::string snapshotState(const StoreState& store, const SnapshotRecord& snapshot) {
    const auto state = store.snapshots.find(snapshot.id);
    if (state == store.snapshots.end())
        return {};
    const SnapshotLine& line = state->second.line;
    const auto origin = store.origins.find(line.origin);
    const bool known_for_worse =
        line.state == COWSNAP_STATE_LOST || line.state == COWSNAP_STATE_STALE;
    if (known_for_worse ||
        (origin != store.origins.end() && origin->second.condition == OriginCondition::Attached))
        return line.state;
    return std::string(kUnavailable);
}

/// Before anything is written to the slots: they must be those of this store.
void Engine::readStoreTables(StoreState& store, const std::vector<MappedDevice>& devices) {
    store.mapped = findIn(devices, store.uuid, COWSNAP_DM_ROLE_STORE);
    const auto data = findIn(devices, store.uuid, COWSNAP_DM_ROLE_DATA);
    if (!store.mapped || !data)
        fail(ErrorKind::NotFound,
             "its device is gone: someone removed it; restart the daemon to activate the store "
             "again");
    // Someone may have renamed it ("dmsetup rename"): it is known by its UUID.
    if (store.slots)
        store.slots->moveTo(store.mapped->path());
    for (const MappedDevice& device : {*store.mapped, *data})
        if (device.suspended)
            fail(ErrorKind::Failed, "{}. Nothing is done to the store until then",
                 suspendedText(device, "the store, and what is written to its origins,"));
    const auto table = mapper_.table(store.mapped->name);
    if (!isOnly(table, COWSNAP_TARGET_STORE)) {
        const std::string name = store.mapped->name;
        store.mapped.reset();
        fail(ErrorKind::Failed,
             "its device {} is no {} any more: someone changed its table. Nothing is done to the "
             "store until it has its table again (\"dmsetup load\"), or after a reboot",
             name, COWSNAP_TARGET_STORE);
    }
    const StoreTable parsed = parseStoreTable(table.front().arguments);
    store.length_sectors = table.front().length_sectors;
    store.low_water_segments = parsed.low_water_segments;
    if (parsed.device != data->number.text() ||
        !sameUpTo(store.length_sectors, mapper_.table(data->name), store.data_table))
        fail(ErrorKind::Failed,
             "it stands on other devices than before: someone changed the table of {}. Nothing is "
             "done to the store until that is \"{}\" again, or after a reboot",
             data->name, text(store.data_table));
}

void Engine::readOrigin(const StoreState& store, const std::optional<MappedDevice>& mapped,
                        OriginState& state) {
    const auto known = store.origins.find(state.line.id);
    const OriginState before = known == store.origins.end() ? OriginState() : known->second;
    const OriginRecord* const record = store.metadata.originWithId(state.line.id);
    if (mapped)
        readOriginTable(store, *mapped, state);
    else if (before.condition == OriginCondition::Missing || record == nullptr)
        state.problem = before.problem;
    else
        state.problem = fmt::format(
            "its mapped device {} has been removed: what is written to {} is not preserved until "
            "it is attached again (\"snapd-cli origin attach {}\")",
            record->mapped_name, record->device.path, shellWord(record->device.path));
    if (record == nullptr || state.problem.empty() || state.problem == before.problem)
        return;
    const LogFields about(logFieldsOf(store, {{kLogOrigin, record->name}}));
    spdlog::error("the origin {}: {}", record->name, state.problem);
}

void Engine::readOriginTable(const StoreState& store, const MappedDevice& mapped,
                             OriginState& state) {
    const OriginRecord& origin = *store.metadata.originWithId(state.line.id);
    const auto changed = [&] {
        state.condition = OriginCondition::Changed;
        state.problem = fmt::format(
            "its mapped device {0} is not its {1} any more: someone changed the table. What is "
            "written to {2} is not preserved. When nobody uses {0}: \"dmsetup remove {3}\", then "
            "\"snapd-cli origin attach {4}\"",
            mapped.name, COWSNAP_TARGET_ORIGIN, origin.device.path, shellWord(mapped.name),
            shellWord(origin.device.path));
    };
    const auto targets = mapper_.table(mapped.name);
    if (!isOnly(targets, COWSNAP_TARGET_ORIGIN))
        return changed();
    const OriginTable table = parseOriginTable(targets.front().arguments);
    if (table.id != origin.id || table.store != store.mapped->number.text())
        return changed();
    state.status = parseOriginStatus(
        onlyTarget(mapper_.status(mapped.name), COWSNAP_TARGET_ORIGIN, mapped.name).arguments);
    state.mapped = mapped;
    state.method = table.interpose ? AttachMethod::Interposed : AttachMethod::Stacked;
    state.lower = DeviceNumber::parse(table.device);
    state.condition = OriginCondition::Attached;
    state.device = mapped.path();
    if (state.lower)
        lookAtOriginDevice(store, origin, state);
    if (mapped.suspended)
        state.problem = suspendedText(mapped, "who uses it");
}

void Engine::lookAtOriginDevice(const StoreState& store, const OriginRecord& origin,
                                OriginState& state) {
    const std::uint64_t size_sectors = state.line.size_sectors;
    std::string path;
    std::uint64_t now_sectors = 0;
    try {
        path = devices_.pathOf(*state.lower);
        now_sectors = devices_.sizeOf(*state.lower);
    } catch (const Error&) {
        state.condition = OriginCondition::Gone;
        state.device.clear();
        const bool is_rolled_back = state.status.rollback == COWSNAP_ROLLBACK_RUNNING ||
                                    state.status.rollback == COWSNAP_ROLLBACK_WAITING;
        state.problem = fmt::format(
            "its device {0} has been pulled out: what its snapshots have not preserved cannot be "
            "read. If it comes back: \"snapd-cli origin attach {0}\". If not: {2}delete its "
            "snapshots, then \"snapd-cli origin detach {1}\"",
            shellWord(origin.device.path), shellWord(origin.name),
            is_rolled_back
                ? fmt::format("its rollback needs another device of the same size to end, "
                              "\"snapd-cli origin attach DEVICE --store {} --as {}\"; then ",
                              shellWord(store.name), shellWord(origin.name))
                : std::string());
        return;
    }
    if (state.method == AttachMethod::Interposed)
        state.device = path;
    // Over a device that is stacked, whoever uses it sees the size that is snapshotted.
    if (origin.method == AttachMethod::Stacked && now_sectors > size_sectors)
        return;
    state.resized = now_sectors != size_sectors;
    if (now_sectors > size_sectors)
        state.problem = fmt::format(
            "{}: its snapshots stay exact, but have nothing of what lies beyond, and no new ones "
            "are created. For new ones delete them, then \"snapd-cli origin detach {}\" and "
            "\"snapd-cli origin attach {}\"",
            resized("grown", path, size_sectors, now_sectors), shellWord(origin.name),
            shellWord(path));
    else if (now_sectors < size_sectors)
        state.problem = fmt::format(
            "{}: what its snapshots have not preserved of the rest cannot be read, and they are "
            "stale: if it grows again there may be something else. No new ones are created before "
            "it has its size again. If it is to stay as it is, delete them, then \"snapd-cli "
            "origin detach {}\" and \"snapd-cli origin attach {}\"",
            resized("shrunk", path, size_sectors, now_sectors), shellWord(origin.name),
            shellWord(path));
}

void Engine::readSnapshot(const StoreState& store, const std::optional<MappedDevice>& mapped,
                          SnapshotState& state) {
    if (!mapped)
        return;
    const auto table = mapper_.table(mapped->name);
    if (isOnly(table, COWSNAP_TARGET_SNAP)) {
        const SnapTable parsed = parseSnapTable(table.front().arguments);
        if (parsed.id == state.line.id && parsed.store == store.mapped->number.text()) {
            state.mapped = mapped;
            state.read_only = parsed.read_only;
        }
    }
    if (!state.mapped)
        state.problem = fmt::format(
            "its mapped device {0} is not its {1} any more: someone changed the table. When nobody "
            "uses {0}: \"dmsetup remove {2}\"",
            mapped->name, COWSNAP_TARGET_SNAP, shellWord(mapped->name));
    else if (mapped->suspended)
        state.problem = suspendedText(*mapped, "who uses it");
    if (state.problem.empty())
        return;
    const SnapshotRecord& snapshot = *store.metadata.snapshotWithId(state.line.id);
    if (const auto known = store.snapshots.find(state.line.id);
        known != store.snapshots.end() && known->second.problem == state.problem)
        return;
    const LogFields about(logFieldsOf(store, {{kLogSnapshot, snapshot.name}}));
    spdlog::error("the snapshot {}: {}", snapshot.name, state.problem);
}

}  // namespace cowsnap
