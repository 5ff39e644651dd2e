// SPDX-License-Identifier: GPL-2.0-or-later
// What clients see of mapped devices that someone else removed, or gave other tables.
#include <catch2/catch.hpp>

#include <sstream>

#include "bus_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// What stands behind a metric of the origin "one" (and of this state); empty if it is not there.
std::string ofOne(const std::string& metrics, const std::string& name,
                  const std::string& state = {}) {
    std::istringstream lines(metrics);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with(name) && line.find("origin=\"one\"") != std::string::npos &&
            (state.empty() || line.find("state=\"" + state + "\"") != std::string::npos))
            return line.substr(line.rfind(' '));
    return {};
}

}  // namespace

TEST_CASE("clients see which origin was changed, and that its snapshots cannot be read") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const ObjectPath other{bed.attach("/dev/two", store)};
    const auto snapshots = bed.createSnapshots({{{origin}, "a"}, {other, "b"}});
    const auto property = [&](const std::string& path, const std::string& interface,
                              const std::string& name) {
        return std::get<std::string>(bed.properties(path, "org.cowsnap1." + interface).at(name));
    };
    const auto refresh = [&] { bed.call(kRoot, kManager, "Refresh", nullptr); };
    CHECK(property(origin, "Origin", "State") == "attached");
    bed.machine.reload(
        "cowsnap-one",
        {{0, kOriginSectors, "linear", bed.machine.describe("/dev/one").number.text() + " 0"}},
        Visibility::Visible);
    refresh();
    CHECK(property(origin, "Origin", "State") == "changed");
    CHECK_THAT(property(origin, "Origin", "Problem"), Contains("dmsetup remove"));
    CHECK(property(origin, "Origin", "Device").empty());
    CHECK(property(store, "Store", "State") == "active");
    CHECK(property(snapshots[0].path, "Snapshot", "State") == "unavailable");
    CHECK(property(snapshots[1].path, "Snapshot", "State") == "active");
    CHECK(ofOne(runCli({"metrics"}).output, "cowsnap_origin_attached{") == " 0");
    CHECK(ofOne(runCli({"metrics"}).output, "cowsnap_origin_snapshots{", "unavailable") == " 1");
    CHECK(ofOne(runCli({"metrics"}).output, "cowsnap_origin_snapshots{", "active") == " 0");
    bed.machine.remove("cowsnap-one", Visibility::Visible);
    refresh();
    CHECK(property(origin, "Origin", "State") == "missing");
    CHECK_THAT(property(origin, "Origin", "Problem"), Contains("origin attach /dev/one"));
    // what the problem says to type
    const CliResult attached = runCli({"origin", "attach", "/dev/one"});
    INFO(attached.errors);
    CHECK(attached.code == 0);
    CHECK(property(origin, "Origin", "State") == "attached");
    CHECK(property(snapshots[0].path, "Snapshot", "State") == "active");
}
