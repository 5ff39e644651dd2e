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
#include <functional>
#include <memory>

#include "assembly/boot_policy.h"
#include "base/directory_lock.h"
#include "base/error.h"
#include "block/linux_block_devices.h"
#include "block/lvm_volume_groups.h"
#include "config/configuration.h"
#include "daemon.h"
#include "dm/module.h"
#include "log/journal_sink.h"
#include "watchdog.h"

namespace {

void setUpLog() {
    constexpr const char* name = "cowsnapd";
    if (cowsnap::errorsGoToJournal()) {
        spdlog::set_default_logger(
            std::make_shared<spdlog::logger>(name, std::make_shared<cowsnap::JournalSink>(name)));
        return;
    }
    auto logger = spdlog::stderr_logger_mt(name);
    logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %l: %v");
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

/// Calls back on each SIGHUP.
void onHangUp(boost::asio::signal_set& signals, const std::function<void()>& reload) {
    signals.async_wait([&signals, reload](const boost::system::error_code& error, int) {
        if (error)
            return;
        reload();
        onHangUp(signals, reload);
    });
}

int serve(const std::string& state_directory, const std::string& run_directory,
          const cowsnap::ConfigurationSource& configuration) {
    const auto lock = beTheOnlyOne(state_directory);
    const auto mapper = cowsnap::openDeviceMapper();
    cowsnap::LinuxBlockDevices devices;
    cowsnap::LvmVolumeGroups groups;
    lockMemory();
    cowsnap::Daemon daemon(*mapper, devices, groups, state_directory, run_directory, configuration);
    boost::asio::signal_set signals(daemon.loop(), SIGTERM, SIGINT);
    signals.async_wait([&](const boost::system::error_code& error, int) {
        if (error)
            return;
        // What was begun is finished then, without the loop.
        sd_notify(0, "STOPPING=1\nWATCHDOG_USEC=0");
        daemon.stop();
    });
    boost::asio::signal_set hang_up(daemon.loop(), SIGHUP);
    onHangUp(hang_up, [&] { daemon.reload(); });
    cowsnap::Watchdog watchdog(daemon.loop());
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
    cowsnap::ConfigurationSource configuration{std::string(cowsnap::kDefaultConfigurationFile)};
    std::string configuration_file;
    app.add_option("--state-directory", state_directory, "Where the list of stores is kept")
        ->capture_default_str();
    std::string run_directory(cowsnap::kDefaultRunDirectory);
    app.add_option("--run-directory", run_directory,
                   "Where it is kept, until the machine is started again, what was told")
        ->capture_default_str();
    app.add_option("--configuration", configuration_file, "The configuration file")
        ->default_str(configuration.file.string())
        ->check(CLI::ExistingFile);
    app.add_option("--log-level", configuration.log_level,
                   "debug, info, warning or error; goes before that of the configuration")
        ->check(CLI::IsMember(cowsnap::logLevels()));
    app.set_version_flag("--version", COWSNAP_VERSION);
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        constexpr int usage = 2;
        return app.exit(error) == 0 ? EXIT_SUCCESS : usage;
    }
    if (!configuration_file.empty())
        configuration.file = configuration_file;
    setUpLog();
    try {
        spdlog::set_level(
            spdlog::level::from_str(cowsnap::readConfiguration(configuration).log_level));
        return serve(state_directory, run_directory, configuration);
    } catch (const std::exception& error) {
        spdlog::critical("{}", error.what());
        return EXIT_FAILURE;
    }
}
