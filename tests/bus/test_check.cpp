// SPDX-License-Identifier: GPL-2.0-or-later
// store check, and what else says that something is damaged.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "engine_bed.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;
using nlohmann::json;

namespace {

struct CheckBed : BusBed {
    std::string store = createStore();
    ObjectPath one{attach("/dev/one", store)};
    ObjectPath two{attach("/dev/two", store)};

    CheckBed() { createSnapshots({{one, "a"}, {two, "b"}}); }

    void refreshed() { call(kRoot, kManager, "Refresh", nullptr); }
};

CliResult checked(const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"store", "check"};
    words.insert(words.end(), more.begin(), more.end());
    return runCli(words);
}

json findingsOf(const CliResult& result) {
    INFO(result.output << result.errors);
    return json::parse(result.output).at("findings");
}

/// As "dd if=/dev/zero" over the first block of a slot.
void blankSlot(FakeMachine& machine, unsigned slot) {
    constexpr std::uint64_t slot_bytes = kSlotSectors * kSectorBytes;
    const std::vector<std::byte> zeros(COWSNAP_BLOCK_BYTES);
    machine.write("/dev/store", kSlotBlock * COWSNAP_BLOCK_BYTES + slot * slot_bytes, zeros);
}

}  // namespace

TEST_CASE("a store that nothing is wrong with says so, and how all of it is checked") {
    CheckBed bed;
    for (const std::string& wanted : std::vector<std::string>{"main", "/dev/store", ""}) {
        const CliResult result = wanted.empty() ? checked() : checked({wanted});
        INFO(wanted << result.errors);
        CHECK(result.code == 0);
        CHECK(result.output ==
              "main: no damage is known. When it is closed all of it is checked with "
              "\"cowsnap-store check /dev/store\"\n");
    }
    CHECK(findingsOf(checked({"--json"})) == json::array());
}

TEST_CASE("what the kernel knows to be damaged is named, and the exit code is 8") {
    CheckBed bed;
    bed.machine.lose(1);
    const CliResult lost = checked({"main", "--json"});
    CHECK(lost.code == 8);
    REQUIRE(findingsOf(lost).size() == 1);
    const json finding = findingsOf(lost).at(0);
    CHECK(finding.at("name") == "a");
    CHECK(finding.at("store") == "main");
    CHECK(finding.at("damage") == true);
    CHECK_THAT(finding.at("finding").get<std::string>(), Contains("missed writes"));
    CHECK_THAT(finding.at("object").get<std::string>(), Contains("/org/cowsnap1/snapshot/"));
    const CliResult text = checked();
    CHECK(text.code == 8);
    CHECK_THAT(text.output, Contains("cowsnap-store check /dev/store"));
    CHECK(text.errors.empty());
}

TEST_CASE("what is not exact, or not there, is no damage") {
    CheckBed bed;
    bed.machine.writtenUnseen(1);
    bed.machine.remove("cowsnap-two", Visibility::Visible);
    const CliResult result = checked({"--json"});
    CHECK(result.code == 0);
    std::map<std::string, std::string> texts;
    for (const auto& finding : findingsOf(result))
        texts[finding.at("name")] = finding.at("finding");
    CHECK(texts.size() == 2);
    CHECK_THAT(texts["a"], Contains("stale"));
    CHECK_THAT(texts["two"], Contains("not attached"));
}

TEST_CASE("a damaged copy of the metadata is found while the store is open") {
    CheckBed bed;
    const unsigned slot = GENERATE(0u, 1u);
    bed.machine.damageSlot(slot);
    const CliResult result = checked({"--json"});
    CHECK(result.code == 8);
    CHECK_THAT(findingsOf(result).at(0).at("finding").get<std::string>(),
               Contains("slot " + std::to_string(slot)));
    // Each change writes the older one.
    for (const char* const name : {"x", "y"})
        bed.createSnapshots({{bed.one, name}});
    CHECK(checked().code == 0);
}

TEST_CASE("a store that cannot be used is checked all the same") {
    CheckBed bed;
    bed.stopDaemon();
    bed.machine.damageSlot(0);
    bed.machine.damageSlot(1);
    bed.startDaemon();
    const CliResult result = checked({"main", "--json"});
    CHECK(result.code == 8);
    CHECK_THAT(findingsOf(result).at(0).at("finding").get<std::string>(),
               Contains("both metadata slots"));
}

TEST_CASE("whether a store can be used counts as the check finds it, not as it was known before") {
    CheckBed bed;
    const std::string device =
        std::get<std::string>(bed.properties(bed.store, kStore).at("Device"));
    const std::string name = device.substr(device.rfind('/') + 1);
    const auto table = bed.machine.tableOf(name);
    bed.machine.reload(
        name,
        {{0, kStoreSectors, "linear", bed.machine.describe("/dev/spare").number.text() + " 0"}},
        Visibility::Hidden);
    const CliResult broken = checked();
    CHECK(broken.code == 1);
    CHECK_THAT(broken.output, Contains("someone changed its table"));
    bed.machine.reload(name, table, Visibility::Hidden);
    const CliResult mended = checked();
    CHECK(mended.code == 0);
    CHECK_THAT(mended.output, Contains("no damage is known"));
}

TEST_CASE("of a store that is not open the command that checks it is named") {
    CheckBed bed;
    const CliResult by_device = checked({"/dev/spare"});
    CHECK(by_device.code == 3);
    CHECK_THAT(by_device.errors, Contains("\"cowsnap-store check /dev/spare\""));
    const CliResult by_name = checked({"other"});
    CHECK(by_name.code == 3);
    CHECK_THAT(by_name.errors, Contains("\"cowsnap-store check DEVICE...\""));
}

