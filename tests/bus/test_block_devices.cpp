// SPDX-License-Identifier: GPL-2.0-or-later
// What is asked of the devices of the machine that runs this.
#include <unistd.h>

#include <catch2/catch.hpp>

#include <filesystem>
#include <fstream>
#include <string>

#include "base/error.h"
#include "block/linux_block_devices.h"

using namespace cowsnap;

namespace {

std::string lineOf(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

}  // namespace

TEST_CASE("a device is described without opening it, so that nobody waits for a disk that fails") {
    if (::geteuid() != 0) {
        WARN("not root: cannot become someone who may open no disk");
        return;
    }
    LinuxBlockDevices devices;
    unsigned described = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/dev/block")) {
        const std::string sectors = lineOf(entry.path() / "size");
        const std::string number = entry.path().filename().string();
        std::string path;
        try {
            path = devices.pathOf(*DeviceNumber::parse(number));
        } catch (const Error&) {
            continue;
        }
        // one that may not be there, or that anybody may open, proves nothing
        std::error_code code;
        const auto status = std::filesystem::status(path, code);
        const auto others = std::filesystem::perms::others_read;
        if (sectors.empty() || sectors == "0" || code ||
            (status.permissions() & others) != std::filesystem::perms::none)
            continue;
        constexpr uid_t nobody = 65534;
        REQUIRE(::seteuid(nobody) == 0);
        std::uint64_t found_sectors = 0;
        bool read_only = false;
        std::string failure;
        try {
            const BlockDevice device = devices.describe(path);
            found_sectors = device.identity.size_sectors;
            read_only = device.read_only;
        } catch (const Error& error) {
            failure = error.what();
        }
        REQUIRE(::seteuid(0) == 0);
        INFO(path);
        CHECK(failure.empty());
        CHECK(std::to_string(found_sectors) == sectors);
        CHECK(read_only == (lineOf(entry.path() / "ro") == "1"));
        ++described;
    }
    if (described == 0)
        WARN("there is no disk here");
}
