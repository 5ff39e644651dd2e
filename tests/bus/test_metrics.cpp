// SPDX-License-Identifier: GPL-2.0-or-later
// Metrics: what Prometheus reads is well formed and is what the state is.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <map>
#include <regex>
#include <sstream>

#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "model/metrics.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// The samples by name and labels. Fails for what is not in the format, has no help or type before
/// it, or is there twice.
std::map<std::string, std::uint64_t> samplesIn(const std::string& text) {
    static const std::regex sample(
        R"re((([a-z_]+)\{[a-z_]+="(?:[^"\\\n]|\\["\\n])*"(?:,[a-z_]+="(?:[^"\\\n]|\\["\\n])*")*\}) ([0-9]+))re");
    static const std::regex comment(R"re(# (HELP|TYPE) ([a-z_]+) (.+))re");
    std::map<std::string, std::uint64_t> samples;
    std::map<std::string, int> told;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) {
        INFO(line);
        std::smatch match;
        if (std::regex_match(line, match, comment)) {
            const bool is_type = match[1] == "TYPE";
            CHECK(told[match[2]]++ == (is_type ? 1 : 0));
            if (is_type)
                CHECK((match[3] == "gauge" || match[3] == "counter"));
            continue;
        }
        REQUIRE(std::regex_match(line, match, sample));
        CHECK(told[match[2]] == 2);
        CHECK(samples.emplace(match[1], std::stoull(match[3])).second);
    }
    CHECK(text.ends_with('\n'));
    return samples;
}

}  // namespace

TEST_CASE("metrics say what the state is") {
    EngineBed bed;
    CHECK(samplesIn(metricsText(bed.engine->stores())).empty());
    const Uuid store = bed.engine->createStore({"/dev/store"}, "a \"b\" \\", {});
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const Uuid two = bed.engine->attach("/dev/two", store, "");
    for (const char* const name : {"a", "b", "c"})
        bed.engine->createSnapshots({{one, name}}, {});
    bed.machine.writtenUnseen(1);
    bed.engine->createSnapshots({{one, "d"}}, {});
    bed.machine.useSegments(50);
    bed.machine.countBlocks(5, 7, 11);
    bed.refresh();
    const std::string labels = "store=\"a \\\"b\\\" \\\\\"";
    const std::string of_store = "{" + labels + ",store_uuid=\"" + store.dashed() + "\"}";
    const auto of_origin = [&](const std::string& name, const Uuid& uuid) {
        return labels + ",origin=\"" + name + "\",origin_uuid=\"" + uuid.dashed() + "\"";
    };
    const std::string of_one = of_origin("one", one);
    const auto samples = samplesIn(metricsText(bed.engine->stores()));
    const auto value = [&](const std::string& name) {
        INFO(name);
        REQUIRE(samples.contains(name));
        return samples.at(name);
    };
    CHECK(value("cowsnap_store_up" + of_store) == 1);
    // 128 MiB in segments of 1 MiB, one of which is the store's own; less what the daemon leaves
    // at the end of a device.
    const std::uint64_t size = value("cowsnap_store_size_bytes" + of_store);
    CHECK((size > 120 << 20 && size < 128 << 20 && size % (1 << 20) == 0));
    CHECK(value("cowsnap_store_free_bytes" + of_store) == size - (50 << 20));
    const std::uint64_t low_water = value("cowsnap_store_low_water_bytes" + of_store);
    CHECK((low_water > 0 && low_water < size / 2));
    CHECK(value("cowsnap_store_damaged_bytes" + of_store) == 0);
    CHECK(value("cowsnap_store_origins" + of_store) == 2);
    CHECK(value("cowsnap_origin_attached{" + of_one + "}") == 1);
    CHECK(value("cowsnap_origin_size_bytes{" + of_one + "}") == 100 << 20);
    CHECK(value("cowsnap_origin_epoch_preserved_bytes{" + of_one + "}") == 5 * 4096);
    CHECK(value("cowsnap_origin_waiting_bios{" + of_one + "}") == 7);
    CHECK(value("cowsnap_origin_read_bytes_total{" + of_one + "}") == 11 * 4096);
    CHECK(value("cowsnap_origin_snapshots{" + of_one + ",state=\"stale\"}") == 3);
    CHECK(value("cowsnap_origin_snapshots{" + of_one + ",state=\"active\"}") == 1);
    CHECK(value("cowsnap_origin_snapshots{" + of_one + ",state=\"lost\"}") == 0);
    CHECK(value("cowsnap_origin_newest_snapshot_timestamp_seconds{" + of_one + "}") == 1700000000);
    CHECK(value("cowsnap_origin_oldest_snapshot_timestamp_seconds{" + of_one + "}") == 1700000000);
    CHECK_FALSE(samples.contains("cowsnap_origin_newest_snapshot_timestamp_seconds{" +
                                 of_origin("two", two) + "}"));

    // What is not known is left out, not zero.
    bed.machine.remove("cowsnap-two", Visibility::Visible);
    bed.refresh();
    const auto later = samplesIn(metricsText(bed.engine->stores()));
    CHECK(later.at("cowsnap_origin_attached{" + of_origin("two", two) + "}") == 0);
    CHECK_FALSE(later.contains("cowsnap_origin_waiting_bios{" + of_origin("two", two) + "}"));
    bed.engine.reset();
    bed.machine.reboot();
    bed.machine.removeDisk("/dev/store");
    bed.restart();
    const auto down = samplesIn(metricsText(bed.engine->stores()));
    const std::string state_is = "cowsnap_store_state" + of_store.substr(0, of_store.size() - 1);
    CHECK(down == std::map<std::string, std::uint64_t>{{"cowsnap_store_up" + of_store, 0},
                                                       {state_is + ",state=\"active\"}", 0},
                                                       {state_is + ",state=\"full\"}", 0},
                                                       {state_is + ",state=\"failed\"}", 0},
                                                       {state_is + ",state=\"unusable\"}", 1}});
}

