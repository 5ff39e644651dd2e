// SPDX-License-Identifier: GPL-2.0-or-later
// Extending a store before it is full, with what its administrator named: spare devices first, then
// a new volume of the volume group that the store stands in.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/names.h"
#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

/// How long it is left alone after it failed: longer each time, but not so long that room that was
/// made meanwhile comes too late.
constexpr std::chrono::seconds kFirstRetry{60};
constexpr std::chrono::seconds kLastRetry{300};

/// Smaller steps would only make many devices.
constexpr std::uint64_t kLeastBytes = 16ULL << 20;

std::string tagOf(const Uuid& store) {
    return "cowsnap_" + store.dashed();
}

std::uint64_t bytesOf(const std::vector<DeviceIdentity>& devices) {
    std::uint64_t sectors = 0;
    for (const auto& device : devices)
        sectors += usableSectors(device);
    return sectors * kSectorBytes;
}

}  // namespace

bool Engine::wantsExtension(const Uuid& uuid) const {
    const auto found = stores_.find(uuid);
    if (found == stores_.end())
        return false;
    const StoreState& store = found->second;
    const AutoextendRecord& record = store.metadata.autoextend;
    if (!autoextend_.enabled || !record.enabled || !record.hasSource() || !store.problem.empty() ||
        store.status.state == COWSNAP_STORE_FAILED)
        return false;
    const std::uint64_t total = store.status.total_segments;
    return store.status.usedSegments() * 100 >= total * autoextend_.at_percent && total > 0 &&
           std::chrono::steady_clock::now() >= store.autoextend_retry;
}

AutoextendRecord Engine::changedAutoextend(const Uuid& uuid, AutoextendRecord record,
                                           const std::vector<DeviceIdentity>& devices,
                                           const AutoextendChange& change) {
    if (!change.add_spares.empty()) {
        auto described = describeAll(change.add_spares);
        checkNewStoreDevices(described, uuid);
        for (const auto& device : described) {
            checkBlank(device.identity.path);
            for (const auto& spare : record.spares)
                if (sameDevice(spare, device.identity))
                    fail(ErrorKind::Exists, "{} is a spare of this store already",
                         device.identity.path);
            record.spares.push_back(device.identity);
        }
    }
    for (const auto& path : change.remove_spares) {
        const auto removed = std::find_if(
            record.spares.begin(), record.spares.end(), [&](const DeviceIdentity& spare) {
                return spare.path == path || (!spare.id_link.empty() && spare.id_link == path);
            });
        if (removed == record.spares.end())
            fail(ErrorKind::NotFound, "{} is no spare of this store", path);
        record.spares.erase(removed);
    }
    if (change.max_bytes)
        record.max_bytes = *change.max_bytes;
    // Who names a spare wants it to be taken.
    if (!change.enabled && !change.add_spares.empty())
        record.enabled = true;
    if (!change.enabled)
        return record;
    record.enabled = *change.enabled;
    record.volume_group.clear();
    record.volume_group_name.clear();
    const std::string group_uuid = record.enabled ? volumeGroupUuid(devices.front()) : "";
    if (group_uuid.empty())
        return record;
    try {
        if (const auto group = findGroup(group_uuid)) {
            record.volume_group = group_uuid;
            record.volume_group_name = group->name;
        }
    } catch (const Error& error) {
        spdlog::warn("{} is not extended from its volume group: {}", devices.front().path,
                     error.what());
    }
    return record;
}

namespace {

std::string autoextendText(const StoreState& store) {
    const AutoextendRecord& record = store.metadata.autoextend;
    if (!record.enabled)
        return fmt::format("the store {} is not extended by itself", store.name);
    std::vector<std::string> spares;
    for (const auto& spare : record.spares)
        spares.push_back(spare.path);
    return fmt::format(
        "the store {} is extended by itself{}{}{}", store.name,
        spares.empty() ? std::string() : fmt::format(" with {}", fmt::join(spares, ", ")),
        record.volume_group_name.empty()
            ? std::string()
            : fmt::format(" from the volume group {}", record.volume_group_name),
        record.max_bytes == 0 ? std::string()
                              : fmt::format(" up to {}", sizeText(record.max_bytes)));
}

}  // namespace

void Engine::changeAutoextend(const Uuid& uuid, const AutoextendChange& change) {
    StoreState& store = usableStore(uuid);
    Metadata changed = store.metadata;
    changed.autoextend = changedAutoextend(uuid, changed.autoextend, store.devices, change);
    checkFits(store, changed);
    turns_.checked();
    persist(store, std::move(changed));
    retryAutoextend(store);
    const LogFields about(logFieldsOf(store));
    spdlog::info("{}", autoextendText(store));
}

void Engine::retryAutoextend(StoreState& store) {
    store.autoextend_problem.clear();
    store.autoextend_retry = {};
    store.autoextend_pause = {};
}

std::optional<VolumeGroup> Engine::findGroup(const std::string& uuid) {
    const StepOut out(turns_);
    return groups_.findGroup(uuid);
}

std::vector<LogicalVolume> Engine::volumesOf(const VolumeGroup& group) {
    const StepOut out(turns_);
    return groups_.volumesOf(group);
}

void Engine::autoextend(const Uuid& uuid) {
    StoreState& store = usableStore(uuid);
    if (!wantsExtension(uuid))
        return;
    std::vector<std::string> reasons;
    if (!extendWithSpare(store, reasons) && !extendFromGroup(store, reasons)) {
        autoextendFailed(store, fmt::format("{}", fmt::join(reasons, "; ")));
        return;
    }
    const std::uint64_t size_bytes =
        store.status.total_segments * store.status.segment_sectors * kSectorBytes;
    const LogFields about(logFieldsOf(store));
    spdlog::info("the store {} was extended with {} and has {} now", store.name,
                 store.devices.back().path, sizeText(size_bytes));
    notices_.extended.push_back({uuid, store.devices.back().path, size_bytes});
    retryAutoextend(store);
}

