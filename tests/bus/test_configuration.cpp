// SPDX-License-Identifier: GPL-2.0-or-later
// The configuration: what is refused, and where; reading it again; the example that is installed.
#include <spdlog/spdlog.h>

#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>

#include "bus_bed.h"
#include "config/configuration.h"
#include "config/key_lines.h"
#include "cowsnap_dm.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

std::string refusalOfText(const std::string& text) {
    const Refusal refusal = refusalOf([&] { parseConfiguration(text, "f.conf"); });
    CHECK(refusal.kind == ErrorKind::InvalidArgument);
    return refusal.message;
}

std::string exampleText() {
    std::ifstream file(COWSNAP_EXAMPLE_CONFIGURATION);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// The level of the log is everybody's: it is put back.
struct LevelKept {
    const spdlog::level::level_enum level = spdlog::get_level();
    ~LevelKept() { spdlog::set_level(level); }
};

}  // namespace

TEST_CASE("the example has every key, with the value that holds without it") {
    const std::string text = exampleText();
    CHECK(parseConfiguration(text, "cowsnapd.conf") == Configuration());
    std::vector<std::string> named;
    for (const auto& [name, line] : keyLines(text, "cowsnapd.conf"))
        named.push_back(name);
    auto known = configurationKeys();
    std::sort(known.begin(), known.end());
    CHECK(named == known);
}

TEST_CASE("each key is taken") {
    const std::string each_key =
        R"({ "log_level": "debug", "space_warnings_percent": [50], "refresh_interval_seconds": 3,
             "event_interval_ms": 7, "finished_jobs": 5, "finished_jobs_seconds": 11,
             "request_ids": 13, "request_ids_seconds": 17, "autoextend": false,
             "autoextend_at_percent": 61, "autoextend_by_percent": 33, "metadata_backups": 4 })";
    const Configuration read = parseConfiguration(each_key, "f.conf");
    using std::chrono::seconds;
    CHECK(read.log_level == "debug");
    CHECK(read.space_warnings_percent == std::vector<unsigned>{50});
    CHECK(read.refresh_interval == seconds(3));
    CHECK(read.event_interval == std::chrono::milliseconds(7));
    CHECK(read.finished_jobs == 5);
    CHECK(read.finished_jobs_age == seconds(11));
    CHECK(read.request_ids == 13);
    CHECK(read.request_ids_age == seconds(17));
    CHECK_FALSE(read.autoextend);
    CHECK(read.autoextend_at_percent == 61);
    CHECK(read.autoextend_by_percent == 33);
    CHECK(read.metadata_backups == 4);
    for (const auto& key : configurationKeys()) {
        INFO(key);
        CHECK(each_key.find("\"" + key + "\"") != std::string::npos);
    }
    CHECK(parseConfiguration("{}", "f.conf") == Configuration());
}

TEST_CASE("what is wrong in a configuration is refused with file, line and key") {
    CHECK_THAT(
        refusalOfText("{\n  // text\n\n  \"log_levle\": \"info\"\n}"),
        Catch::StartsWith("f.conf:4: there is no key \"log_levle\"; there are: log_level, "));
    CHECK_THAT(refusalOfText("{ \"finished_jobs\": 3,\n\"log_level\":\n\n \"loud\" }"),
               Catch::StartsWith("f.conf:2: \"log_level\" is \"loud\", expected one of: debug"));
    CHECK_THAT(refusalOfText("{ \"finished_jobs\": 3,\n\"finished_jobs\": 4 }"),
               Contains("f.conf:2: the key \"finished_jobs\" is there twice"));
    CHECK_THAT(refusalOfText("{ \"finished_jobs\": 3\n \"request_ids\": 4 }"),
               Contains("f.conf:2: ") && Contains("syntax error"));
    CHECK_THAT(refusalOfText(""), Contains("f.conf:1: "));
    CHECK_THAT(refusalOfText("\n[]"), Contains("f.conf:2: expected an object"));
    CHECK_THAT(refusalOfText("7"), Contains("f.conf:1: expected an object"));
    for (const char* const wrong : {"-1", "1.5", "\"5\"", "null", "0", "86401", "[1]", "true"}) {
        INFO(wrong);
        CHECK_THAT(refusalOfText(fmt::format("{{\n\"refresh_interval_seconds\": {}}}", wrong)),
                   Contains("f.conf:2: \"refresh_interval_seconds\" is ") &&
                       Contains("a whole number from 1 to 86400"));
    }
    for (const char* const key :
         {"finished_jobs", "finished_jobs_seconds", "request_ids", "request_ids_seconds"}) {
        CHECK_THAT(refusalOfText(fmt::format("{{\"{}\": 0}}", key)),
                   Contains(fmt::format("f.conf:1: \"{}\" is 0, expected", key)) &&
                       Contains("a whole number from 1 to"));
        CHECK_NOTHROW(parseConfiguration(fmt::format("{{\"{}\": 1}}", key), "f.conf"));
    }
    for (const char* const wrong : {"80", "[0]", "[101]", "[90, 80]", "[80, 80]", "[\"80\"]"}) {
        INFO(wrong);
        CHECK_THAT(refusalOfText(fmt::format("{{\"space_warnings_percent\": {}}}", wrong)),
                   Contains("expected a list of whole numbers"));
    }
}

