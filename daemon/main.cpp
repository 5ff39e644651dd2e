// SPDX-License-Identifier: GPL-2.0-or-later
// cowsnapd: command line, logging, signals, and the real device-mapper.
#include <pthread.h>
#include <sys/mman.h>
#include <systemd/sd-daemon.h>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <CLI/CLI.hpp>
#include <boost/asio/signal_set.hpp>

#include <csignal>
#include <cstdlib>
#include <cstring>

#include "base/directory_lock.h"
#include "base/error.h"
#include "block/linux_block_devices.h"
#include "daemon.h"
#include "dm/module.h"

namespace {

void setUpLog(const std::string& level) {
    auto logger = spdlog::stderr_logger_mt("cowsnapd");
    // The journal has its own time stamps.
    const bool to_journal = std::getenv("JOURNAL_STREAM") != nullptr;
    logger->set_pattern(to_journal ? "%l: %v" : "%Y-%m-%d %H:%M:%S.%e %l: %v");
    logger->set_level(spdlog::level::from_str(level));
    spdlog::set_default_logger(std::move(logger));
}

void lockMemory() {
    // Each thread's stack is locked too: the 8 MiB that are usual would add up.
    constexpr std::size_t stack_bytes = std::size_t{1} << 20;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) == 0) {
        if (pthread_attr_setstacksize(&attributes, stack_bytes) != 0 ||
            pthread_setattr_default_np(&attributes) != 0)
            spdlog::warn("cannot set the size of stacks");
        pthread_attr_destroy(&attributes);
    }
    // The device under the root file system may be an origin that waits for us.
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0)
        spdlog::warn("cannot lock memory: {}", std::strerror(errno));
}

/// Two daemons would undo what the other one is doing. A directory that cannot be locked, such as
/// one that is read-only, keeps nobody from their snapshots.
cowsnap::FileDescriptor beTheOnlyOne(const std::string& state_directory) {
    try {
        auto lock = cowsnap::lockDirectory(state_directory);
        if (!lock)
            cowsnap::fail(cowsnap::ErrorKind::Busy,
                          "another cowsnapd is running (it holds {}): stop it first",
                          state_directory);
        return lock;
    } catch (const cowsnap::Error& error) {
        if (error.kind() == cowsnap::ErrorKind::Busy)
            throw;
        spdlog::warn("{}", error.what());
        return {};
    }
}

int serve(const std::string& state_directory) {
    const auto lock = beTheOnlyOne(state_directory);
    const auto mapper = cowsnap::openDeviceMapper();
    cowsnap::LinuxBlockDevices devices;
    lockMemory();
    cowsnap::Daemon daemon(*mapper, devices, state_directory);
    boost::asio::signal_set signals(daemon.loop(), SIGTERM, SIGINT);
    signals.async_wait([&](const boost::system::error_code& error, int) {
        if (error)
            return;
        sd_notify(0, "STOPPING=1");
        daemon.stop();
    });
    const std::string failure = daemon.run([] {
        spdlog::info("ready");
        sd_notify(0, "READY=1");
    });
    if (failure.empty())
        return EXIT_SUCCESS;
    spdlog::critical("{}", failure);
    return EXIT_FAILURE;
}

}  // namespace

int main(int argc, char** argv) {
    CLI::App app("cowsnapd: snapshots of live block devices, on D-Bus as org.cowsnap1");
    std::string state_directory(cowsnap::kDefaultStateDirectory);
    std::string level = "info";
    app.add_option("--state-directory", state_directory, "Where the list of stores is kept")
        ->capture_default_str();
    app.add_option("--log-level", level, "debug, info, warning or error")
        ->capture_default_str()
        ->check(CLI::IsMember({"debug", "info", "warning", "error"}));
    app.set_version_flag("--version", COWSNAP_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        constexpr int usage = 2;
        return app.exit(error) == 0 ? EXIT_SUCCESS : usage;
    }
    setUpLog(level);
    try {
        return serve(state_directory);
    } catch (const std::exception& error) {
        spdlog::critical("{}", error.what());
        return EXIT_FAILURE;
    }
}
