// SPDX-License-Identifier: GPL-2.0-or-later
// cowsnap-activate: starts the registered stores, or those on the devices named,
// and attaches their origins, at boot and without a bus; tells which devices are
// withheld until then (see assembly/boot_policy.h). Knows nothing of the daemon.
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "assembly/activation.h"
#include "assembly/boot_policy.h"
#include "assembly/store_assembly.h"
#include "assembly/store_devices.h"
#include "assembly/store_header.h"
#include "base/directory_lock.h"
#include "base/durable_file.h"
#include "base/error.h"
#include "base/exit_code.h"
#include "block/linux_block_devices.h"
#include "dm/lib_device_mapper.h"
#include "dm/module.h"
#include "meta/registry.h"

namespace {

using namespace cowsnap;

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

/// Not while a daemon runs: it may be formatting, or changing a table, then what looks left over is
/// its own.
void endInterrupted(DeviceMapper& mapper, BlockDevices& devices, const std::string& state_directory,
                    const std::vector<RegisteredStore>& stores) {
    try {
        const auto lock = lockDirectory(state_directory);
        if (!lock)
            return;
        StoreAssembly assembly(mapper, devices);
        assembly.removeLeftovers();
        for (const auto& store : stores)
            assembly.resumeInterrupted(store.uuid);
    } catch (const Error& error) {
        spdlog::warn("{}", error.what());  // at boot it may still be read-only
    }
}

/// Where things are.
struct Places {
    std::string state_directory{kDefaultStateDirectory};
    std::string run_directory{kDefaultRunDirectory};

    WithheldOrigins withheld() const { return WithheldOrigins(run_directory); }

