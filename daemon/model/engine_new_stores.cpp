// SPDX-License-Identifier: GPL-2.0-or-later
// What a store could be made of, for who has none yet, and making one in a volume group.
#include <spdlog/spdlog.h>

#include <algorithm>

#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "dm/module.h"
#include "meta/backups.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

/// Of a volume that was made for a store that is not there yet.
constexpr const char* kNewStoreTag = "cowsnap_new_store";

/// What a store in a volume group has at first: a part of the origin, as it can be extended.
constexpr std::uint64_t kPartOfOrigin = 5;
constexpr std::uint64_t kLeastBytes = 64ULL << 20;

constexpr std::uint64_t kStoreMinBytes = std::uint64_t{COWSNAP_STORE_MIN_SECTORS} * kSectorBytes;

/// So many that the bytes have room in them.
std::uint64_t extentsFor(std::uint64_t bytes, const VolumeGroup& group) {
    return bytes / group.extent_bytes + (bytes % group.extent_bytes == 0 ? 0 : 1);
}

}  // namespace

/// How much a store on the device could use; nothing if none can be made there.
std::optional<std::uint64_t> Engine::usableForStore(const std::string& path,
                                                    const BlockDevice& origin) {
    try {
        const BlockDevice device = devices_.describe(path);
        const std::uint64_t sectors = usableSectors(device.identity);
        if (sectors < COWSNAP_STORE_MIN_SECTORS || related(devices_, device.number, origin.number))
            return std::nullopt;
        checkNewStoreDevice(device, {});
        checkBlank(path);
        return sectors * kSectorBytes;
    } catch (const Error& error) {
        spdlog::debug("no store can be made on {}: {}", path, error.what());
        return std::nullopt;
    }
}

/// Whether a volume of the group would be on the origin itself, as far as can be told.
bool Engine::standsOnOrigin(const VolumeGroup& group, const BlockDevice& origin) {
    try {
        const auto paths = [&] {
            const StepOut out(turns_);
            return groups_.devicesOf(group);
        }();
        return std::any_of(paths.begin(), paths.end(), [&](const std::string& path) {
            return standsOn(devices_, devices_.describe(path).number, origin.number);
        });
    } catch (const Error& error) {
        spdlog::debug("no store can be made in the volume group {}: {}", group.name, error.what());
        return true;
    }
}

std::vector<VolumeGroup> Engine::allGroups() {
    const StepOut out(turns_);
    return groups_.groups();
}

std::vector<StoreCandidate> Engine::storeCandidates(const std::string& origin_path) {
    const BlockDevice origin = devices_.describe(origin_path);
    std::vector<StoreCandidate> candidates;
    for (const auto& path : devices_.lasting())
        if (const auto bytes = usableForStore(path, origin))
            candidates.push_back({StoreCandidate::Kind::Device, path, *bytes, *bytes});
    std::vector<VolumeGroup> groups;
    try {
        groups = allGroups();
    } catch (const Error& error) {
        // Such as on a machine without LVM.
        spdlog::debug("no store can be made in a volume group: {}", error.what());
    }
    for (const auto& group : groups) {
        const std::uint64_t free_extents = group.free_bytes / group.extent_bytes;
        if (free_extents * group.extent_bytes < kStoreMinBytes || standsOnOrigin(group, origin))
            continue;
        const std::uint64_t part_bytes =
            origin.identity.size_sectors * kSectorBytes / kPartOfOrigin;
        const std::uint64_t extents =
            std::min(extentsFor(std::max(part_bytes, kLeastBytes), group), free_extents);
        candidates.push_back({StoreCandidate::Kind::VolumeGroup, group.name,
                              free_extents * group.extent_bytes, extents * group.extent_bytes});
    }
    return candidates;
}

/// Whether the making of a store on the device was interrupted before anybody knew of the store:
/// nothing is on it, or a store that never had metadata.
bool Engine::isUnfinished(const std::string& path) {
    if (isLeftover({}, path))
        return true;
    try {
        const auto header = readStoreHeader(devices_, path);
        if (!header || stores_.contains(header->uuid) || devices_.user(path) ||
            !MetadataBackups(registry_.directory()).list(header->uuid).empty())
            return false;
        for (const auto& registered : registry_.read())
            if (registered.uuid == header->uuid)
                return false;
        MetadataSlots slots(devices_, path, header->uuid, header->slot_bytes,
                            header->slots_offset_bytes);
        const SlotContents contents = slots.read();
        return contents.fresh && !contents.one_damaged;
    } catch (const Error&) {
        return false;  // such as one that is not active
    }
}

/// One that is there although no store was made on it, or none that was ever used, is taken: that
/// was interrupted.
std::string Engine::volumeForNewStore(const VolumeGroup& group, const std::string& store_name,
                                      std::uint64_t extents) {
    const auto volumes = volumesOf(group);
    for (const auto& volume : volumes)
        if (volume.tags.contains(kNewStoreTag) && isUnfinished(volume.path) &&
            devices_.describe(volume.path).identity.size_sectors * kSectorBytes /
                    group.extent_bytes ==
                extents) {
            turns_.checked();
            makeBlank(volume.path);
            return volume.path;
        }
    if (extents > group.free_bytes / group.extent_bytes)
        fail(ErrorKind::NoSpace,
             "the volume group {} has {} free, which is less: give another size", group.name,
             sizeText(group.free_bytes));
    turns_.checked();
    return makeVolume(group, volumes, store_name, 0, extents, kNewStoreTag);
}

Uuid Engine::createStoreIn(const std::string& group_name, std::uint64_t size_bytes,
                           const std::string& name, const StoreOptions& options,
                           const AutoextendChange& autoextend) {
    checkNewStoreName(name);
    checkFormatOptions(options);
    requireModule(mapper_);
    if (size_bytes < kStoreMinBytes)
        fail(ErrorKind::InvalidArgument, "a store needs at least {}, not {}",
             sizeText(kStoreMinBytes), sizeText(size_bytes));
    const auto groups = allGroups();
    const auto group = std::find_if(groups.begin(), groups.end(),
                                    [&](const auto& known) { return known.name == group_name; });
    if (group == groups.end())
        fail(ErrorKind::NotFound,
             "there is no volume group \"{}\": \"vgs\" shows those that are there", group_name);
    const std::string path = volumeForNewStore(*group, name, extentsFor(size_bytes, *group));
    try {
        return createStore({path}, name, options, autoextend);
    } catch (const Error& error) {
        if (!isLeftover({}, path))
            throw;
        fail(error.kind(),
             "the volume {} was made, but not the store on it: {}. The same command takes it when "
             "it is repeated; \"lvremove {}\" removes it",
             path, error.what(), path);
    }
}

}  // namespace cowsnap
