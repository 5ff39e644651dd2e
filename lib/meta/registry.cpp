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

std::vector<RegisteredStore> StoreRegistry::read() const {
    const auto path = directory_ / kFileName;
    const auto text = readIfThere(path);
    if (!text)
        return {};
    std::vector<RegisteredStore> stores;
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
            RegisteredStore store{*uuid, entry.at("name").get<std::string>(), {}, {}};
            for (const auto& device : entry.at("devices"))
                store.devices.push_back(deviceIdentityFromJson(device));
            if (entry.contains("fail_closed"))
                for (const auto& origin : entry.at("fail_closed"))
                    store.closed.push_back(closedOriginFromJson(origin));
            stores.push_back(std::move(store));
        }
    } catch (const json::exception& error) {
        fail(ErrorKind::Failed,
             "cannot understand {} ({}); it can be deleted, then open the stores again",
             path.string(), error.what());
    }
    return stores;
}

void StoreRegistry::put(const RegisteredStore& store) const {
    auto stores = read();
    const auto found = std::find_if(stores.begin(), stores.end(),
                                    [&](const auto& known) { return known.uuid == store.uuid; });
    if (found == stores.end())
        stores.push_back(store);
    else
        *found = store;
    write(stores);
}

void StoreRegistry::remove(const Uuid& uuid) const {
    auto stores = read();
    std::erase_if(stores, [&](const auto& store) { return store.uuid == uuid; });
    write(stores);
}

void StoreRegistry::write(const std::vector<RegisteredStore>& stores) const {
    json entries = json::array();
    for (const auto& store : stores) {
        json devices = json::array();
        for (const auto& device : store.devices)
            devices.push_back(toJson(device));
        json entry = {{"uuid", store.uuid.dashed()}, {"name", store.name}, {"devices", devices}};
        for (const auto& origin : store.closed)
            entry["fail_closed"].push_back(toJson(origin));
        entries.push_back(std::move(entry));
    }
    const json document = {{"schema", kRegistrySchema}, {"stores", entries}};
    writeDurably(directory_ / kFileName,
                 document.dump(2, ' ', false, json::error_handler_t::replace) + "\n");
}

}  // namespace cowsnap
