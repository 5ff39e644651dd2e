// SPDX-License-Identifier: GPL-2.0-or-later
// How snapd-cli reads its words.
#include <catch2/catch.hpp>

#include <algorithm>
#include <future>
#include <set>
#include <sstream>

#include "bus_bed.h"
#include "cli_checks.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

TEST_CASE("an option takes one word, and what stands behind that is what the command is about") {
    BusBed bed;
    for (const char* const disk : {"/dev/third", "/dev/fourth"})
        bed.machine.addDisk(disk, kStoreSectors, std::string(disk) + "-serial");
    checkDone(runCli({"store", "create", "--spare", "/dev/spare", "/dev/store"}), "created");
    checkDone(runCli({"show", "-o", "devices,spares", "--no-headings", "main"}),
              "/dev/store\n/dev/spare\n");
    checkDone(runCli({"show", "-o", "devices", "main"}), "/dev/store\n");
    checkDone(runCli({"show", "--columns", "spares", "-o", "name", "main"}), "main\n");
    checkDone(runCli({"store", "modify", "--add-spare", "/dev/third", "--add-spare", "/dev/fourth",
                      "main"}),
              "changed the store main");
    checkDone(runCli({"show", "-o", "spares", "main"}), "/dev/spare,/dev/third,/dev/fourth\n");
    checkDone(runCli({"store", "modify", "--remove-spare", "/dev/third", "main"}), "changed");
    checkDone(runCli({"show", "-o", "spares", "main"}), "/dev/spare,/dev/fourth\n");
    checkDone(runCli({"create", "--tag", "x", "--hold", "h", "/dev/one", "--name", "a"}),
              "created a");
    checkDone(runCli({"modify", "--untag", "x", "--tag", "y", "a"}), "modified a");
    checkDone(runCli({"prune", "--keep", "last=1", "--tag", "y", "one", "--yes"}),
              "nothing to delete");
    checkDone(runCli({"list", "-o", "name,tags,holds", "--no-headings", "one"}), "a  y  h\n");
}

TEST_CASE("commands that are advised have their names as the shell wants them") {
    BusBed bed;
    const CliResult made =
        runCli({"store", "create", "--spare", "/dev/spare", "/dev/store", "--name", "of backups"});
    checkDone(made, "\"snapd-cli store modify 'of backups' --no-autoextend\"");
    checkDone(runCli({"origin", "attach", "/dev/one", "--name", "my data"}), "attached");
    checkDone(runCli({"create", "my data", "--name", "a"}), "created");
    checkDone(runCli({"rollback", "a", "--yes"}), "(snapd-cli show 'my data')");
    checkFailed(runCli({"store", "check", "/dev/my disk"}), 3,
                "cowsnap-store check '/dev/my disk'");
    // Both copies of the metadata have all of that, so that the start has nothing to write.
    for (const char* const description : {"one", "two"})
        checkDone(runCli({"modify", "a", "--description", description}), "");
    bed.stopDaemon();
    bed.machine.damageSlot(0);
    bed.startDaemon();
    const CliResult listed = runCli({"store", "list"});
    CHECK_THAT(listed.errors, Contains("\"snapd-cli store check 'of backups'\" tells more"));
}

TEST_CASE("a number that is negative or too large is refused, and not taken for another one") {
    BusBed bed;
    for (const auto& words : std::vector<std::vector<std::string>>{
             {"store", "create", "/dev/store", "--max-size"},
             {"store", "create", "/dev/store", "--full-wait-ms"},
             {"store", "create", "--volume-group", "vg", "--volume-size"},
             {"store", "modify", "main", "--max-size"},
             {"watch", "--count"},
             {"watch", "--interval"}})
        for (const auto& [value, why] : std::vector<std::pair<std::string, std::string>>{
                 {"-5", "negative"},
                 {"-18446744073709551615", "negative"},
                 {"99999999999999999999", "too large"}}) {
            INFO(words.back() << " " << value);
            std::vector<std::string> apart = words;
            apart.push_back(value);
            checkFailed(runCli(apart), 2, why);
            std::vector<std::string> joined = words;
            joined.back() += "=" + value;
            checkFailed(runCli(joined), 2, why);
        }
    checkDone(runCli({"store", "create", "/dev/store", "--max-size", "5G"}), "created");
    checkDone(runCli({"show", "main", "-o", "autoextend_max", "--bytes"}), "5368709120\n");
}

