// SPDX-License-Identifier: GPL-2.0-or-later
#include "assembly/boot_policy.h"

#include <algorithm>
#include <sstream>

#include <nlohmann/json.hpp>

#include "base/durable_file.h"
#include "base/error.h"
#include "base/json_number.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

using nlohmann::json;

constexpr unsigned kWithheldSchema = 1;

/// Whether a device is that of an origin, its size aside.
bool isOriginsDevice(const ClosedOrigin& origin, DeviceIdentity device,
                     const std::set<std::string>& links) {
    if (links.contains(origin.device.id_link))
        device.id_link = origin.device.id_link;
    return sameDevice(origin.device, device);
}

/// Nothing if the device is going, or cannot be opened.
std::optional<DeviceIdentity> identityOf(BlockDevices& devices, DeviceNumber number) {
    try {
        return devices.describe(devices.pathOf(number)).identity;
    } catch (const Error&) {
        return std::nullopt;
    }
}

template <typename Chosen>
std::vector<ClosedOrigin> chosenOrigins(const Metadata& metadata, Chosen chosen) {
    std::vector<ClosedOrigin> closed;
    for (const auto& origin : metadata.origins)
        if (chosen(origin))
            closed.push_back({origin.uuid, origin.name, origin.mapped_name, origin.device});
    return closed;
}

}  // namespace

bool failsOpenNow(std::string_view kernel_command_line) {
    std::istringstream words{std::string(kernel_command_line)};
    for (std::string word; words >> word;)
        if (word == kFailOpenWord)
            return true;
    return false;
}

bool closedAtBoot(const OriginRecord& origin) {
    const bool copying_back = origin.rollback && !origin.rollback->scheduled;
    return !origin.detaching && (origin.boot_policy == BootPolicy::FailClosed || copying_back);
}

std::vector<ClosedOrigin> closedAtBoot(const Metadata& metadata) {
    return chosenOrigins(metadata, [](const auto& origin) { return closedAtBoot(origin); });
}

std::vector<ClosedOrigin> failClosedOrigins(const Metadata& metadata) {
    return chosenOrigins(metadata, [](const auto& origin) {
        return origin.boot_policy == BootPolicy::FailClosed && !origin.detaching;
    });
}

std::string withheldText(const WithheldOrigin& withheld) {
    return fmt::format(
        "the origin {} ({}) is fail-closed and not attached, so that its device is not mounted: {}",
        withheld.origin.name, withheld.origin.device.path, withheld.reason);
}

std::vector<WithheldOrigin> notAttached(
    const std::vector<ClosedOrigin>& closed, const std::vector<MappedDevice>& mapped,
    const std::function<std::string(const ClosedOrigin&)>& reasonOf) {
    std::vector<WithheldOrigin> withheld;
    for (const auto& origin : closed) {
        const std::string uuid = deviceMapperUuid(origin.uuid, COWSNAP_DM_ROLE_ORIGIN);
        if (std::none_of(mapped.begin(), mapped.end(), [&](const auto& device) {
                return device.uuid == uuid && device.live_table;
            }))
            withheld.push_back({origin, reasonOf(origin)});
    }
    return withheld;
}

std::vector<WithheldOrigin> WithheldOrigins::read() const {
    const auto text = readIfThere(path_);
    if (!text)
        return {};
    try {
        const json document = json::parse(*text);
        if (numberFrom<unsigned>(document.at("schema")) != kWithheldSchema)
            fail(ErrorKind::NotSupported, "{} has another version than {}", path_.string(),
                 kWithheldSchema);
        std::vector<WithheldOrigin> withheld;
        for (const auto& entry : document.at("origins"))
            withheld.push_back(
                {closedOriginFromJson(entry), entry.at("reason").get<std::string>()});
        return withheld;
    } catch (const json::exception& error) {
        fail(ErrorKind::Failed, "cannot understand {}: {}", path_.string(), error.what());
    }
}

void WithheldOrigins::write(const std::vector<WithheldOrigin>& withheld) const {
    if (withheld.empty()) {
        removeDurably(path_);
        return;
    }
    json origins = json::array();
    for (const auto& [origin, reason] : withheld) {
        json entry = toJson(origin);
        entry["reason"] = reason;
        origins.push_back(std::move(entry));
    }
    const json document = {{"schema", kWithheldSchema}, {"origins", origins}};
    writeDurably(path_, document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

std::optional<WithheldOrigin> withheldBelow(BlockDevices& devices,
                                            const std::vector<WithheldOrigin>& withheld,
                                            const std::string& path,
                                            const std::set<std::string>& links,
                                            std::optional<DeviceNumber> root) {
    for (const auto& candidate : withheld)
        if (path == std::string(kMapperDirectory) + candidate.origin.mapped_name)
            return candidate;
    const DeviceNumber number = devices.describe(path).number;
    if (root && standsOn(devices, *root, number))
        return std::nullopt;
    std::set<DeviceNumber> seen{number};
    std::vector<DeviceNumber> open{number};
    while (!open.empty()) {
        const DeviceNumber current = open.back();
        open.pop_back();
        const auto& more_links = current == number ? links : std::set<std::string>();
        if (const auto identity = identityOf(devices, current))
            for (const auto& candidate : withheld)
                if (isOriginsDevice(candidate.origin, *identity, more_links))
                    return candidate;
        for (const DeviceNumber next : devices.below(current))
            if (seen.insert(next).second)
                open.push_back(next);
    }
    return std::nullopt;
}

void releaseOrigin(BlockDevices& devices, const OriginRecord& origin, const BlockDevice& device) {
    if (!closedAtBoot(origin))
        return;
    devices.announce(device.number);
    for (const DeviceNumber partition : devices.partitions(device.number))
        devices.announce(partition);
}

}  // namespace cowsnap
