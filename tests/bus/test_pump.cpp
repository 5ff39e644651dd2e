// SPDX-License-Identifier: GPL-2.0-or-later
// A flood of messages leaves the loop to others; and the bus is not asked more than it must be.
#include <sys/ioctl.h>

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <catch2/catch.hpp>

#include <chrono>
#include <string>
#include <thread>

#include "bus/pump.h"
#include "bus_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

/// Waits until nothing more comes to a connection that nobody reads.
void waitUntilAllCame(const Bus& bus) {
    int before = -1;
    for (int now = 0; now == 0 || now != before;) {
        before = now;
        std::this_thread::sleep_for(std::chrono::milliseconds(300));
        REQUIRE(::ioctl(sd_bus_get_fd(bus.get()), FIONREAD, &now) == 0);
    }
}

int count(sd_bus_message* /*message*/, void* userdata, sd_bus_error* /*error*/) {
    ++*static_cast<unsigned*>(userdata);
    return 0;
}

/// Of a monitor, which must not answer what it sees.
int countQuestions(sd_bus_message* message, void* userdata, sd_bus_error* /*error*/) {
    if (sd_bus_message_is_method_call(message, "org.freedesktop.DBus", "GetConnectionCredentials") >
        0)
        ++*static_cast<unsigned*>(userdata);
    return 1;
}

}  // namespace

TEST_CASE("others on the loop have their turn while messages come in floods") {
    const TemporaryDirectory directory;
    const PrivateBus private_bus(directory, std::chrono::milliseconds(0));
    Bus receiver = Bus::openSystem();
    unsigned received = 0;
    sd_bus_slot* slot = nullptr;
    REQUIRE(sd_bus_match_signal(receiver.get(), &slot, nullptr, "/flood", "org.cowsnap1.Test",
                                nullptr, count, &received) >= 0);
    const Slot match(slot);
    Bus sender = Bus::openSystem();
    constexpr unsigned messages = 500;
    for (unsigned i = 0; i < messages; ++i)
        sender.send(sender.newSignal("/flood", "org.cowsnap1.Test", "Flood"));
    sender.flush();
    waitUntilAllCame(receiver);
    boost::asio::io_context loop;
    BusPump pump(loop, receiver, [](int) { FAIL("the connection is lost"); });
    unsigned received_before_others = messages;
    pump.process();
    boost::asio::post(loop, [&] { received_before_others = received; });
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (received < messages && std::chrono::steady_clock::now() < end)
        loop.run_one_for(std::chrono::milliseconds(100));
    CHECK(received == messages);
    CHECK(received_before_others <= 2 * BusPump::kMessagesAtOnce);
}

TEST_CASE("the bus is not asked who calls what anybody may call") {
    BusBed bed;
    Bus monitor = Bus::openSystem();
    Message become = monitor.newMethodCall("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                           "org.freedesktop.DBus.Monitoring", "BecomeMonitor");
    become.append(Value(std::vector<std::string>{"member='GetConnectionCredentials'"}));
    become.append(Value(std::uint32_t{0}));
    monitor.call(become, 10000000);
    unsigned asked = 0;
    REQUIRE(sd_bus_add_filter(monitor.get(), nullptr, countQuestions, &asked) >= 0);
    const auto read_all = [&] {
        for (int i = 0; i < 20; ++i)
            monitor.processOrWait(std::chrono::milliseconds(50));
    };
    for (const char* const member : {"GetMetrics", "ListJobs", "ListSnapshots"})
        bed.call(kRoot, kManager, member, nullptr);
    read_all();
    CHECK(asked == 0);
    bed.call(kRoot, kManager, "Refresh", nullptr);
    read_all();
    CHECK(asked > 0);
}
