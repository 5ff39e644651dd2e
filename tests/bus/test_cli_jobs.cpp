// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli and jobs: not waiting, progress, and a daemon that is restarted under a call.
#include <signal.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <sstream>
#include <thread>

#include "bus/permissions.h"
#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "fake_polkit.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;
using nlohmann::json;

namespace {

/// snapd-cli in a thread, since the kernel holds what it waits for.
class Running {
public:
    Running(BusBed& bed, const std::vector<std::string>& arguments)
        : bed_(bed),
          errors_((directory_.path() / "errors").string()),
          process_((directory_.path() / "process").string()) {
        std::vector<std::string> words{
            "/bin/sh",  "-c",     R"(echo $$ > "$1"; exec 2>"$2"; shift 2; exec "$@")",
            "sh",       process_, errors_,
            COWSNAP_CLI};
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

    // These once it runs.
    void stop() const { send(SIGSTOP); }
    void goOn() const { send(SIGCONT); }

    const CliResult& end() {
        if (thread_.joinable()) {
            thread_.join();
            std::ifstream file(errors_);
            result_.errors.assign(std::istreambuf_iterator<char>(file), {});
        }
        return result_;
    }
    ~Running() {
        // Or a test that failed would wait for ever.
        bed_.machine.letGo();
        if (thread_.joinable())
            send(SIGKILL);
        end();
    }
    Running(const Running&) = delete;
    Running& operator=(const Running&) = delete;

private:
    void send(int signal) const {
        pid_t process = 0;
        std::ifstream(process_) >> process;
        // 0 would be all of this group
        CHECK((process > 0 && ::kill(process, signal) == 0));
    }

    BusBed& bed_;
    TemporaryDirectory directory_;
    std::string errors_;
    std::string process_;
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
    // It is not known how far it is.
    CHECK(json::parse(runCli({"job", "show", number, "--json"}).output)
              .at("job")
              .at("progress")
              .is_null());
    CHECK_THAT(runCli({"job", "show", number, "-o", "progress"}).output, Contains("-"));
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
    // Of that name: then the second one cannot be created.
    const std::string first_name = GENERATE("first", "a");
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto first = bed.beginCreate(origin.path, first_name);
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
    if (first_name == "a") {
        CHECK(result.code != 0);
        CHECK_THAT(result.errors, Contains("cowsnapd was restarted during the call"));
        CHECK(runCli({"list", "-o", "name", "--no-headings"}).output == "a\n");
    } else {
        CHECK(result.code == 0);
        CHECK(runCli({"list", "-o", "name", "--no-headings"}).output == "first\na\n");
    }
}

TEST_CASE("who waits for what a daemon finishes that is told to stop is answered") {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto call = bed.beginCreate(origin.path, "a");
    REQUIRE(bed.machine.waitUntilHeld(1));
    bed.silenceDaemon();
    bed.machine.letGo();
    bed.finish(*call);
    INFO(call->failure.message);
    CHECK(call->failure.name.empty());
    bed.stopDaemon();
}

TEST_CASE("a job is waited for as long as the daemon is there, whoever else gave up") {
    constexpr std::chrono::milliseconds limit{2000};
    BusBed bed({}, limit);
    bed.attach("/dev/one", bed.createStore());
    for (const char* const progress : {"--progress=none", "--progress=json"}) {
        INFO(progress);
        const auto jobs = bed.jobs().size();
        bed.machine.hold(COWSNAP_MESSAGE_CREATE);
        Running running(bed, {"create", "one", "--name", progress + 11, progress});
        REQUIRE(bed.machine.waitUntilHeld(1));
        std::this_thread::sleep_for(2 * limit + limit / 2);
        bed.machine.letGo();
        const CliResult& result = running.end();
        INFO(result.output << result.errors);
        CHECK(result.code == 0);
        CHECK_THAT(result.output, Contains("created"));
        CHECK_THAT(result.errors, !Contains("restarted"));
        CHECK(bed.jobs().size() == jobs + 1);
    }
    CHECK(bed.machine.snapshotIds().size() == 2);
    // What is no job is not waited for without end.
    bed.silenceDaemon();
    const CliResult silent = runCli({"list"});
    CHECK(silent.code == 6);
    CHECK_THAT(silent.errors, Contains("cowsnapd did not answer") && Contains("job list"));
}

TEST_CASE("what was done is not told as failed, however soon its job is forgotten") {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    bed.directory.write("cowsnapd.conf", "{ \"finished_jobs\": 1, \"request_ids\": 2 }");
    bed.call(kRoot, kManager, "Reload", nullptr);
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    Running running(bed, {"create", "one", "--name", "a", "--progress=json"});
    REQUIRE(bed.machine.waitUntilHeld(1));
    REQUIRE(running.waitForErrorLines(1));
    running.stop();
    bed.machine.letGo();
    // Others push it, and its answer, out of the lists before it looks again.
    bed.createSnapshots({{origin, "b"}}, {{"request-id", std::string("b")}});
    bed.createSnapshots({{origin, "c"}}, {{"request-id", std::string("c")}});
    running.goOn();
    const CliResult& result = running.end();
    INFO(result.output << result.errors);
    CHECK(result.code == 0);
    CHECK_THAT(result.output, Contains("created a"));
    CHECK_THAT(result.errors, Catch::EndsWith("\n") && Contains("\"state\":\"done\""));
    CHECK(bed.machine.snapshotIds().size() == 3);
}

TEST_CASE("whoever looks at the progress is asked for a password once, and calls once") {
    if (::geteuid() != 0) {
        WARN("not root: cannot become someone else");
        return;
    }
    constexpr uid_t nobody = 65534;
    BusBed bed;
    bed.attach("/dev/one", bed.createStore());
    FakePolkit polkit;
    polkit.grant({std::string(kActionCreate)});
    const CliResult result = runCli({"create", "one", "--name", "a", "--progress=json"}, nobody);
    INFO(result.errors);
    CHECK(result.code == 0);
    CHECK_THAT(result.output, Contains("created a"));
    CHECK(polkit.questions().size() == 1);
    CHECK(bed.jobs().size() == 3);
}

TEST_CASE("job wait tells how far a job is, as the command that began it would") {
    BusBed bed;
    bed.attach("/dev/one", bed.createStore());
    REQUIRE(runCli({"create", "one", "--name", "old"}).code == 0);
    REQUIRE(runCli({"rollback", "old", "--yes"}).code == 0);
    const std::string number = std::to_string(bed.jobs().size());
    Running running(bed, {"job", "wait", number, "--progress=json"});
    REQUIRE(running.waitForErrorLines(1));
    bed.machine.copyBack(1, 1000);
    REQUIRE(runCli({"origin", "list"}).code == 0);
    REQUIRE(running.waitForErrorLines(2));
    bed.machine.endRollback(1);
    const CliResult& result = running.end();
    INFO(result.output << result.errors);
    CHECK(result.code == 0);
    CHECK_THAT(result.output, Contains("copy-back"));
    std::istringstream lines(result.errors);
    std::vector<json> told;
    for (std::string line; std::getline(lines, line);)
        told.push_back(json::parse(line));
    // A line when something is new; how fast it goes is with each reading.
    REQUIRE(told.size() >= 3);
    for (const auto& line : told)
        CHECK(line.at("operation") == "copy-back");
    CHECK(told[0].at("state") == "running");
    CHECK(told[0].at("done_bytes") == 32 * 4096);
    CHECK(told[1].at("done_bytes") == 1000 * 4096);
    CHECK(told.back().at("state") == "done");
    CHECK(told.back().at("progress") == 1.0);
}

TEST_CASE("a job that is forgotten while it is waited for is told as that") {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    bed.directory.write("cowsnapd.conf", "{ \"finished_jobs\": 1 }");
    bed.call(kRoot, kManager, "Reload", nullptr);
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto first = bed.beginCreate(origin.path, "first");
    REQUIRE(bed.machine.waitUntilHeld(1));
    Running running(bed, {"job", "wait", "3", "--progress=json"});
    REQUIRE(running.waitForErrorLines(1));
    running.stop();
    bed.machine.letGo();
    bed.finish(*first);
    bed.createSnapshots({{origin, "second"}});
    running.goOn();
    const CliResult& result = running.end();
    CHECK(result.code == 1);
    CHECK_THAT(result.errors, Contains("the job 3 is not there any more") &&
                                  Contains("finished_jobs in cowsnapd.conf"));
}