    /// Where the list of stores and the records of losses are: in the state directory. While that
    /// is not there, as its /var is not mounted yet, where the initramfs has left copies. No daemon
    /// runs then.
    std::string lists() const {
        std::error_code code;
        const bool missing = !std::filesystem::exists(state_directory, code) && !code;
        return missing && StoreRegistry(run_directory).isThere() ? run_directory : state_directory;
    }
};

std::string kernelCommandLine() {
    return readIfThere("/proc/cmdline").value_or("");
}

std::unique_ptr<DeviceMapper> usableMapper() {
    auto mapper = openDeviceMapper();
    requireModule(*mapper);
    return mapper;
}

/// NotFound: to be tried again, when what is missing has turned up.
int statusOf(const Activation& result, bool waits_for_origins) {
    if (result.failed == 0)
        return 0;
    if (result.missing_stores > 0 || (waits_for_origins && result.missing_origins > 0))
        return static_cast<int>(ExitCode::NotFound);
    return static_cast<int>(result.done == 0 ? ExitCode::Failed : ExitCode::Partly);
}

/// The store on these devices.
int activateNamed(const Places& places, const std::vector<std::string>& paths) {
    const auto mapper = usableMapper();
    LinuxBlockDevices devices;
    const RegisteredStore store = storeOn(devices, paths);
    const std::string lists = places.lists();
    endInterrupted(*mapper, devices, lists, {store});
    return statusOf(activateStores(*mapper, devices, LossRecords(lists), {store}), true);
}

/// root: what is to be mounted after that, if it is known; then other origins that are missing are
/// left to who comes later.
int activateRegistered(const Places& places, const std::string& root) {
    const std::string lists = places.lists();
    const auto stores = StoreRegistry(lists).read();
    const std::string command_line = kernelCommandLine();
    if (stores.empty()) {
        withhold(places.withheld(), {}, command_line);
        return 0;  // without a module, too
    }
    std::unique_ptr<DeviceMapper> mapper;
    try {
        mapper = usableMapper();
    } catch (const Error& error) {
        withhold(places.withheld(), withheldOf(stores, {}, error.what()), command_line);
        throw;
    }
    LinuxBlockDevices devices;
    endInterrupted(*mapper, devices, lists, stores);
    const Activation result = activateStores(*mapper, devices, LossRecords(lists), stores);
    withhold(places.withheld(), result.withheld, command_line);
    return statusOf(result, root.empty() || mayStandOnMissing(devices, root));
}

/// Before there is a kernel module, or one without device-mapper, there are none.
std::vector<MappedDevice> mappedDevices() {
    try {
        return LibDeviceMapper().devices();
    } catch (const Error&) {
        return {};
    }
}

/// Before udev looks at devices: what must be attached first.
int withholdAll(const Places& places) {
    const auto withheld = withheldOf(StoreRegistry(places.lists()).read(), mappedDevices(),
                                     "that has not been tried yet");
    places.withheld().write(failsOpenNow(kernelCommandLine()) ? std::vector<WithheldOrigin>()
                                                              : withheld);
    return 0;
}

/// The number of the device that the root file system is on.
std::optional<DeviceNumber> rootDevice() {
    struct stat status {};
    if (::stat("/", &status) != 0 || major(status.st_dev) == 0)
        return std::nullopt;
    return DeviceNumber{major(status.st_dev), minor(status.st_dev)};
}

/// Ends with 0 and says why if the device is, or stands on, one that is withheld; with NotFound if
/// not.
int askWithheld(const Places& places, const std::string& path) {
    auto withheld = places.withheld().read();
    const auto mapped = mappedDevices();
    std::erase_if(withheld, [&](const auto& entry) {
        return notAttached({entry.origin}, mapped, [](const auto&) { return ""; }).empty();
    });
    if (withheld.empty())
        return static_cast<int>(ExitCode::NotFound);
    // udev tells in the environment which links it is about to make.
    std::set<std::string> links;
    if (const char* const text = std::getenv("DEVLINKS")) {
        std::istringstream words(text);
        for (std::string word; words >> word;)
            links.insert(word);
    }
    LinuxBlockDevices devices;
    const auto found = withheldBelow(devices, withheld, path, links, rootDevice());
    if (!found)
        return static_cast<int>(ExitCode::NotFound);
    std::cout << withheldText(*found) << "\n" << kWithheldAdvice << "\n";
    return 0;
}

/// For who lets a device through: only what is surely not withheld, so an error is none.
int askNotWithheld(const Places& places, const std::string& path) {
    const int status = askWithheld(places, path);
    return status == 0 ? static_cast<int>(ExitCode::NotFound) : 0;
}

/// attempt() until no device is missing, or the time is over: its last status. What an attempt logs
/// is said if it is not what the one before said; where errors are only if it did not succeed.
int repeat(std::ostringstream& log, std::chrono::seconds limit,
           const std::function<int()>& attempt) {
    const auto end = std::chrono::steady_clock::now() + limit;
    std::string said;
    for (;;) {
        log.str({});
        const int status = attempt();
        if (log.str() != said) {
            said = log.str();
            (status == 0 ? std::cout : std::cerr) << said << std::flush;
        }
        if (status != static_cast<int>(ExitCode::NotFound) ||
            std::chrono::steady_clock::now() >= end)
            return status;
        std::this_thread::sleep_for(std::chrono::seconds(1));
    }
}

int attempt(const std::function<int()>& work) {
    try {
        return work();
    } catch (const std::exception& error) {
        spdlog::error("{}", error.what());
        return EXIT_FAILURE;
    }
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("cowsnap-activate: start stores and attach their origins, without a bus");
    Places places;
    std::vector<std::string> paths;
    app.add_option("--state-directory", places.state_directory, "Where the list of stores is kept")
        ->capture_default_str();
    app.add_option("--run-directory", places.run_directory,
                   "Where it is kept which devices are withheld")
        ->capture_default_str();
    unsigned wait_seconds = 0;
    app.add_option("--wait", wait_seconds,
                   "How long to wait for devices that are missing, in seconds")
        ->capture_default_str();
    std::string root;
    auto* const root_option = app.add_option(
        "--root", root,
        "The device that is mounted next: origins that it cannot stand on are not waited for");
    bool before_udev = false;
    auto* const withhold_option =
        app.add_flag("--withhold", before_udev,
                     "Attach nothing: have udev withhold the devices of fail-closed origins");
    std::string asked;
    auto* const withheld_option = app.add_option(
        "--withheld", asked, "Attach nothing: end with 0 if this device is withheld, and say why");
    withheld_option->excludes(withhold_option);
    std::string let_through;
    auto* const not_withheld_option =
        app.add_option("--not-withheld", let_through,
                       "Attach nothing: end with 0 if this device is surely not withheld");
    not_withheld_option->excludes(withhold_option)->excludes(withheld_option);
    app.add_option("device", paths,
                   "The devices of one store, in their order (default: all registered stores)")
        ->excludes(root_option);
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
    std::function<int()> work;
    if (before_udev)
        work = [&] { return withholdAll(places); };
    else if (withheld_option->count() > 0)
        work = [&] { return askWithheld(places, asked); };
    else if (not_withheld_option->count() > 0)
        work = [&] { return askNotWithheld(places, let_through); };
    else if (paths.empty())
        work = [&] { return activateRegistered(places, root); };
    else
        work = [&] { return activateNamed(places, paths); };
    const bool waits =
        !before_udev && withheld_option->count() == 0 && not_withheld_option->count() == 0;
    return repeat(log, std::chrono::seconds(waits ? wait_seconds : 0),
                  [&] { return attempt(work); });
}
