// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli watch: what it tells, and that it goes on.
#include <fmt/format.h>

#include <catch2/catch.hpp>

#include <chrono>
#include <ctime>
#include <sstream>
#include <thread>

#include "bus_bed.h"
#include "cli_checks.h"
#include "cowsnap_dm.h"
#include "terminal.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;
using nlohmann::json;

namespace {

json lookOf(const CliResult& result) {
    INFO(result.output << result.errors);
    CHECK(result.code == 0);
    return json::parse(result.output);
}

}  // namespace

TEST_CASE("watch tells how full a store is, and at its first look when it will be") {
    BusBed bed;
    // Nothing is read but when somebody asks for it.
    bed.directory.write("cowsnapd.conf", R"({"refresh_interval_seconds": 3600})");
    bed.call(kRoot, kManager, "Reload", nullptr);
    checkDone(runCli({"watch", "--count", "1"}), "There is no store");
    const std::string path = bed.createStore();
    const auto look = [] {
        return lookOf(runCli({"watch", "--json", "--count", "1"})).at("stores").at(0);
    };
    const json unknown = look();
    CHECK(unknown.at("bytes_per_second").is_null());
    CHECK(unknown.at("full_in_seconds").is_null());
    checkDone(runCli({"create", "/dev/one", "--name", "old"}), "created");
    // The daemon takes a rate of less time for nothing.
    std::this_thread::sleep_for(std::chrono::seconds(6));
    bed.machine.useSegments(20);
    const json store = look();
    CHECK(store.at("used_bytes") == (20 << 20));
    CHECK(store.at("size_bytes") > store.at("used_bytes"));
    // It is what the store itself says.
    const auto expected = std::get<std::uint64_t>(bed.properties(path, kStore).at("ExpectedFull"));
    REQUIRE(expected > 0);
    const auto left = store.at("full_in_seconds").get<double>();
    constexpr double patience = 20;
    CHECK(static_cast<double>(std::time(nullptr)) + left ==
          Approx(static_cast<double>(expected)).margin(patience));
    CHECK(store.at("bytes_per_second").get<double>() ==
          Approx(store.at("free_bytes").get<double>() / left).margin(1));
    const CliResult text = runCli({"watch", "--count", "1"});
    checkDone(text, "main: active, 20.0 MiB of ");
    checkDone(text, " a second more: full in ");
    checkDone(runCli({"watch", "--count", "1", "--bytes"}), "main: active, 20971520 of ");
    checkDone(runCli({"rollback", "old", "--yes"}), "shows old");
    const CliResult copying = runCli({"watch", "--count", "1"});
    checkDone(copying, "one goes back to old: running");
    const json look_again = lookOf(runCli({"watch", "--json", "--count", "1"}));
    const json rolling = look_again.at("rollbacks").at(0);
    const json job = look_again.at("jobs").at(0);
    CHECK(job.at("operation") == "copy-back");
    CHECK(job.at("done_bytes") == 32 * 4096);
    const auto share = job.at("progress").get<double>();
    CHECK(share > 0);
    CHECK(share < 1);
    checkDone(copying, fmt::format("copy-back {}, running, {:.0f} %",
                                   job.at("subject").get<std::string>(), share * 100));
    CHECK(rolling.at("done_bytes") == 32 * 4096);
    CHECK(rolling.at("size_bytes") == kOriginSectors * 512);
    checkFailed(runCli({"watch", "--interval", "0"}), 2, "--interval");
}

TEST_CASE("watch goes on when the daemon is back, and says so") {
    BusBed bed;
    bed.createStore();
    OnTerminal cli({COWSNAP_CLI, "watch", "--interval", "1", "--count", "3"});
    REQUIRE(cli.waitFor("main: active"));
    bed.stopDaemon();
    CHECK(cli.waitFor("cowsnapd is gone; waiting until it is back"));
    bed.startDaemon();
    CHECK(cli.waitFor("cowsnapd is back"));
    CHECK(cli.end() == 0);
    // One that was never there is told as ever.
    bed.stopDaemon();
    checkFailed(runCli({"watch"}), 6, "cowsnapd does not run");
}

TEST_CASE("what a client called its job does not reach the terminal of who watches as it is") {
    BusBed bed;
    const std::string origin = bed.attach("/dev/one", bed.createStore());
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto held = bed.beginCreate(origin, "held");
    REQUIRE(bed.machine.waitUntilHeld(1));
    const auto queued = bed.begin(kRoot, kManager, "Attach", [&](Message& message) {
        message.append(
            Value(std::string("/dev/\033[31m\xc2\x9b"
                              "2J\177x")));
        message.append(bed.properties(origin, kOrigin).at("Store"));
    });
    CliResult result;
    // The call may come a moment later.
    for (int tries = 0; tries < 100 && result.output.find("attach") == std::string::npos; ++tries)
        result = runCli({"watch", "--count", "1"});
    CHECK_THAT(result.output, Contains("attach /dev/?[31m?2J?x, queued"));
    bed.machine.letGo();
    bed.finish(*held);
    bed.finish(*queued);
}
