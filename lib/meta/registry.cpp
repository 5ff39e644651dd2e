// SPDX-License-Identifier: GPL-2.0-or-later
#include "meta/registry.h"

#include <algorithm>

#include <nlohmann/json.hpp>

#include "base/durable_file.h"
#include "base/error.h"
#include "base/json_number.h"
#include "meta/metadata.h"

namespace cowsnap {

namespace {

using nlohmann::json;

constexpr unsigned kRegistrySchema = 1;
constexpr const char* kFileName = "stores.json";

}  // namespace

json toJson(const ClosedOrigin& origin) {
    return {{"uuid", origin.uuid.dashed()},
            {"name", origin.name},
            {"mapped_name", origin.mapped_name},
            {"device", toJson(origin.device)}};
}

ClosedOrigin closedOriginFromJson(const json& object) {
    // Nobody looks the UUID of a damaged entry up; its device is held back all the same.
    const auto uuid = Uuid::parse(object.at("uuid").get<std::string>());
    return {uuid.value_or(Uuid()), object.at("name").get<std::string>(),
            object.at("mapped_name").get<std::string>(),
            deviceIdentityFromJson(object.at("device"))};
}

namespace {

json toJson(const std::vector<DeviceIdentity>& devices) {
    json entries = json::array();
    for (const auto& device : devices)
        entries.push_back(cowsnap::toJson(device));
    return entries;
}

std::vector<DeviceIdentity> devicesFromJson(const json& entries) {
    std::vector<DeviceIdentity> devices;
    for (const auto& device : entries)
        devices.push_back(deviceIdentityFromJson(device));
    return devices;
}

}  // namespace

bool StoreRegistry::isThere() const {
    std::error_code code;
    return std::filesystem::exists(directory_ / kFileName, code);
}

StoreRegistry::Contents StoreRegistry::contents() const {
    const auto path = directory_ / kFileName;
    const auto text = readIfThere(path);
    if (!text)
        return {};
    Contents contents;
    try {
        const json document = json::parse(*text);
        if (numberFrom<unsigned>(document.at("schema")) != kRegistrySchema)
            fail(ErrorKind::NotSupported, "{} has another version than {}: update cowsnap",
                 path.string(), kRegistrySchema);
        for (const auto& entry : document.at("stores")) {
            const auto uuid = Uuid::parse(entry.at("uuid").get<std::string>());
            if (!uuid)
                fail(ErrorKind::Failed, "{} names a store by something that is no UUID",
                     path.string());
            RegisteredStore store{*uuid, entry.at("name").get<std::string>(),
                                  devicesFromJson(entry.at("devices"))};
            if (entry.contains("fail_closed"))
                for (const auto& origin : entry.at("fail_closed"))
                    store.closed.push_back(closedOriginFromJson(origin));
            contents.stores.push_back(std::move(store));
        }
        if (document.contains("unfinished"))
            for (const auto& devices : document.at("unfinished"))
                contents.unfinished.push_back(devicesFromJson(devices));
    } catch (const json::exception& error) {
        fail(ErrorKind::Failed,
             "cannot understand {} ({}); it can be deleted, then open the stores again",
             path.string(), error.what());
    }
    return contents;
}

std::vector<RegisteredStore> StoreRegistry::read() const {
    return contents().stores;
}

void StoreRegistry::put(const RegisteredStore& store) const {
    Contents changed = contents();
    auto& stores = changed.stores;
    const auto found = std::find_if(stores.begin(), stores.end(),
                                    [&](const auto& known) { return known.uuid == store.uuid; });
    if (found == stores.end())
        stores.push_back(store);
    else
        *found = store;
    std::erase(changed.unfinished, store.devices);
    write(changed);
}

void StoreRegistry::remove(const Uuid& uuid) const {
    Contents changed = contents();
    std::erase_if(changed.stores, [&](const auto& store) { return store.uuid == uuid; });
    write(changed);
}

void StoreRegistry::putUnfinished(const std::vector<DeviceIdentity>& devices) const {
    Contents changed = contents();
    changed.unfinished.push_back(devices);
    write(changed);
}

std::vector<std::vector<DeviceIdentity>> StoreRegistry::unfinished() const {
    return contents().unfinished;
}

void StoreRegistry::dropUnfinished(const std::vector<DeviceIdentity>& devices) const {
    Contents changed = contents();
    if (std::erase(changed.unfinished, devices) > 0)
        write(changed);
}

void StoreRegistry::write(const Contents& contents) const {
    json entries = json::array();
    for (const auto& store : contents.stores) {
        json entry = {{"uuid", store.uuid.dashed()},
                      {"name", store.name},
                      {"devices", toJson(store.devices)}};
        for (const auto& origin : store.closed)
            entry["fail_closed"].push_back(toJson(origin));
        entries.push_back(std::move(entry));
    }
    json document = {{"schema", kRegistrySchema}, {"stores", entries}};
    for (const auto& devices : contents.unfinished)
        document["unfinished"].push_back(toJson(devices));
    writeDurably(directory_ / kFileName,
                 document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace cowsnap
