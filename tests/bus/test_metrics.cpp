// SPDX-License-Identifier: GPL-2.0-or-later
// Metrics: what Prometheus reads is well formed and is what the state is.
#include <unistd.h>

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <map>
#include <regex>
#include <sstream>

#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "model/metrics.h"

using namespace cowsnap;
using namespace cowsnap::test;

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
    CHECK(value("cowsnap_store_size_bytes" + of_store) == bed.store().status.total_segments << 20);
    CHECK(value("cowsnap_store_free_bytes" + of_store) == (bed.store().status.total_segments - 50)
                                                              << 20);
    CHECK(value("cowsnap_store_low_water_bytes" + of_store) == bed.store().low_water_segments
                                                                   << 20);
    CHECK(value("cowsnap_store_damaged_bytes" + of_store) == 0);
    CHECK(value("cowsnap_store_origins" + of_store) == 2);
    CHECK(value("cowsnap_origin_attached{" + of_one + "}") == 1);
    CHECK(value("cowsnap_origin_preserved_bytes_total{" + of_one + "}") ==
          bed.store().origins.at(1).status.preserved_blocks * COWSNAP_BLOCK_BYTES);
    CHECK(value("cowsnap_origin_waiting_bios{" + of_one + "}") == 0);
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
    CHECK(down == std::map<std::string, std::uint64_t>{{"cowsnap_store_up" + of_store, 0}});
}

TEST_CASE("everybody may read the metrics, and repeated reading changes nothing") {
    BusBed bed;
    bed.createStore();
    const auto names = bed.machine.mappedNames();
    const CliResult mine = runCli({"metrics"});
    CHECK(mine.code == 0);
    CHECK(samplesIn(mine.output).size() == 6);
    CHECK(nlohmann::json::parse(runCli({"metrics", "--json"}).output).at("metrics") == mine.output);
    if (::geteuid() == 0) {
        constexpr uid_t nobody = 65534;
        const CliResult others = runCli({"metrics"}, nobody);
        CHECK(others.code == 0);
        CHECK(others.output == mine.output);
    }
    CHECK(bed.machine.mappedNames() == names);
}
