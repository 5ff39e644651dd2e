// SPDX-License-Identifier: GPL-2.0-or-later
// A store that comes from another machine: what is known again, what is not, and what is damaged.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "bus_bed.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// The machine where a store with snapshots of two origins came to: its daemon knows nothing.
void becomeAnotherMachine(BusBed& bed) {
    bed.machine.addDisk("/dev/plain", kOriginSectors);  // has no serial number
    const std::string store = bed.createStore();
    const ObjectPath one{bed.attach("/dev/one", store)};
    const ObjectPath plain{bed.attach("/dev/plain", store)};
    bed.createSnapshots({{one, "a"}, {plain, "b"}});
    bed.stopDaemon();
    bed.machine.reboot();
    std::filesystem::remove_all(bed.directory.path() / "state");
    bed.machine.renameDisk("/dev/store", "/dev/imported");
    bed.machine.renameDisk("/dev/one", "/dev/other-path");
}

}  // namespace

TEST_CASE("an imported store attaches the origins that are surely its own, and no others") {
    BusBed bed;
    becomeAnotherMachine(bed);
    bed.startDaemon();
    const CliResult imported = runCli({"import", "/dev/imported"});
    INFO(imported.output << imported.errors);
    REQUIRE(imported.code == 7);
    CHECK_THAT(imported.output, Contains("imported the store main with 2 snapshots"));
    // of the same size, at the path where the origin was, but nothing says that it is it
    CHECK_THAT(imported.output, Contains("the origin plain is missing"));
    CHECK_THAT(imported.output, Contains("origin attach DEVICE --store main --as plain"));
    const auto checkNotPlain = [&] {
        CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
        CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-plain"));
    };
    checkNotPlain();
    SECTION("nor at a later start") {
        bed.stopDaemon();
        bed.startDaemon();
        checkNotPlain();
        bed.stopDaemon();
        bed.machine.reboot();
        bed.startDaemon();
        checkNotPlain();
        // What is at that path is new to the store.
        REQUIRE(runCli({"origin", "attach", "/dev/plain", "--name", "new"}).code == 0);
        CHECK(runCli({"list", "new", "-o", "name", "--no-headings"}).output.empty());
    }
    SECTION("what is told is attached, as the origin that it is") {
        const CliResult attached = runCli({"origin", "attach", "/dev/plain", "--as", "plain"});
        INFO(attached.errors);
        CHECK(attached.code == 0);
        CHECK(contains(bed.machine.mappedNames(), "cowsnap-plain"));
        const auto listed = runCli({"list", "plain", "-o", "name", "--no-headings"});
        CHECK(listed.output == "b\n");
        const auto again = runCli({"origin", "attach", "/dev/two", "--as", "plain"});
        CHECK_THAT(again.errors, Contains("attached already"));
    }
    SECTION("also a device that has another serial number; but none of another size") {
        bed.machine.addDisk("/dev/small", kOriginSectors / 2);
        CHECK_THAT(runCli({"origin", "attach", "/dev/small", "--as", "plain"}).errors,
                   Contains("smaller"));
        CHECK_THAT(runCli({"origin", "attach", "/dev/two", "--as", "nobody"}).errors,
                   Contains("no origin \"nobody\""));
        CHECK(runCli({"origin", "attach", "/dev/two", "--as", "plain"}).code == 0);
    }
}

TEST_CASE("a store that is opened without one of its origins says which, and what to do") {
    BusBed bed;
    bed.createStore("/dev/store", "of backups");
    REQUIRE(runCli({"origin", "attach", "/dev/one"}).code == 0);
    REQUIRE(runCli({"origin", "attach", "/dev/two", "--name", "its data"}).code == 0);
    bed.stopDaemon();
    bed.machine.reboot();
    std::filesystem::remove_all(bed.directory.path() / "state");
    SECTION("one of them is gone") {
        bed.machine.removeDisk("/dev/two");
        bed.startDaemon();
        const CliResult opened = runCli({"store", "open", "/dev/store"});
        INFO(opened.errors);
        CHECK(opened.code == 7);
        CHECK_THAT(opened.output,
                   Contains("opened the store of backups with 0 snapshots\n") &&
                       Contains("attached /dev/one as one") &&
                       Contains("the origin its data is missing: ") &&
                       Contains("origin attach DEVICE --store 'of backups' --as 'its data'\""));
    }
    SECTION("in JSON") {
        bed.machine.removeDisk("/dev/two");
        bed.startDaemon();
        const CliResult opened = runCli({"store", "open", "/dev/store", "--json"});
        CHECK(opened.code == 7);
        const auto document = nlohmann::json::parse(opened.output);
        CHECK(document.at("opened") == "of backups");
        CHECK(document.at("attached") == nlohmann::json{"one"});
        CHECK(document.at("missing").at(0).at("origin") == "its data");
    }
    SECTION("all are there") {
        bed.startDaemon();
        const CliResult opened = runCli({"store", "open", "/dev/store"});
        INFO(opened.output << opened.errors);
        CHECK(opened.code == 0);
        CHECK_THAT(opened.output, !Contains("missing"));
    }
}

TEST_CASE("an imported store with a damaged slot is used, and the damage told") {
    BusBed bed;
    becomeAnotherMachine(bed);
    bed.machine.damageSlot(GENERATE(0u, 1u));
    bed.startDaemon();
    const CliResult imported = runCli({"import", "/dev/imported", "--json"});
    INFO(imported.errors);
    CHECK(imported.code == 7);
    CHECK_THAT(imported.errors, Contains("one of the two copies of the metadata"));
    const auto document = nlohmann::json::parse(imported.output);
    CHECK(document.at("metadata_damaged") == true);
    CHECK(document.at("attached") == nlohmann::json{"one"});
    CHECK(document.at("missing").at(0).at("origin") == "plain");
}