TEST_CASE("the last change of modify is not waited for if nobody wants to wait") {
    BusBed bed;
    bed.createStore();
    checkDone(runCli({"create", "/dev/one", "--name", "a"}), "created");
    checkDone(runCli({"modify", "a", "--description", "why", "--tag", "x", "--no-wait"}),
              "begun as job 5: \"snapd-cli job wait 5\" waits for it");
    checkDone(runCli({"job", "wait", "5"}), "tag");
    checkDone(runCli({"list", "-o", "description,tags", "--no-headings"}), "why  x\n");
    checkDone(runCli({"modify", "a", "--untag", "x", "--dry-run"}), "it can be done");
}

TEST_CASE("snapshots that are made in the same second without a name get different ones") {
    BusBed bed;
    checkDone(runCli({"store", "create", "/dev/store", "--name", "main"}), "created");
    checkDone(runCli({"origin", "attach", "/dev/one"}), "attached");
    // Two at a time, until both looked at the clock in one second: a busy machine takes one for
    // each.
    constexpr std::size_t kMostPairs = 30;
    const auto create = [] { return runCli({"create", "one"}); };
    std::set<std::string> names;
    const auto is_numbered = [](const std::string& name) { return name.ends_with("-2"); };
    for (std::size_t pairs = 1; pairs <= kMostPairs; ++pairs) {
        std::future<CliResult> other = std::async(std::launch::async, create);
        checkDone(create(), "created one-");
        checkDone(other.get(), "created one-");
        const CliResult listed = runCli({"list", "-o", "name", "--no-headings"});
        std::istringstream lines(listed.output);
        names.clear();
        for (std::string line; std::getline(lines, line);)
            names.insert(line);
        INFO(listed.output);
        REQUIRE(names.size() == 2 * pairs);
        if (std::any_of(names.begin(), names.end(), is_numbered))
            break;
    }
    CHECK(std::any_of(names.begin(), names.end(), is_numbered));
    // A name that was chosen is not changed.
    checkDone(runCli({"create", "one", "--name", "chosen"}), "created chosen");
    const CliResult taken = runCli({"create", "one", "--name", "chosen"});
    CHECK(taken.code == 1);
    CHECK_THAT(taken.errors, Contains("chosen"));
}

TEST_CASE("a column that there is not is refused before anything is changed") {
    BusBed bed;
    const auto refused = [](const std::vector<std::string>& words) {
        const CliResult result = runCli(words);
        CHECK(result.code == 2);
        CHECK_THAT(result.output, Contains("there is no column"));
    };
    refused({"store", "create", "/dev/store", "--json", "-o", "odd"});
    CHECK(bed.machine.mappedNames().empty());
    bed.createStore();
    refused({"create", "/dev/one", "--json", "-o", "odd"});
    refused({"set", "create", "/dev/one=a", "--json", "-o", "odd"});
    refused({"origin", "attach", "/dev/one", "--json", "-o", "odd"});
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-one"));
    checkDone(runCli({"create", "/dev/one", "--name", "a", "--expires", "2020-01-01"}), "");
    refused({"prune", "--yes", "--json", "-o", "odd"});
    CHECK(bed.machine.snapshotIds().size() == 1);
}

TEST_CASE("what is not waited for cannot be activated, and what was attached for it is told") {
    BusBed bed;
    bed.createStore();
    checkFailed(runCli({"create", "/dev/one", "--activate", "--no-wait"}), 2, "--activate");
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-one"));
    const CliResult begun = runCli({"create", "/dev/one", "--no-wait"});
    checkDone(begun, "begun as job");
    CHECK_THAT(begun.errors, Contains("in place of the device"));
}

TEST_CASE("modify checks all that it would change") {
    BusBed bed;
    bed.createStore();
    checkDone(runCli({"create", "/dev/one", "--name", "a"}), "");
    checkFailed(runCli({"modify", "a", "--description", "x", "--untag", "no", "--dry-run"}), 3,
                "has no tag");
    checkDone(runCli({"modify", "a", "--description", "x", "--tag", "no", "--dry-run"}),
              "nothing was changed: it can be done");
}