TEST_CASE("the configuration is read again, wholly or not at all") {
    const LevelKept kept;
    BusBed bed;
    const std::string store = bed.createStore();
    const auto level = [&] {
        return std::get<std::string>(bed.properties(kRoot, kManager).at("LogLevel"));
    };
    CHECK(level() == "info");
    bed.machine.useSegments(70);
    bed.directory.write("cowsnapd.conf",
                        "{ \"space_warnings_percent\": [50], \"finished_jobs\": 2,\n"
                        "  \"log_level\": \"error\", \"odd\": 1 }");
    const CallFailure refused = bed.failureOfCall(kRoot, kManager, "Reload", nullptr);
    CHECK(refused.name == "org.cowsnap1.Error.InvalidArgument");
    CHECK_THAT(refused.message, Contains("cowsnapd.conf:2: there is no key \"odd\""));
    CHECK(level() == "info");
    bed.attach("/dev/one", store);
    bed.attach("/dev/two", store);
    CHECK(bed.jobs().size() == 3);  // nothing of it took effect

    bed.directory.write("cowsnapd.conf",
                        "{ \"space_warnings_percent\": [50], \"finished_jobs\": 2,\n"
                        "  \"log_level\": \"error\" }");
    SECTION("by the method") {
        bed.call(kRoot, kManager, "Reload", nullptr);
        CHECK(level() == "error");
    }
    SECTION("by the signal") {
        bed.reloadAsOnSignal();
        bed.signalsUntil("PropertiesChanged");
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (level() != "error" && std::chrono::steady_clock::now() < deadline)
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
        CHECK(level() == "error");
    }
    CHECK(spdlog::get_level() == spdlog::level::err);
    CHECK(bed.jobs().size() == 2);
    bed.call(kRoot, kManager, "Refresh", nullptr);
    CHECK(bed.signalsUntil("SpaceWarning").back().path == store);
    // Without the file all is as by default.
    std::filesystem::remove(bed.configuration);
    bed.call(kRoot, kManager, "Reload", nullptr);
    CHECK(level() == "info");
}

TEST_CASE("the level of the log is changed while the daemon runs") {
    const LevelKept kept;
    BusBed bed;
    const auto set = [&](const std::string& level) {
        return bed.failureOfCall(kRoot, kManager, "SetLogLevel",
                                 [&](Message& message) { message.append(Value(level)); });
    };
    CHECK(set("warning").name.empty());
    CHECK(spdlog::get_level() == spdlog::level::warn);
    CHECK(bed.signalsUntil("PropertiesChanged").back().path == kRoot);
    CHECK(set("loud").name == "org.cowsnap1.Error.InvalidArgument");
    CHECK_THAT(set("loud").message, Contains("debug, info, warning, error"));
    CHECK(spdlog::get_level() == spdlog::level::warn);
}

TEST_CASE("a daemon does not start with a wrong configuration") {
    BusBed bed;
    bed.stopDaemon();
    bed.directory.write("cowsnapd.conf", "{\n\"log_level\": 1 }");
    CHECK_THROWS_WITH(bed.startDaemon(), Contains("cowsnapd.conf:2: \"log_level\" is 1"));
    bed.directory.write("cowsnapd.conf", "{ \"log_level\": \"error\" }");
    bed.startDaemon();
    CHECK(std::get<std::string>(bed.properties(kRoot, kManager).at("LogLevel")) == "error");
}

TEST_CASE("events that come fast are told together") {
    BusBed bed;
    bed.stopDaemon();
    bed.directory.write("cowsnapd.conf", "{ \"event_interval_ms\": 3000 }");
    bed.startDaemon();
    const std::string store = bed.createStore();
    bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
    bed.signalsUntil("Event");
    const auto began = std::chrono::steady_clock::now();
    for (int i = 0; i < 20; ++i) {
        bed.machine.useSegments(static_cast<std::uint64_t>(i) + 1);
        bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    const auto signals = bed.signalsUntil("Event");
    CHECK(std::chrono::steady_clock::now() - began > std::chrono::milliseconds(1500));
    CHECK(std::count_if(signals.begin(), signals.end(), [&](const SeenSignal& signal) {
              return signal.member == "PropertiesChanged" && signal.path == store;
          }) <= 1);
}
