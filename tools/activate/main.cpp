// SPDX-License-Identifier: GPL-2.0-or-later
// cowsnap-activate: starts the registered stores, or those on the devices named,
// and attaches their origins, at boot and without a bus. Knows nothing of the daemon.
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "assembly/store_assembly.h"
#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/directory_lock.h"
#include "base/error.h"
#include "base/exit_code.h"
#include "block/linux_block_devices.h"
#include "dm/module.h"
#include "meta/registry.h"

namespace {

using namespace cowsnap;

/// What of the work was done.
struct Tally {
    unsigned done = 0;
    unsigned failed = 0;
    unsigned missing = 0;  ///< those of them that lack a device, which may turn up later
};

/// The store that these devices are, in their order.
RegisteredStore storeOn(BlockDevices& devices, const std::vector<std::string>& paths) {
    RegisteredStore store;
    std::vector<BlockDevice> described;
    for (const auto& path : paths) {
        described.push_back(devices.describe(path));
        store.devices.push_back(described.back().identity);
    }
    const auto header = readStoreHeader(devices, store.devices.front().path);
    if (!header)
        fail(ErrorKind::NotFound, "no store starts on {}", paths.front());
    checkStoreDevices(devices, *header, described);
    store.uuid = header->uuid;
    store.name = header->uuid.dashed();
    return store;
}

bool isMissing(BlockDevices& devices, const DeviceIdentity& identity) {
    try {
        findDevice(devices, identity);
        return false;
    } catch (const Error&) {
        return true;
    }
}

/// Attaches the origins of a store. Which lack their device is found out before: one that turns up
/// meanwhile is to be tried again.
void attachAll(DeviceMapper& mapper, BlockDevices& devices, const ActiveStore& active,
               Tally& tally) {
    std::set<Uuid> missing;
    for (const auto& origin : active.metadata->origins)
        if (isMissing(devices, origin.device))
            missing.insert(origin.uuid);
    for (const auto& problem : attachOrigins(mapper, devices, active.device, *active.metadata)) {
        ++tally.failed;
        tally.missing += missing.contains(problem.origin) ? 1 : 0;
        spdlog::error("the origin {} is not attached: {}", problem.origin.dashed(), problem.reason);
    }
}

void activateOne(DeviceMapper& mapper, BlockDevices& devices, const LossRecords& losses,
                 const RegisteredStore& store, Tally& tally) {
    const bool is_missing =
        std::any_of(store.devices.begin(), store.devices.end(),
                    [&](const auto& device) { return isMissing(devices, device); });
    try {
        const ActiveStore active = activateStore(mapper, devices, losses, store);
        ++tally.done;
        spdlog::info("the store {} is {}", store.name, active.device.path());
        if (active.metadata)
            attachAll(mapper, devices, active, tally);
    } catch (const Error& error) {
        ++tally.failed;
        tally.missing += is_missing ? 1 : 0;
        spdlog::error("the store {} is not activated: {}", store.name, error.what());
    }
}

/// Not while a daemon runs: it may be formatting, then what looks left over is its own.
void removeLeftovers(DeviceMapper& mapper, BlockDevices& devices,
                     const std::string& state_directory) {
    try {
        if (const auto lock = lockDirectory(state_directory))
            StoreAssembly(mapper, devices).removeLeftovers();
    } catch (const Error& error) {
        spdlog::warn("{}", error.what());  // at boot it may still be read-only
    }
}

int activate(const std::string& state_directory, const std::vector<std::string>& paths) {
    const auto mapper = openDeviceMapper();
    requireModule(*mapper);
    LinuxBlockDevices devices;
    std::vector<RegisteredStore> stores;
    if (paths.empty())
        stores = StoreRegistry(state_directory).read();
    else
        stores.push_back(storeOn(devices, paths));
    removeLeftovers(*mapper, devices, state_directory);
    Tally tally;
    for (const auto& store : stores)
        activateOne(*mapper, devices, LossRecords(state_directory), store, tally);
    if (tally.failed == 0)
        return 0;
    if (tally.missing > 0)
        return static_cast<int>(ExitCode::NotFound);
    return static_cast<int>(tally.done == 0 ? ExitCode::Failed : ExitCode::Partly);
}

/// attempt() until no device is missing, or the time is over: its last status. What an attempt logs
/// is said if it is not what the one before said.
int repeat(std::ostringstream& log, std::chrono::seconds limit,
           const std::function<int()>& attempt) {
    const auto end = std::chrono::steady_clock::now() + limit;
    std::string said;
    for (;;) {
        log.str({});
        const int status = attempt();
        if (log.str() != said) {
            said = log.str();
            std::cerr << said << std::flush;
        }
        if (status != static_cast<int>(ExitCode::NotFound) ||
            std::chrono::steady_clock::now() >= end)
            return status;
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
}

int attempt(const std::string& state_directory, const std::vector<std::string>& paths) {
    try {
        return activate(state_directory, paths);
    } catch (const std::exception& error) {
        spdlog::error("{}", error.what());
        return EXIT_FAILURE;
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("cowsnap-activate: start stores and attach their origins, without a bus");
    std::string state_directory(kDefaultStateDirectory);
    std::vector<std::string> paths;
    app.add_option("--state-directory", state_directory, "Where the list of stores is kept")
        ->capture_default_str();
    unsigned wait_seconds = 0;
    app.add_option("--wait", wait_seconds,
                   "How long to wait for devices that are missing, in seconds")
        ->capture_default_str();
    app.add_option("device", paths,
                   "The devices of one store, in their order (default: all registered stores)");
    app.set_version_flag("--version", COWSNAP_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : static_cast<int>(ExitCode::Usage);
    }
    std::ostringstream log;
    auto logger = std::make_shared<spdlog::logger>(
        "cowsnap-activate", std::make_shared<spdlog::sinks::ostream_sink_mt>(log));
    logger->set_pattern("cowsnap-activate: %v");
    spdlog::set_default_logger(std::move(logger));
    return repeat(log, std::chrono::seconds(wait_seconds),
                  [&] { return attempt(state_directory, paths); });
}
