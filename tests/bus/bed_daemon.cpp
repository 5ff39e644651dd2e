// SPDX-License-Identifier: GPL-2.0-or-later
// The whole daemon on a private D-Bus and a fake machine, for tests that are programs of their own
// and run snapd-cli. Says where the bus is, then does what the lines of its input say, and answers
// each with a line; ends with its input.
//
//   use DEVICE HOW      the device is in use, such as "mounted on /srv"
//   free DEVICE         it is not any more
//   open DEVICE         somebody has it open
//   add DEVICE          there is one more, blank and as large as that of a store
//   copied ORIGIN-ID    all of the rollback is copied back
//   unseen ORIGIN-ID    the origin was written while nothing was in front of it
//   stop, start         the daemon
#include <cstdlib>
#include <iostream>
#include <sstream>
#include <string>

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include "bus_bed.h"

namespace {

using cowsnap::test::BusBed;

std::uint32_t numberFrom(const std::string& text) {
    return static_cast<std::uint32_t>(std::stoul(text));
}

void obey(BusBed& bed, const std::string& line) {
    std::istringstream words(line);
    std::string verb;
    std::string subject;
    std::string rest;
    words >> verb >> subject >> std::ws;
    std::getline(words, rest);
    if (verb == "use")
        bed.machine.setUser(subject, rest);
    else if (verb == "free")
        bed.machine.setUser(subject, "");
    else if (verb == "open")
        bed.machine.setOpen(subject, true);
    else if (verb == "add")
        bed.machine.addDisk(subject, cowsnap::test::kStoreSectors);
    else if (verb == "copied")
        bed.machine.endRollback(numberFrom(subject));
    else if (verb == "unseen")
        bed.machine.writtenUnseen(numberFrom(subject));
    else if (verb == "stop")
        bed.stopDaemon();
    else if (verb == "start")
        bed.startDaemon();
    else
        throw std::runtime_error("there is no verb \"" + verb + "\"");
}

}  // namespace

int main() {
    // The output is for answers.
    spdlog::set_default_logger(spdlog::stderr_logger_mt("log"));
    try {
        BusBed bed;
        std::cout << "bus " << std::getenv("DBUS_SYSTEM_BUS_ADDRESS") << std::endl;
        std::cout << "configuration " << bed.configuration.string() << std::endl;
        std::string line;
        while (std::getline(std::cin, line)) {
            try {
                obey(bed, line);
                std::cout << "done" << std::endl;
            } catch (const std::exception& error) {
                std::cout << "failed " << error.what() << std::endl;
            }
        }
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return EXIT_FAILURE;
    }
}
