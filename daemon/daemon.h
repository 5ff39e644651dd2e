// SPDX-License-Identifier: GPL-2.0-or-later
// The parts of cowsnapd put together: loop, work queue, engine, bus. Knows nothing of
// the command line or of what kind of device-mapper it is given.
#ifndef COWSNAP_DAEMON_DAEMON_H
#define COWSNAP_DAEMON_DAEMON_H

#include <utility>

#include <boost/asio/io_context.hpp>

#include <filesystem>
#include <functional>
#include <string>

#include "bus/service.h"
#include "config/configuration.h"
#include "jobs/work_queue.h"
#include "model/engine.h"

namespace cowsnap {

class Daemon {
public:
    /// Throws Error if the configuration is wrong.
    Daemon(DeviceMapper& mapper, BlockDevices& devices, VolumeGroups& groups,
           const std::filesystem::path& state_directory, const std::filesystem::path& run_directory,
           ConfigurationSource configuration = {}, AuthoritySettings authority = {});
    Daemon(const Daemon&) = delete;
    Daemon& operator=(const Daemon&) = delete;

    /// Serves until stop(); on_ready is called when the bus name is taken. Returns
    /// what went wrong, empty if nothing did. Leaves all mapped devices in place.
    std::string run(std::function<void()> on_ready);
    /// Reads the configuration again; what is wrong is logged, and nothing changes then. On the
    /// loop.
    void reload();
    /// Ends run(). May be called from any thread.
    void stop();

    boost::asio::io_context& loop() { return loop_; }

private:
    boost::asio::io_context loop_;
    Engine engine_;
    // After the service, which its work uses, is gone nothing may run any more: run() sees to it.
    WorkQueue queue_;
    Service service_;
};

}  // namespace cowsnap

#endif
