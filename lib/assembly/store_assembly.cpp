// SPDX-License-Identifier: GPL-2.0-or-later
// Tables of stores and origins, made from devices.
#include "assembly/store_assembly.h"

#include <spdlog/spdlog.h>

#include <algorithm>

#include "assembly/boot_policy.h"
#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/error.h"
#include "base/size_text.h"
#include "cowsnap_dm.h"
#include "dm/module.h"

namespace cowsnap {

namespace {

constexpr std::string_view kLinear = "linear";

std::string mappedName(std::string_view role, const Uuid& uuid) {
    return fmt::format("cowsnap-{}-{}", role, uuid.brief());
}

std::uint64_t lengthOf(const std::vector<MappedTarget>& table) {
    return table.empty() ? 0 : table.back().start_sector + table.back().length_sectors;
}

/// A twentieth of the store, so that there is time to extend it; but some segments in
/// a small one, and no more than a gigabyte or so in a large one.
std::uint64_t lowWaterSegments(std::uint64_t store_sectors, std::uint64_t segment_sectors) {
    constexpr std::uint64_t part = 20;
    constexpr std::uint64_t fewest = 4;
    constexpr std::uint64_t most = 1024;
    return std::clamp(store_sectors / segment_sectors / part, fewest, most);
}

constexpr std::uint64_t kDefaultSegmentSectors = 2048;

}  // namespace

MappedTarget onlyTarget(const std::vector<MappedTarget>& targets, std::string_view type,
                        const std::string& name) {
    if (targets.size() != 1 || targets.front().type != type)
        fail(ErrorKind::Failed, "the device {} is no {}: someone changed its table", name, type);
    return targets.front();
}

bool sameUpTo(std::uint64_t sectors, const std::vector<MappedTarget>& one,
              const std::vector<MappedTarget>& other) {
    for (std::size_t i = 0;; ++i) {
        const bool one_ends = i == one.size() || one[i].start_sector >= sectors;
        const bool other_ends = i == other.size() || other[i].start_sector >= sectors;
        if (one_ends || other_ends)
            return one_ends && other_ends;
        if (one[i] != other[i])
            return false;
    }
}

BlockDevice findOriginDevice(BlockDevices& devices, const OriginRecord& origin) {
    return findDevice(
        devices, origin.device,
        origin.method == AttachMethod::Interposed ? FoundSize::SameOrGrown : FoundSize::Same);
}

StoreStatus storeStatus(DeviceMapper& mapper, const MappedDevice& store) {
    return parseStoreStatus(
        onlyTarget(mapper.status(store.name), COWSNAP_TARGET_STORE, store.name).arguments);
}

std::optional<MappedDevice> StoreAssembly::find(const Uuid& uuid, std::string_view role) {
    const std::string wanted = deviceMapperUuid(uuid, role);
    for (auto& device : mapper_.devices())
        if (device.uuid == wanted)
            return std::move(device);
    return std::nullopt;
}

std::vector<MappedTarget> StoreAssembly::concatenation(
    const std::vector<BlockDevice>& devices) const {
    std::vector<MappedTarget> table;
    for (const auto& device : devices)
        table.push_back({lengthOf(table), usableSectors(device.identity), std::string(kLinear),
                         device.number.text() + " 0"});
    return table;
}

Uuid StoreAssembly::format(const std::vector<BlockDevice>& devices, const StoreOptions& options) {
    const Uuid temporary = Uuid::random();
    const std::string data_name = mappedName(kRoleFormatData, temporary);
    const std::string store_name = mappedName(kRoleFormatStore, temporary);
    const auto data_table = concatenation(devices);
    mapper_.create(data_name, deviceMapperUuid(temporary, kRoleFormatData), data_table,
                   Visibility::Hidden, false);
    try {
        const auto data = find(temporary, kRoleFormatData);
        if (!data)
            fail(ErrorKind::Failed, "the device {} vanished", data_name);
        const std::uint64_t segment_sectors =
            options.segment_sectors.value_or(kDefaultSegmentSectors);
        const StoreTable table{data->number.text(),
                               lowWaterSegments(lengthOf(data_table), segment_sectors),
                               options.full_wait_ms,
                               {},
                               options.segment_sectors};
        mapper_.create(store_name, deviceMapperUuid(temporary, kRoleFormatStore),
                       {{0, lengthOf(data_table), COWSNAP_TARGET_STORE, formatTable(table)}},
                       Visibility::Hidden, false);
        const auto store = find(temporary, kRoleFormatStore);
        if (!store)
            fail(ErrorKind::Failed, "the device {} vanished", store_name);
        const Uuid uuid = storeStatus(mapper_, *store).uuid;
        mapper_.remove(store_name, Visibility::Hidden);
        mapper_.remove(data_name, Visibility::Hidden);
        return uuid;
    } catch (const Error&) {
        removeLeftovers();
        throw;
    }
}

namespace {

void removeLeft(DeviceMapper& mapper, const MappedDevice& device, std::string_view by) {
    try {
        mapper.remove(device.name, Visibility::Hidden);
        spdlog::info("removed {}, left by {}", device.name, by);
    } catch (const Error& error) {
        spdlog::warn("cannot remove {}, left by {}: {}", device.name, by, error.what());
    }
}

}  // namespace

void StoreAssembly::removeLeftovers() {
    const auto devices = mapper_.devices();
    // First: an inactive table may hold devices below it.
    for (const auto& device : devices)
        if (!device.live_table)
            removeLeft(mapper_, device, "someone who was interrupted before it had a table");
    for (const std::string_view role : {kRoleFormatStore, kRoleFormatData})
        for (const auto& device : devices) {
            const auto parsed = parseDeviceMapperUuid(device.uuid);
            if (device.live_table && parsed && parsed->role == role)
                removeLeft(mapper_, device, "an interrupted formatting");
        }
}

void StoreAssembly::resumeInterrupted(const Uuid& store) {
    // The lower one first: making the other one live may read from it.
    for (const char* const role : {COWSNAP_DM_ROLE_DATA, COWSNAP_DM_ROLE_STORE}) {
        const auto device = find(store, role);
        if (!device || !device->live_table)
            continue;
        if (device->inactive_table) {
            spdlog::warn("{} has a table that was loaded and never became live: it is cleared",
                         device->name);
            mapper_.clear(device->name);
        }
        if (device->suspended) {
            spdlog::warn("{} is suspended, as whoever did that was interrupted: it is resumed",
                         device->name);
            mapper_.resume(device->name, Visibility::Hidden);
        }
    }
}

MappedDevice StoreAssembly::assemble(const Uuid& store, const std::vector<BlockDevice>& devices) {
    const auto data_table = concatenation(devices);
    auto data = find(store, COWSNAP_DM_ROLE_DATA);
    auto mapped = find(store, COWSNAP_DM_ROLE_STORE);
    if (!data) {
        mapper_.create(mappedName(COWSNAP_DM_ROLE_DATA, store),
                       deviceMapperUuid(store, COWSNAP_DM_ROLE_DATA), data_table,
                       Visibility::Hidden, false);
        data = find(store, COWSNAP_DM_ROLE_DATA);
    } else {
        // What a cow-store does not use yet may be of an extension that was given up.
        const auto table = mapper_.table(data->name);
        const std::uint64_t used = mapped ? lengthOf(mapper_.table(mapped->name)) : lengthOf(table);
        if (!sameUpTo(std::min(used, lengthOf(data_table)), table, data_table))
            fail(ErrorKind::Failed,
                 "the device {} of the store {} stands on other devices than the store: someone "
                 "changed its table, or a device has got another number. Put its table back "
                 "(\"dmsetup load\"), or reboot",
                 data->name, store.dashed());
        if (!sameUpTo(lengthOf(data_table), table, data_table))
            mapper_.reload(data->name, data_table, Visibility::Hidden);
    }
    if (!data)
        fail(ErrorKind::Failed, "the data device of the store {} vanished", store.dashed());
    const std::uint64_t length_sectors = lengthOf(data_table);
    if (!mapped) {
        const auto header = readStoreHeader(devices_, data->path());
        if (!header || header->uuid != store) {
            mapper_.remove(data->name, Visibility::Hidden);
            fail(ErrorKind::NotFound, "the store {} does not start on {}", store.dashed(),
                 devices.front().identity.path);
        }
        if (header->store_sectors > length_sectors) {
            mapper_.remove(data->name, Visibility::Hidden);
            fail(ErrorKind::InvalidArgument,
                 "the store {} has {}, the devices given have {}: one is missing, or smaller than "
                 "before",
                 store.dashed(), sizeText(header->store_sectors * kSectorBytes),
                 sizeText(length_sectors * kSectorBytes));
        }
        const StoreTable table{data->number.text(),
                               lowWaterSegments(length_sectors, header->segment_sectors),
                               {},
                               {},
                               {}};
        try {
            mapper_.create(mappedName(COWSNAP_DM_ROLE_STORE, store),
                           deviceMapperUuid(store, COWSNAP_DM_ROLE_STORE),
                           {{0, length_sectors, COWSNAP_TARGET_STORE, formatTable(table)}},
                           Visibility::Hidden, false);
        } catch (const Error&) {
            mapper_.remove(data->name, Visibility::Hidden);
            throw;
        }
        mapped = find(store, COWSNAP_DM_ROLE_STORE);
    } else {
        auto target = onlyTarget(mapper_.table(mapped->name), COWSNAP_TARGET_STORE, mapped->name);
        if (target.length_sectors < length_sectors) {
            StoreTable table = parseStoreTable(target.arguments);
            table.low_water_segments =
                lowWaterSegments(length_sectors, storeStatus(mapper_, *mapped).segment_sectors);
            table.segment_sectors.reset();
            mapper_.reload(mapped->name, {{0, length_sectors, target.type, formatTable(table)}},
                           Visibility::Hidden);
        }
    }
    if (!mapped)
        fail(ErrorKind::Failed, "the device of the store {} vanished", store.dashed());
    return *mapped;
}

void StoreAssembly::setFullWait(const MappedDevice& store, std::uint64_t full_wait_ms) {
    auto target = onlyTarget(mapper_.table(store.name), COWSNAP_TARGET_STORE, store.name);
    StoreTable table = parseStoreTable(target.arguments);
    if (table.full_wait_ms.value_or(COWSNAP_FULL_WAIT_DEFAULT_MS) == full_wait_ms)
        return;
    table.full_wait_ms = full_wait_ms;
    table.segment_sectors.reset();
    target.arguments = formatTable(table);
    mapper_.reload(store.name, {target}, Visibility::Hidden);
}

void StoreAssembly::takeApart(const Uuid& store) {
    for (const char* const role : {COWSNAP_DM_ROLE_STORE, COWSNAP_DM_ROLE_DATA})
        if (const auto device = find(store, role))
            mapper_.remove(device->name, Visibility::Hidden);
}

Visibility visibilityOf(AttachMethod method) {
    return method == AttachMethod::Stacked ? Visibility::Visible : Visibility::Hidden;
}

void StoreAssembly::putInFront(const MappedDevice& store, const OriginRecord& origin,
                               const BlockDevice& device, AttachMethod method) {
    const bool interpose = method == AttachMethod::Interposed;
    const OriginTable table{store.number.text(), origin.id, device.number.text(), interpose};
    mapper_.create(origin.mapped_name, deviceMapperUuid(origin.uuid, COWSNAP_DM_ROLE_ORIGIN),
                   {{0, origin.device.size_sectors, COWSNAP_TARGET_ORIGIN, formatTable(table)}},
                   visibilityOf(method), false);
}

MappedDevice StoreAssembly::attach(const MappedDevice& store, const OriginRecord& origin,
                                   const BlockDevice& device) {
    bool stack = origin.method == AttachMethod::Stacked;
    if (!stack) {
        requireInterposing(mapper_);
        try {
            putInFront(store, origin, device, AttachMethod::Interposed);
        } catch (const Error&) {
            // The kernel does not interpose while a rollback is scheduled or goes on.
            if (!origin.rollback)
                throw;
            stack = true;
        }
    }
    if (stack)
        putInFront(store, origin, device, AttachMethod::Stacked);
    auto mapped = find(origin.uuid, COWSNAP_DM_ROLE_ORIGIN);
    if (!mapped)
        fail(ErrorKind::Failed, "the device {} vanished", origin.mapped_name);
    return *mapped;
}

std::vector<MappedTarget> StoreAssembly::dataTable(const Uuid& store) {
    const auto data = find(store, COWSNAP_DM_ROLE_DATA);
    if (!data)
        fail(ErrorKind::NotFound, "the store {} has no data device", store.dashed());
    return mapper_.table(data->name);
}

std::vector<DeviceIdentity> StoreAssembly::devicesOf(const Uuid& store) {
    std::vector<DeviceIdentity> result;
    const auto data = find(store, COWSNAP_DM_ROLE_DATA);
    if (!data)
        fail(ErrorKind::NotFound, "the store {} has no data device", store.dashed());
    for (const auto& target : mapper_.table(data->name)) {
        const auto number =
            DeviceNumber::parse(target.arguments.substr(0, target.arguments.find(' ')));
        if (target.type != kLinear || !number)
            fail(ErrorKind::Failed, "the device {} is no concatenation: someone changed its table",
                 data->name);
        result.push_back(devices_.describe(devices_.pathOf(*number)).identity);
    }
    return result;
}

namespace {

/// A store that missed writes is told so before anything can look at its snapshots.
void tellLoss(DeviceMapper& mapper, const LossRecords& losses, const MappedDevice& device,
              const StoreStatus& status) {
    if (status.state == COWSNAP_STORE_FAILED)
        return;  // it is the one that fails; the record is for when it comes back
    const auto last_set = losses.find(status.uuid);
    if (!last_set)
        return;
    mapper.message(device.name, lostMessage(*last_set));
    spdlog::error("the store {} missed writes when it failed: its snapshots of then are lost",
                  status.uuid.dashed());
    losses.remove(status.uuid);
}

void sayIfDamaged(const SlotContents& contents, const std::string& name, const Uuid& uuid) {
    if (contents.one_damaged)
        spdlog::error(
            "one of the two copies of the metadata of the store {} ({}) is damaged: the other one "
            "is used, and the damaged one is written anew with a next change. \"snapd-cli store "
            "check\" says whether it still is, and what else is: then the device may fail",
            name, uuid.dashed());
}

}  // namespace

ActiveStore activateStore(DeviceMapper& mapper, BlockDevices& devices, const LossRecords& losses,
                          const RegisteredStore& store) {
    std::vector<BlockDevice> found;
    for (const auto& identity : store.devices)
        found.push_back(findDevice(devices, identity));
    if (found.empty())
        fail(ErrorKind::InvalidArgument, "a store needs at least one device");
    StoreAssembly assembly(mapper, devices);
    const MappedDevice device = assembly.assemble(store.uuid, found);
    const StoreStatus status = storeStatus(mapper, device);
    if (status.uuid != store.uuid)
        fail(ErrorKind::Failed, "the device {} is the store {}, not {}", device.name,
             status.uuid.dashed(), store.uuid.dashed());
    tellLoss(mapper, losses, device, status);
    ActiveStore active{
        device,
        assembly.dataTable(store.uuid),
        status,
        MetadataSlots(devices, device.path(), store.uuid, status.slot_sectors * kSectorBytes),
        {},
        std::nullopt};
    active.contents = active.slots.read();
    if (active.contents.fresh) {
        sayIfDamaged(active.contents, store.name, store.uuid);
        return active;
    }
    active.metadata = parseMetadata(active.contents.schema, active.contents.body);
    sayIfDamaged(active.contents, active.metadata->name, store.uuid);
    if (active.metadata->store != store.uuid)
        fail(ErrorKind::MetadataCorrupt, "the metadata of the store {} is that of {}",
             store.uuid.dashed(), active.metadata->store.dashed());
    if (active.metadata->full_wait_ms)
        assembly.setFullWait(device, *active.metadata->full_wait_ms);
    return active;
}

std::vector<OriginProblem> attachOrigins(DeviceMapper& mapper, BlockDevices& devices,
                                         const MappedDevice& store, const Metadata& metadata) {
    StoreAssembly assembly(mapper, devices);
    std::vector<OriginProblem> problems;
    for (const auto& origin : metadata.origins) {
        if (origin.detaching || assembly.find(origin.uuid, COWSNAP_DM_ROLE_ORIGIN))
            continue;
        try {
            const BlockDevice device = findOriginDevice(devices, origin);
            const auto user = devices.user(device.identity.path);
            if (user && origin.method == AttachMethod::Stacked)
                fail(ErrorKind::Busy, "{} is {}", device.identity.path, user->text);
            assembly.attach(store, origin, device);
            releaseOrigin(devices, origin, device);
        } catch (const Error& error) {
            problems.push_back({origin.uuid, error.what()});
        }
    }
    return problems;
}

}  // namespace cowsnap
