// SPDX-License-Identifier: GPL-2.0-or-later
// Starting and stopping.
#include "daemon.h"

#include <spdlog/spdlog.h>

#include <boost/asio/executor_work_guard.hpp>

namespace cowsnap {

Daemon::Daemon(DeviceMapper& mapper, BlockDevices& devices, VolumeGroups& groups,
               const std::filesystem::path& state_directory,
               const std::filesystem::path& run_directory, ConfigurationSource configuration,
               AuthoritySettings authority)
    : engine_(mapper, devices, groups, StoreRegistry(state_directory), run_directory),
      service_(loop_, queue_, engine_, mapper, std::move(configuration), std::move(authority)) {}

std::string Daemon::run(std::function<void()> on_ready) {
    service_.start(std::move(on_ready));
    // While only the threads of the queue work, the loop has nothing to wait for.
    const auto work = boost::asio::make_work_guard(loop_);
    loop_.run();
    queue_.close();
    service_.dropWaiting();
    queue_.stop();  // what was begun is finished
    // Who waits for that is answered, and what came meanwhile is dropped.
    loop_.restart();
    loop_.poll();
    service_.dropWaiting();
    return service_.failure();
}

void Daemon::reload() {
    service_.reload([](const std::optional<Error>& error) {
        if (error)
            spdlog::error("the configuration was not read again: {}", error->what());
        else
            spdlog::info("the configuration was read again");
    });
}

void Daemon::stop() {
    loop_.stop();
}

}  // namespace cowsnap
