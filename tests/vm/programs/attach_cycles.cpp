// SPDX-License-Identifier: GPL-2.0-or-later
// Interposes an origin on a device, creates and deletes a snapshot, and detaches it again, many
// times and without a process for each step, while somebody else uses the device.
//
//   attach-cycles STORE ID DEVICE COUNT PID...
//
// STORE is the name of the cow-store's mapped device, ID the number that the origin and its
// snapshots get, PIDs the processes that use DEVICE: when one has ended, it has found something
// wrong. Exit status 1 then, and when a step fails.

#include <fmt/format.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <exception>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "cowsnap_dm.h"
#include "device.h"
#include "dm/lib_device_mapper.h"
#include "dm/lines.h"

namespace {

constexpr const char* kName = "cycle";
constexpr int kMostPauseMs = 90;

class Cycles {
public:
    Cycles(std::string store, std::uint32_t id, const std::string& device)
        : store_(std::move(store)), id_(id) {
        const vmtest::Devices opened({device}, vmtest::Devices::Mode::Read);
        table_ = {{0, opened.sectors(), COWSNAP_TARGET_ORIGIN,
                   fmt::format("/dev/mapper/{} {} {} 1 {}", store_, id_, device,
                               COWSNAP_FEATURE_INTERPOSE)}};
    }

    void one() {
        mapper_.create(kName, "", table_, cowsnap::Visibility::Hidden, false);
        mapper_.message(store_, cowsnap::createMessage(members_));
        std::this_thread::sleep_for(std::chrono::milliseconds(pause_(random_)));
        mapper_.message(store_, cowsnap::deleteMessage(snapshots_));
        mapper_.remove(kName, cowsnap::Visibility::Hidden);
        mapper_.message(store_, cowsnap::forgetMessage(id_));
    }

private:
    cowsnap::LibDeviceMapper mapper_;
    std::string store_;
    std::uint32_t id_;
    std::vector<std::uint32_t> snapshots_{id_};
    std::vector<std::pair<std::uint32_t, std::uint32_t>> members_{{id_, id_}};
    std::vector<cowsnap::MappedTarget> table_;
    std::mt19937 random_;
    std::uniform_int_distribution<int> pause_{0, kMostPauseMs};
};

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc < 6)
            throw std::runtime_error("attach-cycles STORE ID DEVICE COUNT PID...");
        Cycles cycles(argv[1], static_cast<std::uint32_t>(std::stoul(argv[2])), argv[3]);
        const int count = std::stoi(argv[4]);
        std::vector<pid_t> users;
        for (int i = 5; i < argc; ++i)
            users.push_back(std::stoi(argv[i]));
        for (int i = 1; i <= count; ++i) {
            cycles.one();
            for (const pid_t user : users)
                if (::kill(user, 0) != 0)
                    throw std::runtime_error(
                        fmt::format("process {} has ended in cycle {}", user, i));
            if (i % 50 == 0) {
                std::printf("%d of %d cycles\n", i, count);
                std::fflush(stdout);
            }
        }
        return 0;
    } catch (const std::exception& error) {
        std::printf("FAIL: %s\n", error.what());
        return 1;
    }
}