void Engine::autoextendFailed(StoreState& store, const std::string& reasons) {
    const std::string problem = fmt::format(
        "the store {0} gets full and cannot be extended: {1}. Extend it (\"snapd-cli store extend "
        "{2} DEVICE\"), add a spare (\"snapd-cli store modify {2} --add-spare DEVICE\") or delete "
        "snapshots",
        store.name, reasons, shellWord(store.name));
    // What is known already is not told again with each try.
    if (problem != store.autoextend_problem) {
        const LogFields about(logFieldsOf(store));
        spdlog::warn("{}", problem);
        notices_.extend_failed.push_back({store.uuid, problem});
    }
    store.autoextend_problem = problem;
    store.autoextend_pause = std::clamp(2 * store.autoextend_pause, kFirstRetry, kLastRetry);
    store.autoextend_retry = std::chrono::steady_clock::now() + store.autoextend_pause;
    fail(ErrorKind::NoSpace, "{}", problem);
}

std::uint64_t Engine::roomToGrow(const StoreState& store) const {
    const std::uint64_t most = store.metadata.autoextend.max_bytes;
    const std::uint64_t now = bytesOf(store.devices);
    if (most == 0)
        return UINT64_MAX;
    return most > now ? most - now : 0;
}

bool Engine::extendWithSpare(StoreState& store, std::vector<std::string>& reasons) {
    const auto spares = store.metadata.autoextend.spares;
    for (const auto& spare : spares) {
        try {
            const BlockDevice device = findDevice(devices_, spare);
            if (usableSectors(device.identity) * kSectorBytes > roomToGrow(store))
                fail(ErrorKind::NoSpace, "with {} it would be larger than its limit of {}",
                     device.identity.path, sizeText(store.metadata.autoextend.max_bytes));
            addDevices(store, {device});
            return true;
        } catch (const Error& error) {
            reasons.emplace_back(error.what());
        }
    }
    return false;
}

bool Engine::extendFromGroup(StoreState& store, std::vector<std::string>& reasons) {
    if (store.metadata.autoextend.volume_group.empty())
        return false;
    try {
        addDevices(store, {devices_.describe(volumeFor(store))});
        return true;
    } catch (const Error& error) {
        reasons.emplace_back(error.what());
        return false;
    }
}

std::string Engine::volumeFor(const StoreState& store) {
    const AutoextendRecord& record = store.metadata.autoextend;
    const auto group = findGroup(record.volume_group);
    if (!group)
        fail(ErrorKind::NotFound, "there is no volume group {} ({}) any more",
             record.volume_group_name, record.volume_group);
    const std::string tag = tagOf(store.uuid);
    const auto volumes = volumesOf(*group);
    for (const auto& volume : volumes)
        if (volume.tags.contains(tag) && isLeftover(store, volume.path)) {
            makeBlank(volume.path);
            return volume.path;
        }
    const std::uint64_t size_bytes = bytesOf(store.devices);
    const std::uint64_t wanted_bytes =
        std::max(size_bytes / 100 * autoextend_.by_percent, kLeastBytes);
    const std::uint64_t room_bytes = roomToGrow(store);
    const std::uint64_t wanted = (wanted_bytes + group->extent_bytes - 1) / group->extent_bytes;
    const std::uint64_t extents = std::min(
        {wanted, room_bytes / group->extent_bytes, group->free_bytes / group->extent_bytes});
    if (room_bytes < group->extent_bytes)
        fail(ErrorKind::NoSpace, "it has reached its limit of {}", sizeText(record.max_bytes));
    if (extents == 0)
        fail(ErrorKind::NoSpace, "the volume group {} is full: \"vgextend {} DEVICE\" adds room",
             group->name, group->name);
    return makeVolume(*group, volumes, store.name, store.devices.size(), extents, tag);
}

/// A blank volume, named after the store and numbered from first_number on.
std::string Engine::makeVolume(const VolumeGroup& group, const std::vector<LogicalVolume>& volumes,
                               const std::string& store_name, std::size_t first_number,
                               std::uint64_t extents, const std::string& tag) {
    std::string name;
    for (std::size_t number = first_number; name.empty(); ++number) {
        const std::string candidate = fmt::format("{}_cowsnap{}", asVolumeName(store_name), number);
        if (std::none_of(volumes.begin(), volumes.end(),
                         [&](const auto& volume) { return volume.name == candidate; }))
            name = candidate;
    }
    const std::string path = [&] {
        const StepOut out(turns_);
        return groups_.createVolume(group, name, extents, tag);
    }();
    makeBlank(path);
    return path;
}

/// Whether an extension that was interrupted made a volume and did not take it.
bool Engine::isLeftover(const StoreState& store, const std::string& path) {
    try {
        const BlockDevice device = devices_.describe(path);
        for (const auto& member : store.devices)
            if (sameDevice(member, device.identity))
                return false;
        return !devices_.user(path) && !readStoreHeader(devices_, path) &&
               devices_.contents(path).empty();
    } catch (const Error&) {
        return false;  // such as one that is not active
    }
}

/// Only for a volume that was made here, and holds nothing.
void Engine::makeBlank(const std::string& path) {
    if (isBlank(devices_, path))
        return;
    const std::vector<std::byte> zeros(COWSNAP_STORE_BLANK_SECTORS * kSectorBytes);
    devices_.write(path, 0, zeros);
}

}  // namespace cowsnap