namespace {

/// Samples of one store, and of one origin, by name and the labels that are not their names.
class Look {
public:
    explicit Look(const EngineBed& bed) : samples_(samplesIn(metricsText(bed.engine->stores()))) {}

    std::uint64_t of(const std::string& name, const std::string& state = {}) const {
        const std::string label = state.empty() ? "" : "state=\"" + state + "\"";
        std::vector<std::uint64_t> found;
        for (const auto& [sample, value] : samples_)
            if (sample.starts_with(name + "{") && sample.find(label) != std::string::npos)
                found.push_back(value);
        INFO(name << " " << state);
        REQUIRE(found.size() == 1);
        return found.front();
    }
    /// The state that has a 1; there must be one.
    std::string stateOf(const std::string& name) const {
        static const std::regex state(R"re(.*state="([a-z]+)"\})re");
        std::vector<std::string> ones;
        for (const auto& [sample, value] : samples_) {
            std::smatch match;
            if (value == 1 && sample.starts_with(name + "{") &&
                std::regex_match(sample, match, state))
                ones.push_back(match[1]);
        }
        INFO(name);
        REQUIRE(ones.size() == 1);
        return ones.front();
    }
    bool has(const std::string& name) const {
        return std::any_of(samples_.begin(), samples_.end(), [&](const auto& sample) {
            return sample.first.starts_with(name + "{");
        });
    }

private:
    std::map<std::string, std::uint64_t> samples_;
};

}  // namespace

