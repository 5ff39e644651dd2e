// SPDX-License-Identifier: GPL-2.0-or-later
// snapd-cli --json: the envelope, and the keys as the manual page promises them.
#include <fmt/format.h>
#include <catch2/catch.hpp>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <set>
#include <sstream>

#include "bus_bed.h"
#include "cli_checks.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;
using nlohmann::json;

namespace {

/// The columns that a command's help names.
std::set<std::string> columnsOf(std::vector<std::string> words) {
    words.push_back("--help");
    const std::string help = runCli(words).output;
    const auto begin = help.find("Columns:");
    REQUIRE(begin != std::string::npos);
    std::istringstream lines(help.substr(begin));
    std::string line;
    std::getline(lines, line);
    std::getline(lines, line);
    std::set<std::string> columns;
    std::istringstream names(line);
    for (std::string name; names >> name;)
        columns.insert(name.substr(0, name.find(',')));
    return columns;
}

const std::set<std::string> kSizes{"size",      "used",          "free",           "segment",
                                   "low_water", "damaged",       "autoextend_max", "preserved",
                                   "read",      "rollback_done", "overlay",        "done"};

/// The key that a column has in JSON.
std::string keyOf(const std::string& column) {
    if (column == "rate")
        return "bytes_per_second";
    return kSizes.contains(column) ? column + "_bytes" : column;
}

std::string manual() {
    std::ifstream file(COWSNAP_PACKAGING "/man/snapd-cli.txt");
    const std::string text{std::istreambuf_iterator<char>(file), {}};
    const auto begin = text.find("JSON OUTPUT\n");
    REQUIRE(begin != std::string::npos);
    return text.substr(begin, text.find("EXIT STATUS\n") - begin);
}

}  // namespace

TEST_CASE("JSON has a schema, in answers and in errors") {
    BusBed bed;
    CHECK(
        jsonOf(runCli({"store", "create", "/dev/store", "--json"})).at("stores").at(0).at("name") ==
        "main");
    CHECK(jsonOf(runCli({"origin", "attach", "/dev/one", "--json"}))
              .at("origins")
              .at(0)
              .at("device") == "/dev/mapper/cowsnap-one");
    const json created =
        jsonOf(runCli({"create", "one", "--name", "a", "--json"})).at("snapshots").at(0);
    CHECK(created.at("name") == "a");
    CHECK(created.at("origin") == "one");
    CHECK(created.at("used_bytes") == 8192);
    CHECK(created.at("writable") == false);
    CHECK(jsonOf(runCli({"list", "--json", "-o", "name"})).at("snapshots") ==
          json::parse("[{\"name\": \"a\"}]"));
    CHECK(jsonOf(runCli({"show", "a", "--json"})).at("snapshot").at("state") == "active");
    CHECK(jsonOf(runCli({"show", "one", "--json"})).at("origin").at("snapshots") == 1);
    CHECK(jsonOf(runCli({"store", "list", "--json"})).at("stores").at(0).at("devices") ==
          json::parse("[\"/dev/store\"]"));
    CHECK(jsonOf(runCli({"activate", "a", "--json"})).at("device") == "/dev/mapper/cowsnap-snap-a");
    CHECK(jsonOf(runCli({"deactivate", "a", "--json"})).at("snapshot") == "a");
    const CliResult refused = runCli({"delete", "a", "--json"});
    CHECK(refused.code == 4);
    CHECK(jsonOf(refused).at("error").at("name") == "NotConfirmed");
    const CliResult usage = runCli({"list", "--odd", "--json"});
    CHECK(usage.code == 2);
    CHECK(jsonOf(usage).at("error").at("name") == "Usage");
    const CliResult missing = runCli({"show", "x", "--json"});
    CHECK(missing.code == 3);
    CHECK(jsonOf(missing).at("error").at("name") == "NotFound");
    CHECK(jsonOf(runCli({"delete", "a", "--json", "--yes"})).at("deleted") ==
          json::parse("[\"a\"]"));
    CHECK(jsonOf(runCli({"origin", "detach", "one", "--json", "--yes"})).at("detached") ==
          json::parse("[\"one\"]"));
    CHECK(jsonOf(runCli({"store", "close", "main", "--json", "--yes"})).at("closed") == "main");
    CHECK(jsonOf(runCli({"list", "--json"})).at("snapshots").empty());
}

TEST_CASE("JSON has the columns as keys, with units, and the manual page says so") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store"}), "");
    checkDone(runCli({"create", "/dev/one", "--name", "a"}), "");
    const std::string said = manual();
    for (const auto& [words, key] : std::vector<std::pair<std::vector<std::string>, std::string>>{
             {{"list"}, "snapshots"},
             {{"origin", "list"}, "origins"},
             {{"store", "list"}, "stores"},
             {{"job", "list"}, "jobs"},
             {{"prune", "--keep", "last=1"}, "pruned"}}) {
        std::vector<std::string> as_json = words;
        as_json.insert(as_json.end(), {"--json", "--yes"});
        const json object = jsonOf(runCli(as_json)).at(key).at(0);
        CHECK_THAT(said, Contains("\"" + key + "\""));
        std::set<std::string> expected;
        const std::set<std::string> columns = columnsOf(words);
        for (const auto& column : columns) {
            expected.insert(keyOf(column));
            if (keyOf(column) != column)
                CHECK_THAT(said, Contains(keyOf(column)));
        }
        std::vector<std::string> chosen = as_json;
        chosen.insert(chosen.end(), {"-o", fmt::format("{}", fmt::join(columns, ","))});
        CHECK(jsonOf(runCli(chosen)).at(key).at(0) == object);  // -o goes by the columns
        std::set<std::string> keys;
        for (const auto& [name, value] : object.items())
            keys.insert(name);
        CHECK(keys == expected);
    }
    // A number that has no unit is not a size.
    const json store = jsonOf(runCli({"show", "main", "--json"})).at("store");
    for (const auto& [name, value] : store.items())
        if (value.is_number() && value.get<std::uint64_t>() >= (1 << 20) && name != "expected_full")
            CHECK_THAT(name, Catch::EndsWith("_bytes"));
    const json job = jsonOf(runCli({"job", "show", "3", "--json"})).at("job");
    const json snapshot = jsonOf(runCli({"show", "a", "--json"})).at("snapshot");
    std::string path = "/org/cowsnap1/snapshot/" + snapshot.at("uuid").get<std::string>();
    std::replace(path.begin(), path.end(), '-', '_');
    CHECK(job.at("results") == json{path});
    CHECK(job.at("objects").size() == 1);
    CHECK(job.at("done_bytes").is_number());
}
