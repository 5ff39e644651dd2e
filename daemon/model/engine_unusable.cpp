// SPDX-License-Identifier: GPL-2.0-or-later
// Stores that cannot be used: what stands on them all the same, what mends one whose metadata
// cannot be read, and forgetting one.
#include <spdlog/spdlog.h>

#include "assembly/store_devices.h"
#include "base/names.h"
#include "cowsnap_dm.h"
#include "model/engine.h"

namespace cowsnap {

namespace {

/// The store that the table of an origin or a snapshot names; empty if it is another table.
std::string storeIn(const std::vector<MappedTarget>& table) {
    if (table.size() != 1)
        return {};
    if (table.front().type == COWSNAP_TARGET_ORIGIN)
        return parseOriginTable(table.front().arguments).store;
    if (table.front().type == COWSNAP_TARGET_SNAP)
        return parseSnapTable(table.front().arguments).store;
    return {};
}

}  // namespace

/// The mapped devices of origins and snapshots, in the order in which they can be removed. They are
/// looked for by their tables: which there should be the metadata says, and that may be lost.
std::vector<std::string> Engine::standingOn(const Uuid& store) {
    const auto mapped = assembly_.find(store, COWSNAP_DM_ROLE_STORE);
    if (!mapped)
        return {};
    std::vector<std::string> names;
    for (const char* const role : {COWSNAP_DM_ROLE_SNAPSHOT, COWSNAP_DM_ROLE_ORIGIN})
        for (const auto& device : mapper_.devices()) {
            const auto parsed = parseDeviceMapperUuid(device.uuid);
            if (parsed && parsed->role == role &&
                storeIn(mapper_.table(device.name)) == mapped->number.text())
                names.push_back(device.name);
        }
    return names;
}

/// cowsnap-store needs the devices of the store for itself. What is in front of origins stays.
void Engine::letGo(StoreState& store) {
    if (!standingOn(store.uuid).empty())
        return;
    try {
        assembly_.takeApart(store.uuid);
        store.mapped.reset();
    } catch (const Error& error) {
        const LogFields about(logFieldsOf(store));
        spdlog::warn("the devices of the store {} are not let go of: {}", store.name, error.what());
    }
}

/// The commands, each as it is to be typed.
std::string Engine::repairAdvice(const StoreState& store) {
    std::vector<std::string> paths;
    for (const auto& identity : store.devices) {
        try {
            paths.push_back(findDevice(devices_, identity).identity.path);
        } catch (const Error&) {
            paths.push_back(identity.path);
        }
    }
    std::vector<std::string> removed = standingOn(store.uuid);
    const bool in_use = !removed.empty();
    for (const char* const role : {COWSNAP_DM_ROLE_STORE, COWSNAP_DM_ROLE_DATA})
        if (const auto device = assembly_.find(store.uuid, role))
            removed.push_back(device->name);
    std::vector<std::string> commands;
    for (const auto& name : removed)
        commands.push_back(fmt::format("\"dmsetup remove {}\"", shellWord(name)));
    const auto backups = MetadataBackups(registry_.directory()).list(store.uuid);
    commands.push_back(fmt::format(
        "\"cowsnap-store repair {}{}\"",
        backups.empty() ? "" : fmt::format("--metadata {} ", shellWord(backups.front().string())),
        shellWords(paths)));
    commands.push_back(fmt::format("\"snapd-cli store open {}\"", shellWords(paths)));
    return fmt::format("{}In this order: {}",
                       in_use ? "Unmount what is mounted from its origins and snapshots. " : "",
                       fmt::join(commands, ", "));
}

/// The origins that stores.json has the boot hold back.
std::vector<std::string> Engine::failClosedNames(const StoreState& store) {
    std::vector<std::string> names;
    for (const auto& entry : registry_.read())
        if (entry.uuid == store.uuid)
            for (const auto& origin : entry.closed)
                names.push_back(origin.name);
    return names;
}

/// Which origins it has is not known for sure, so nothing says that nobody needs it.
void Engine::checkForget(const StoreState& store, bool force) {
    if (const auto names = standingOn(store.uuid); !names.empty())
        fail(ErrorKind::Busy,
             "the store {} cannot be used, but {} stand on it: unmount what is mounted from them, "
             "then \"dmsetup remove {}\"",
             store.name, fmt::join(names, ", "), shellWords(names));
    if (force)
        return;
    const auto closed = failClosedNames(store);
    fail(ErrorKind::Busy,
         "the store {} cannot be used, so which origins and snapshots it has is not known ({}){}. "
         "If nobody needs it any more: \"snapd-cli store close {} --force\"",
         store.name, store.problem,
         closed.empty() ? std::string()
                        : fmt::format("; the boot holds back {} for it, and would not any more",
                                      fmt::join(closed, ", ")),
         shellWord(store.name));
}

}  // namespace cowsnap
