// SPDX-License-Identifier: GPL-2.0-or-later
#include "assembly/activation.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <set>

#include "assembly/store_assembly.h"
#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/error.h"

namespace cowsnap {

namespace {

template <typename Find>
bool isMissing(Find find) {
    try {
        find();
        return false;
    } catch (const Error&) {
        return true;
    }
}

void append(std::vector<WithheldOrigin>& all, std::vector<WithheldOrigin> more) {
    all.insert(all.end(), more.begin(), more.end());
}

/// Attaches the origins of a store. Which lack their device is found out before: one that turns up
/// meanwhile is to be tried again.
void attachAll(DeviceMapper& mapper, BlockDevices& devices, const ActiveStore& active,
               Activation& result) {
    std::set<Uuid> missing;
    for (const auto& origin : active.metadata->origins)
        if (isMissing([&] { findOriginDevice(devices, origin); }))
            missing.insert(origin.uuid);
    std::map<Uuid, std::string> reasons;
    for (const auto& problem : attachOrigins(mapper, devices, active.device, *active.metadata)) {
        ++result.failed;
        result.missing_origins += missing.contains(problem.origin) ? 1 : 0;
        reasons.emplace(problem.origin, problem.reason);
        spdlog::error("the origin {} is not attached: {}", problem.origin.dashed(), problem.reason);
    }
    append(result.withheld, notAttached(closedAtBoot(*active.metadata), mapper.devices(),
                                        [&](const auto& origin) { return reasons[origin.uuid]; }));
}

/// An initramfs has the list of when it was made. What a store was extended with since stands in
/// its metadata.
RegisteredStore withRecordedDevices(BlockDevices& devices, const RegisteredStore& listed) {
    RegisteredStore store = listed;
    try {
        std::uint64_t listed_sectors = 0;
        for (const auto& device : listed.devices)
            listed_sectors += usableSectors(device);
        const std::string path = findDevice(devices, listed.devices.at(0)).identity.path;
        const auto header = readStoreHeader(devices, path);
        if (!header || header->uuid != listed.uuid || header->store_sectors <= listed_sectors)
            return store;
        const auto recorded = recordedDevices(devices, *header, path);
        if (recorded.size() <= listed.devices.size() ||
            !std::equal(listed.devices.begin(), listed.devices.end(), recorded.begin(), sameDevice))
            return store;
        store.devices.insert(store.devices.end(), recorded.begin() + std::ssize(listed.devices),
                             recorded.end());
        spdlog::warn("the store {} has been extended since the list of its devices was made",
                     store.name);
    } catch (const std::exception&) {
        return listed;  // activating it will say what is wrong
    }
    return store;
}

void activateOne(DeviceMapper& mapper, BlockDevices& devices, const LossRecords& losses,
                 const RegisteredStore& listed, Activation& result) {
    const RegisteredStore store = withRecordedDevices(devices, listed);
    const bool is_missing = std::any_of(
        store.devices.begin(), store.devices.end(),
        [&](const auto& device) { return isMissing([&] { findDevice(devices, device); }); });
    try {
        const ActiveStore active = activateStore(mapper, devices, losses, store);
        if (!active.metadata && !store.closed.empty())
            fail(ErrorKind::MetadataCorrupt, "it has no metadata any more");
        ++result.done;
        spdlog::info("the store {} is {}", store.name, active.device.path());
        if (active.metadata)
            attachAll(mapper, devices, active, result);
    } catch (const Error& error) {
        ++result.failed;
        result.missing_stores += is_missing ? 1 : 0;
        const std::string reason =
            fmt::format("the store {} is not activated: {}", store.name, error.what());
        spdlog::error("{}", reason);
        append(result.withheld, withheldOf({store}, mapper.devices(), reason));
    }
}

}  // namespace

Activation activateStores(DeviceMapper& mapper, BlockDevices& devices, const LossRecords& losses,
                          const std::vector<RegisteredStore>& stores) {
    Activation result;
    for (const auto& store : stores)
        activateOne(mapper, devices, losses, store, result);
    return result;
}

bool mayStandOnMissing(BlockDevices& devices, const std::string& root) {
    try {
        devices.describe(root);
        return devices.contents(root) == "btrfs";
    } catch (const Error&) {
        return true;
    }
}

std::vector<WithheldOrigin> withheldOf(const std::vector<RegisteredStore>& stores,
                                       const std::vector<MappedDevice>& mapped,
                                       const std::string& reason) {
    std::vector<WithheldOrigin> withheld;
    for (const auto& store : stores)
        append(withheld, notAttached(store.closed, mapped, [&](const auto&) { return reason; }));
    return withheld;
}

void withhold(const WithheldOrigins& file, const std::vector<WithheldOrigin>& withheld,
              std::string_view kernel_command_line) {
    const bool fails_open = failsOpenNow(kernel_command_line);
    for (const auto& origin : withheld)
        if (fails_open)
            spdlog::warn("the origin {} is fail-closed and not attached; {} lets this boot go on",
                         origin.origin.name, kFailOpenWord);
        else
            spdlog::error("{}", withheldText(origin));
    if (!withheld.empty() && !fails_open)
        spdlog::error("{}", kWithheldAdvice);
    try {
        file.write(fails_open ? std::vector<WithheldOrigin>() : withheld);
    } catch (const Error& error) {
        spdlog::error("these devices are not withheld: {}", error.what());
    }
}

}  // namespace cowsnap
