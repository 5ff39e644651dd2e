// SPDX-License-Identifier: GPL-2.0-or-later
// How the daemon does with many operations and many snapshots: the whole of it on a private bus
// with the fake machine. Measures, prints, and ends with 1 if a bar does not hold. Times are of the
// machine that it runs on; without sanitizers, and with nothing else running, they mean something.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <chrono>
#include <cstdlib>
#include <string>

#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "resources.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

using Clock = std::chrono::steady_clock;

double millisecondsSince(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

bool all_hold = true;

void report(const std::string& what, double value, double bar, const char* unit) {
    const bool holds = value < bar;
    all_hold = all_hold && holds;
    fmt::print("{:<58} {:>12.1f} {:<6} (bar: {} {}) {}\n", what, value, unit, bar, unit,
               holds ? "holds" : "DOES NOT HOLD");
    std::fflush(stdout);
}

void startWithNothing() {
    BusBed bed;
    bed.stopDaemon();
    const auto start = Clock::now();
    bed.startDaemon();
    report("start to ready with nothing to do", millisecondsSince(start), 200, "ms");
}

void answersMeanwhile() {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto slow = bed.beginCreate(origin, "slow");
    bed.machine.waitUntilHeld(1);
    const std::string root = kRoot;
    double longest_ms = 0;
    constexpr int rounds = 50;
    for (int i = 0; i < rounds; ++i)
        for (const auto& ask : std::vector<std::function<void()>>{
                 [&] { bed.properties(store, kStore); },
                 [&] { bed.introspect(origin); },
                 [&] { bed.call(root, kManager, "GetMetrics", nullptr); },
                 [&] { bed.call(root, kManager, "ListJobs", nullptr); },
                 [&] { bed.call(root, kManager, "Refresh", nullptr); },
             }) {
            const auto start = Clock::now();
            ask();
            longest_ms = std::max(longest_ms, millisecondsSince(start));
        }
    report("longest answer while an operation takes long", longest_ms, 50, "ms");
    bed.machine.letGo();
    bed.finish(*slow);
}

void createAndDelete(unsigned pairs) {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    const auto run = [&](unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            const auto snapshot = bed.createSnapshots({{origin, "s"}}).front();
            bed.call(snapshot.path, kSnapshot, "Delete", nullptr);
            if (i % 100 == 0) {
                bed.forgetSignals();
                bed.machine.forgetMessages();
            }
        }
        bed.forgetSignals();
        bed.machine.forgetMessages();
    };
    run(1500);  // until what is kept for a while, and caches, are full
    const auto descriptors = openDescriptors();
    const auto heap = heapBytes();
    const auto start = Clock::now();
    run(pairs);
    const double elapsed_ms = millisecondsSince(start);
    fmt::print("{} pairs of create and delete: {:.2f} ms a pair\n", pairs, elapsed_ms / pairs);
    report("heap kept after them", static_cast<double>(heapBytes() - heap) / 1024, 128, "KiB");
    report("descriptors kept after them",
           static_cast<double>(openDescriptors()) - static_cast<double>(descriptors), 3, "");
}

void manySnapshots(unsigned count) {
    BusBed bed;
    bed.machine.makeSlotsLarge();
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    auto start = Clock::now();
    for (unsigned i = 0; i < count; ++i)
        bed.createSnapshots({{origin, fmt::format("snapshot-{}", i)}});
    fmt::print("{} snapshots made: {:.2f} ms each\n", count, millisecondsSince(start) / count);
    bed.forgetSignals();
    start = Clock::now();
    bed.createSnapshots({{origin, "one-more"}});
    fmt::print("one more: {:.2f} ms\n", millisecondsSince(start));

    start = Clock::now();
    bed.call(kRoot, kManager, "Refresh", nullptr);
    fmt::print("of that Refresh: {:.2f} ms\n", millisecondsSince(start));
    {
        Bus bus = Bus::openSystem();
        start = Clock::now();
        const Message answer =
            bus.call(bus.newMethodCall("org.cowsnap1", kRoot, "org.freedesktop.DBus.ObjectManager",
                                       "GetManagedObjects"),
                     10'000'000);
        fmt::print("of that GetManagedObjects: {:.2f} ms\n", millisecondsSince(start));
    }
    double best_ms = 1e9;
    for (int round = 0; round < 5; ++round) {
        start = Clock::now();
        const CliResult listed = runCli({"list"});
        best_ms = std::min(best_ms, millisecondsSince(start));
        if (listed.code != 0) {
            fmt::print("snapd-cli list failed: {}\n", listed.errors);
            all_hold = false;
        }
    }
    report(fmt::format("snapd-cli list of {} snapshots, best of 5", count), best_ms, 100, "ms");

    bed.stopDaemon();
    start = Clock::now();
    bed.startDaemon();
    report(fmt::format("restart with {} snapshots", count), millisecondsSince(start), 2000, "ms");
}

}  // namespace

int main(int argc, char** argv) {
    spdlog::set_level(spdlog::level::off);
    const unsigned pairs = argc > 1 ? static_cast<unsigned>(std::atoi(argv[1])) : 10000;
    startWithNothing();
    answersMeanwhile();
    manySnapshots(1000);
    createAndDelete(pairs);
    return all_hold ? EXIT_SUCCESS : EXIT_FAILURE;
}