TEST_CASE("metrics tell a store that is full, fails or is damaged from one that is well") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.engine->attach("/dev/one", store, "");
    const auto look = [&] {
        bed.refresh();
        return Look(bed);
    };
    CHECK(look().stateOf("cowsnap_store_state") == "active");
    CHECK(look().of("cowsnap_store_up") == 1);
    CHECK(look().of("cowsnap_store_metadata_damaged") == 0);
    CHECK(look().of("cowsnap_store_autoextend_failed") == 0);
    SECTION("full: nothing is lost yet") {
        bed.machine.setFull(true);
        CHECK(look().stateOf("cowsnap_store_state") == "full");
        CHECK(look().of("cowsnap_store_up") == 1);
        bed.machine.setFull(false);
        CHECK(look().stateOf("cowsnap_store_state") == "active");
    }
    SECTION("failed: it is not up, although its state can be read") {
        bed.machine.failStore();
        CHECK(look().stateOf("cowsnap_store_state") == "failed");
        CHECK(look().of("cowsnap_store_up") == 0);
    }
    SECTION("a copy of the metadata is damaged") {
        bed.engine.reset();
        bed.machine.damageSlot(0);
        bed.restart();
        CHECK(Look(bed).of("cowsnap_store_metadata_damaged") == 1);
        CHECK(Look(bed).of("cowsnap_store_up") == 1);
    }
    SECTION("it gets full and cannot be extended") {
        bed.machine.addDisk("/dev/reserve", 4 * kStoreSectors, "reserve");
        AutoextendChange change;
        change.add_spares = {"/dev/reserve"};
        bed.engine->changeAutoextend(store, change);
        bed.machine.removeDisk("/dev/reserve");
        bed.machine.useSegments(110);
        bed.refresh();
        CHECK_THROWS_AS(bed.engine->autoextend(store), Error);
        CHECK(look().of("cowsnap_store_autoextend_failed") == 1);
    }
}

TEST_CASE("what falls is no counter, and what counts does not fall") {
    EngineBed bed;
    const Uuid one = bed.engine->attach("/dev/one", bed.makeStore(), "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.machine.countBlocks(5, 0, 11);
    bed.refresh();
    CHECK(Look(bed).of("cowsnap_origin_epoch_preserved_bytes") == 5 * 4096);
    bed.engine->createSnapshots({{one, "b"}}, {});
    CHECK(Look(bed).of("cowsnap_origin_epoch_preserved_bytes") == 0);
    CHECK(Look(bed).of("cowsnap_origin_read_bytes_total") == 11 * 4096);
    const std::string text = metricsText(bed.engine->stores());
    CHECK_THAT(text, Contains("# TYPE cowsnap_origin_epoch_preserved_bytes gauge\n"));
    CHECK_THAT(text, Contains("# TYPE cowsnap_origin_read_bytes_total counter\n"));
}

TEST_CASE("metrics tell what becomes of a rollback") {
    EngineBed bed;
    const Uuid one = bed.engine->attach("/dev/one", bed.makeStore(), "");
    const Uuid old = bed.engine->createSnapshots({{one, "old"}}, {}).front();
    CHECK(Look(bed).stateOf("cowsnap_origin_rollback") == "none");
    CHECK_FALSE(Look(bed).has("cowsnap_origin_rollback_done_bytes"));
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    bed.engine->rollback(old, {"", true});
    CHECK(Look(bed).stateOf("cowsnap_origin_rollback") == "scheduled");
    bed.machine.setUser("/dev/mapper/cowsnap-one", "");
    bed.reboot();
    bed.machine.copyBack(1, 100);
    bed.refresh();
    CHECK(Look(bed).stateOf("cowsnap_origin_rollback") == "running");
    CHECK(Look(bed).of("cowsnap_origin_rollback_done_bytes") == 100 * 4096);
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    bed.refresh();
    CHECK(Look(bed).stateOf("cowsnap_origin_rollback") == "waiting");
}

TEST_CASE("everybody may read the metrics, and repeated reading changes nothing") {
    BusBed bed;
    bed.createStore();
    const auto names = bed.machine.mappedNames();
    const CliResult mine = runCli({"metrics"});
    CHECK(mine.code == 0);
    const auto samples = samplesIn(mine.output);
    CHECK(samples.at("cowsnap_jobs{state=\"running\"}") == 0);
    CHECK(samples.at("cowsnap_jobs_ended_total{state=\"done\"}") == 1);  // making the store
    CHECK(samples.at("cowsnap_jobs_ended_total{state=\"failed\"}") == 0);
    CHECK(std::any_of(samples.begin(), samples.end(), [](const auto& sample) {
        return sample.first.starts_with("cowsnap_store_up{");
    }));
    CHECK(nlohmann::json::parse(runCli({"metrics", "--json"}).output).at("metrics") == mine.output);
    if (::geteuid() == 0) {
        constexpr uid_t nobody = 65534;
        const CliResult others = runCli({"metrics"}, nobody);
        CHECK(others.code == 0);
        CHECK(others.output == mine.output);
    }
    CHECK(bed.machine.mappedNames() == names);
}