TEST_CASE("that a copy of the metadata is damaged is told until it is written anew") {
    EngineBed bed;
    const Uuid one = bed.engine->attach("/dev/one", bed.makeStore(), "");
    // Both copies have the origin, so that opening has nothing to write.
    for (int i = 0; i < 2; ++i)
        bed.engine->setBootPolicy(one, BootPolicy::FailOpen);
    bed.engine.reset();
    bed.machine.damageSlot(GENERATE(0u, 1u));
    bed.restart();
    CHECK(bed.store().metadata_damaged);
    bed.refresh();
    CHECK(bed.store().metadata_damaged);
    bed.engine->createSnapshots({{one, "a"}}, {});
    CHECK_FALSE(bed.store().metadata_damaged);
    bed.refresh();
    CHECK_FALSE(bed.store().metadata_damaged);
}

TEST_CASE("a store both of whose slots are damaged is refused with the command that mends it") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.machine.damageSlot(0);
    bed.machine.damageSlot(1);
    bed.reboot();
    const std::string newest = MetadataBackups(bed.directory.path()).list(store).front().string();
    const std::string advice = "\"cowsnap-store repair --metadata " + newest + " /dev/store\"";
    CHECK_THAT(bed.store().problem, Contains(advice));
    CHECK(bed.store().problem_kind == ErrorKind::MetadataCorrupt);
    checkRefused(bed, ErrorKind::MetadataCorrupt, advice,
                 [&] { bed.engine->openStore({"/dev/store"}, "", Recognize::ByTheirMarks); });
}

TEST_CASE("a store with the name of one that is open is taken under another name, or not at all") {
    BusBed bed;
    becomeAnotherMachine(bed);
    bed.startDaemon();
    const std::string own = bed.createStore("/dev/spare");
    bed.createSnapshots({{ObjectPath{bed.attach("/dev/two", own)}, "a"}});
    const auto mapped = bed.machine.mappedNames();
    const std::string verb = GENERATE("import", "store open");
    const auto open = [&](const std::vector<std::string>& more) {
        std::vector<std::string> words = verb == "import"
                                             ? std::vector<std::string>{"import"}
                                             : std::vector<std::string>{"store", "open"};
        words.insert(words.end(), more.begin(), more.end());
        return runCli(words);
    };
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"/dev/imported"},
          std::vector<std::string>{"/dev/imported", "--name", "main"}}) {
        const CliResult refused = open(words);
        INFO(refused.errors);
        CHECK(refused.code == 1);
        CHECK_THAT(refused.errors, Contains("there is a store named \"main\" already ("));
        CHECK_THAT(refused.errors, Contains("under another name (--name)"));
        CHECK(bed.machine.mappedNames() == mapped);
    }
    const CliResult taken = open({"/dev/imported", "--name", "other"});
    INFO(taken.errors);
    INFO(taken.output);
    // An import lacks the origin that may be another one.
    REQUIRE(taken.code == (verb == "import" ? 7 : 0));
    CHECK_THAT(taken.output, Contains("the store other"));
    CHECK(runCli({"list", "--store", "other", "-o", "name", "--no-headings"}).output == "a\nb\n");
    CHECK(runCli({"show", "other/a"}).code == 0);
    const CliResult ambiguous = runCli({"show", "a"});
    CHECK(ambiguous.code == 2);
    CHECK_THAT(ambiguous.errors, Contains("STORE/NAME"));
    const auto listed = nlohmann::json::parse(runCli({"list", "--json"}).output);
    for (const auto& element : listed.at("snapshots"))
        if (element.at("name") == "a") {
            const std::string uuid = element.at("uuid");
            CHECK_THAT(ambiguous.errors, Contains(uuid));
            CHECK(runCli({"show", uuid}).code == 0);
        }
    // It stays so.
    bed.stopDaemon();
    bed.startDaemon();
    CHECK(runCli({"store", "list", "-o", "name", "--no-headings"}).output == "main\nother\n");
}

TEST_CASE("an import that fails says why, and leaves what is attached by then to the next start") {
    unsigned failed = 0;
    unsigned stayed = 0;
    for (unsigned step = 0;; ++step) {
        INFO("step " << step);
        EngineBed bed;
        const Uuid store = bed.makeStore();
        const Uuid origin = bed.engine->attach("/dev/one", store, "one");
        bed.engine->createSnapshots({{origin, "a"}}, {});
        bed.engine.reset();
        bed.machine.reboot();
        std::filesystem::remove_all(bed.directory.path());
        bed.machine.renameDisk("/dev/store", "/dev/imported");
        bed.restart();
        bed.machine.plan(Accident::Fail, step);
        const Refusal refusal = refusalOf(
            [&] { bed.engine->openStore({"/dev/imported"}, "", Recognize::ByTheirMarks); });
        const bool happened = bed.machine.accidentHappened();
        bed.machine.planNothing();
        if (!happened)
            break;
        INFO(refusal.message);
        if (refusal.kind) {
            ++failed;
            CHECK_THAT(refusal.message, Contains("a planned failure"));
            const bool stays = !bed.machine.mappedNames().empty();
            CHECK(stays == (refusal.message.find("stay as they are: ") != std::string::npos));
            stayed += stays ? 1 : 0;
            bed.restart();
            if (!stays)
                bed.engine->openStore({"/dev/imported"}, "", Recognize::ByTheirMarks);
        }
        REQUIRE(bed.engine->stores().size() == 1);
        CHECK(bed.store().problem.empty());
        CHECK(bed.snapshotNamed("a").has_value());
    }
    CHECK(failed > stayed);
    CHECK(stayed > 0);
}