TEST_CASE("one damaged copy of the metadata is told in the log and wherever the store is shown") {
    RecordedLog log;
    CheckBed bed;
    bed.stopDaemon();
    // The older one: nothing is lost with it that would be written anew at the start.
    bed.machine.damageSlot(1);
    bed.startDaemon();
    const auto told = log.with("one of the two copies of the metadata of the store main (");
    REQUIRE(told.size() == 1);
    CHECK_THAT(told.front().text, Contains("snapd-cli store check"));
    CHECK_THAT(runCli({"store", "list"}).errors,
               Contains("metadata of the store main was damaged"));
    CHECK_THAT(runCli({"show", "main"}).errors, Contains("metadata of the store main was damaged"));
    CHECK(runCli({"store", "list"}).code == 0);
}

TEST_CASE("a copy of the metadata that was zeroed is damaged") {
    CheckBed bed;
    const unsigned slot = GENERATE(0u, 1u);
    bed.stopDaemon();
    blankSlot(bed.machine, slot);
    RecordedLog log;
    bed.startDaemon();
    CHECK(log.with("one of the two copies of the metadata of the store main (").size() == 1);
    // A change at the start may have written it anew.
    blankSlot(bed.machine, slot);
    const CliResult result = checked({"--json"});
    CHECK(result.code == 8);
    CHECK_THAT(findingsOf(result).at(0).at("finding").get<std::string>(),
               Contains("slot " + std::to_string(slot) + ": it is blank"));
}

TEST_CASE("a store with origins whose metadata was zeroed is not taken for a new one") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine.reset();
    blankSlot(bed.machine, 0);
    SECTION("both copies, or one of them with the other one damaged") {
        if (GENERATE(false, true))
            blankSlot(bed.machine, 1);
        else
            bed.machine.damageSlot(1);
        const std::string newest =
            MetadataBackups(bed.directory.path()).list(store).front().string();
        bed.reboot();
        CHECK(bed.store().problem_kind == ErrorKind::MetadataCorrupt);
        const std::string advice = "\"cowsnap-store repair --metadata " + newest + " /dev/store\"";
        CHECK_THAT(bed.store().problem, Contains(advice));
        bed.refresh();
        checkRefused(bed, ErrorKind::MetadataCorrupt, advice,
                     [&] { bed.engine->openStore({"/dev/store"}, "", Recognize::AsBefore); });
    }
    SECTION("without a backup of it, nobody but dmsetup may ever have had it") {
        blankSlot(bed.machine, 1);
        std::filesystem::remove_all(bed.directory.path() / "backups");
        RecordedLog log;
        bed.reboot();
        CHECK(bed.store().problem.empty());
        CHECK(bed.snapshotNamed("recovered-1"));
        CHECK(log.with("has 1 origins and 1 snapshots, and no metadata").size() == 1);
    }
}

TEST_CASE("what is wrong with the devices of origins and snapshots is found") {
    CheckBed bed;
    REQUIRE(runCli({"activate", "a"}).code == 0);
    const std::string mapped = runCli({"list", "one", "-o", "device", "--no-headings"}).output;
    const std::string name = mapped.substr(mapped.rfind('/') + 1);
    bed.machine.suspend(name.substr(0, name.find('\n')));
    bed.machine.suspend("cowsnap-two");
    bed.refreshed();
    std::map<std::string, std::string> texts;
    for (const auto& finding : findingsOf(checked({"--json"})))
        texts[finding.at("name")] = finding.at("finding");
    CHECK_THAT(texts["a"], Contains("suspended"));
    CHECK_THAT(texts["two"], Contains("suspended"));
    CHECK(texts.size() == 2);
    CHECK_THAT(runCli({"show", "a"}).output, Contains("suspended"));
    CHECK_THAT(runCli({"list", "one", "-o", "problem", "--no-headings"}).output,
               Contains("suspended"));
}

TEST_CASE("a store that cannot be read does not keep prune from the others") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid other = bed.engine->createStore({"/dev/spare"}, "other", {});
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const Uuid two = bed.engine->attach("/dev/two", other, "");
    SnapshotOptions old;
    old.expires = 1;
    bed.engine->createSnapshots({{one, "a"}}, old);
    bed.engine->createSnapshots({{two, "b"}}, old);
    const bool first = GENERATE(true, false);
    const StoreState& lost =
        first ? bed.engine->stores().begin()->second : bed.engine->stores().rbegin()->second;
    const std::string lost_name = lost.name;
    const Uuid lost_origin = lost_name == "main" ? one : two;
    for (const auto& origin : lost.metadata.origins)
        bed.machine.remove(origin.mapped_name, Visibility::Hidden);
    bed.machine.remove(lost.mapped->name, Visibility::Hidden);
    PruneOptions options;
    options.now = 2;
    CHECK_THROWS_AS(bed.engine->prune({lost_origin}, options), Error);
    std::map<std::string, PruneResult::Action> actions;
    for (const auto& result : bed.engine->prune({}, options))
        actions[result.name] = result.action;
    CHECK(actions.size() == 2);
    CHECK(actions[lost_name] == PruneResult::Action::Failed);
    CHECK(actions[lost_name == "main" ? "b" : "a"] == PruneResult::Action::Delete);
}
