// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli and jobs: not waiting, progress, and a daemon that is restarted under a call.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "bus_bed.h"
#include "cowsnap_dm.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;
using nlohmann::json;

namespace {

/// snapd-cli in a thread, since the kernel holds what it waits for.
class Running {
public:
    Running(BusBed& bed, const std::vector<std::string>& arguments)
        : bed_(bed), errors_((directory_.path() / "errors").string()) {
        std::vector<std::string> words{"/bin/sh", "-c",    R"(exec 2>"$1"; shift; exec "$@")",
                                       "sh",      errors_, COWSNAP_CLI};
        words.insert(words.end(), arguments.begin(), arguments.end());
        thread_ = std::thread([this, words] { result_ = runProgram(words); });
    }

    /// Waits until it has said so many lines on its standard error; false if it takes too long.
    bool waitForErrorLines(long count) {
        constexpr int patience = 2000;
        for (int tries = 0; tries < patience; ++tries) {
            std::ifstream file(errors_);
            if (std::count(std::istreambuf_iterator<char>(file), {}, '\n') >= count)
                return true;
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        return false;
    }

    const CliResult& end() {
        if (thread_.joinable()) {
            thread_.join();
            std::ifstream file(errors_);
            result_.errors.assign(std::istreambuf_iterator<char>(file), {});
        }
        return result_;
    }
    ~Running() {
        bed_.machine.letGo();  // or a test that failed would wait for ever
        end();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

private:
    BusBed& bed_;
    TemporaryDirectory directory_;
    std::string errors_;
    CliResult result_;
    std::thread thread_;
};

}  // namespace

TEST_CASE("without waiting the job is told, and can be waited for") {
    BusBed bed;
    bed.attach("/dev/one", bed.createStore());
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const CliResult begun = runCli({"create", "one", "--name", "a", "--no-wait", "--json"});
    INFO(begun.output << begun.errors);
    REQUIRE(begun.code == 0);
    const auto document = json::parse(begun.output);
    CHECK(document.at("operation") == "create");
    const auto number = std::to_string(document.at("job").get<unsigned>());
    CHECK_THAT(runCli({"job", "show", number, "-o", "state"}).output, Contains("running"));
    bed.machine.letGo();
    CHECK(runCli({"job", "wait", number}).code == 0);
    CHECK(runCli({"list", "-o", "name", "--no-headings"}).output == "a\n");

    const CliResult text = runCli({"delete", "a", "--yes", "--no-wait"});
    CHECK_THAT(text.output, Contains("begun as job") && Contains("snapd-cli job wait"));
    // a device that is attached first is waited for: the snapshot is what is not
    CHECK_THAT(runCli({"create", "/dev/two", "--name", "b", "--no-wait"}).output,
               Contains("begun as job"));
    CHECK(bed.jobProperties(bed.jobs().back()).at("Operation") == Value(std::string("create")));
}

TEST_CASE("progress is told in lines of JSON, the result as ever") {
    BusBed bed;
    bed.attach("/dev/one", bed.createStore());
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    Running running(bed, {"create", "one", "--name", "a", "--progress=json"});
    REQUIRE(bed.machine.waitUntilHeld(1));
    REQUIRE(running.waitForErrorLines(1));
    bed.machine.letGo();
    const CliResult& result = running.end();
    INFO(result.output << result.errors);
    CHECK(result.code == 0);
    CHECK_THAT(result.output, Contains("created a"));
    std::istringstream lines(result.errors);
    std::vector<std::string> states;
    for (std::string line; std::getline(lines, line);) {
        const auto document = json::parse(line);
        CHECK(document.at("schema") == 1);
        CHECK(document.at("operation") == "create");
        CHECK(document.contains("bytes_per_second"));
        states.push_back(document.at("state"));
    }
    REQUIRE(states.size() >= 2);
    CHECK(states.back() == "done");

    // A job that fails is not done again by asking for its answer.
    const CliResult failed = runCli({"create", "one", "--name", "a", "--progress=json"});
    CHECK(failed.code == 1);
    CHECK_THAT(failed.errors, Contains("\"state\":\"failed\"") && Contains("already"));
    CHECK(bed.jobs().size() == 4);
    // without a terminal there is no bar
    CHECK(runCli({"create", "one", "--name", "b"}).errors.empty());
}

TEST_CASE("a call under which the daemon is restarted is repeated, and says so if that fails") {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    SECTION("it was not done: it is now") {
        bed.machine.hold(COWSNAP_MESSAGE_CREATE);
        const auto first = bed.beginCreate(origin.path, "first");
        REQUIRE(bed.machine.waitUntilHeld(1));
        const auto jobs = bed.jobs().size();
        Running running(bed, {"create", "one", "--name", "a"});
        for (int tries = 0; bed.jobs().size() == jobs; ++tries) {
            constexpr int patience = 2000;
            REQUIRE(tries < patience);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        }
        std::thread restart([&] {
            bed.stopDaemon();  // the second one has not begun, and never will
            bed.startDaemon();
        });
        std::this_thread::sleep_for(std::chrono::seconds(1));
        bed.machine.letGo();
        restart.join();
        const CliResult& result = running.end();
        INFO(result.output << result.errors);
        CHECK(result.code == 0);
        CHECK(runCli({"list", "-o", "name", "--no-headings"}).output == "first\na\n");
    }
    SECTION("it was done: that is said") {
        bed.machine.hold(COWSNAP_MESSAGE_CREATE);
        Running running(bed, {"create", "one", "--name", "a"});
        REQUIRE(bed.machine.waitUntilHeld(1));
        bed.silenceDaemon();
        bed.machine.letGo();
        bed.stopDaemon();  // finishes what it began, and answers nobody
        bed.startDaemon();
        const CliResult& result = running.end();
        CHECK(result.code != 0);
        CHECK_THAT(result.errors, Contains("cowsnapd was restarted during the call"));
        CHECK(runCli({"list", "-o", "name", "--no-headings"}).output == "a\n");
    }
}
