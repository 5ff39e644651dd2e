// SPDX-License-Identifier: GPL-2.0-or-later
// Stores: what is a store, what is refused, failing and damaged ones.
#include <fcntl.h>
#include <sys/stat.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <filesystem>
#include <fstream>

#include "assembly/store_assembly.h"
#include "base/durable_file.h"
#include "base/file_descriptor.h"
#include "cowsnap_dm.h"
#include "engine_bed.h"
#include "meta/backups.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

constexpr std::chrono::seconds kLongest{60};

}  // namespace

TEST_CASE("a store whose device is missing is shown and opened later") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.engine.reset();
    bed.machine.reboot();
    bed.machine.renameDisk("/dev/store", "/dev/away");
    bed.machine.resizeDisk("/dev/away", kStoreSectors / 2);
    bed.restart();
    CHECK_THAT(bed.store().problem, Contains("smaller than before"));
    CHECK(bed.store().name == "main");
    checkRefused(bed, ErrorKind::NotFound, "cannot be used",
                 [&] { bed.engine->attach("/dev/one", store, ""); });
    bed.machine.resizeDisk("/dev/away", kStoreSectors);
    CHECK(bed.engine->openStore({"/dev/away"}, "") == store);
    CHECK(bed.store().problem.empty());
    checkRefused(bed, ErrorKind::Exists, "open already",
                 [&] { bed.engine->openStore({"/dev/away"}, ""); });
    bed.engine->closeStore(store);
    CHECK(bed.engine->openStore({"/dev/away"}, "") == store);
    CHECK(bed.store().name == "main");
}

TEST_CASE("a store is extended, and an interrupted extension finished") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.engine->attach("/dev/one", store, "");
    const auto total_before = bed.store().status.total_segments;
    for (const auto accident : {Accident::KillBefore, Accident::KillAfter})
        for (unsigned step = 0; step < 4; ++step) {
            DYNAMIC_SECTION("killed at step "
                            << step << (accident == Accident::KillAfter ? " after" : " before")) {
                bed.machine.plan(accident, step);
                try {
                    bed.engine->extendStore(store, {"/dev/spare"});
                } catch (const Killed&) {
                }
                bed.machine.planNothing();
                bed.restart();
                CHECK(bed.store().problem.empty());
                CHECK(bed.store().devices.size() == 2);
                CHECK(bed.store().metadata.devices.size() == 2);
                CHECK(bed.store().status.total_segments > total_before);
                bed.reboot();
                CHECK(bed.store().problem.empty());
                CHECK(bed.store().length_sectors == 2 * kStoreSectors);
                CHECK(bed.store().origins.at(1).mapped);
            }
        }
    SECTION("a failed extension is undone") {
        bed.machine.plan(Accident::Fail, 0);
        checkRefused(bed, ErrorKind::Failed, "planned",
                     [&] { bed.engine->extendStore(store, {"/dev/spare"}); });
        bed.reboot();
        CHECK(bed.store().devices.size() == 1);
    }
}

TEST_CASE("a start that failed half-way is made up for when the store is looked at again") {
    unsigned made_up = 0;
    for (unsigned killed_at = 0; killed_at < 4; ++killed_at) {
        bool failed = true;
        for (unsigned step = 0; failed; ++step) {
            INFO("killed at step " << killed_at << ", then step " << step << " fails");
            EngineBed bed;
            const Uuid store = bed.makeStore();
            bed.engine->attach("/dev/one", store, "");
            bed.machine.plan(Accident::KillAfter, killed_at);
            CHECK_THROWS_AS(bed.engine->extendStore(store, {"/dev/spare"}), Killed);
            bed.machine.plan(Accident::Fail, step);
            bed.restart();
            failed = bed.machine.accidentHappened();
            bed.machine.planNothing();
            const bool unusable = !bed.store().problem.empty();
            bed.refresh();
            if (!bed.store().problem.empty())
                continue;  // until it is opened again
            made_up += unusable ? 1 : 0;
            CHECK(bed.store().devices.size() == 2);
            CHECK(bed.store().metadata.devices == bed.store().devices);
            CHECK(StoreRegistry(bed.directory.path()).read().front().devices.size() == 2);
            REQUIRE(step < 100);
        }
    }
    CHECK(made_up > 0);
}

TEST_CASE("the policy for a full store is kept") {
    EngineBed bed;
    StoreOptions options;
    options.full_wait_ms = 2500;
    options.segment_sectors = 1024;
    bed.engine->createStore({"/dev/store", "/dev/spare"}, "main", options);
    bed.reboot();
    const auto name = bed.store().mapped->name;
    CHECK(parseStoreTable(bed.machine.table(name).front().arguments).full_wait_ms == 2500);
    CHECK(bed.store().status.segment_sectors == 1024);
    CHECK(bed.store().low_water_segments == 2 * kStoreSectors / 1024 / 20);
}

TEST_CASE("devices that cannot be a store are refused") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const auto refused = [&](ErrorKind kind, const std::string& cause,
                             const std::vector<std::string>& paths, const std::string& name = "new",
                             const StoreOptions& options = {}) {
        checkRefused(bed, kind, cause, [&] { engine.createStore(paths, name, options); });
    };
    refused(ErrorKind::InvalidArgument, "at least one device", {});
    refused(ErrorKind::InvalidArgument, "absolute", {"dev/store"});
    refused(ErrorKind::NotFound, "/dev/nothing", {"/dev/nothing"});
    refused(ErrorKind::InvalidArgument, "not a block device", {"/dev/null"});
    bed.directory.write("f", "");
    refused(ErrorKind::NotSupported, "file", {(bed.directory.path() / "f").string()});
    refused(ErrorKind::InvalidArgument, "same device", {"/dev/store", "/dev/store"});
    refused(ErrorKind::InvalidArgument, "'/'", {"/dev/store"}, "a/b");
    StoreOptions options;
    options.segment_sectors = 100;
    refused(ErrorKind::InvalidArgument, "segment_sectors", {"/dev/store"}, "new", options);
    options = {};
    options.full_wait_ms = COWSNAP_FULL_WAIT_MAX_MS + 1ULL;
    refused(ErrorKind::InvalidArgument, "full_wait_ms", {"/dev/store"}, "new", options);
    bed.machine.addDisk("/dev/small", 8192);
    refused(ErrorKind::InvalidArgument, "at least 8.0 MiB", {"/dev/small"});
    bed.machine.setContents("/dev/spare", "ext4");
    refused(ErrorKind::Exists, "holds ext4", {"/dev/spare"});
    bed.machine.setContents("/dev/spare", "");
    refused(ErrorKind::Exists, "not blank", {"/dev/spare"});
    bed.machine.setUser("/dev/two", "mounted on /two");
    refused(ErrorKind::Busy, "mounted on /two", {"/dev/two"});
    bed.machine.setUser("/dev/two", "");
    bed.machine.addDisk("/dev/frozen", kStoreSectors);
    bed.machine.setReadOnly("/dev/frozen");
    refused(ErrorKind::InvalidArgument, "read-only", {"/dev/frozen"});
    const Uuid store = bed.makeStore();
    refused(ErrorKind::Exists, "belongs to the store main", {"/dev/store"});
    refused(ErrorKind::Exists, "named \"main\"", {"/dev/two"}, "main");
    bed.machine.addDisk("/dev/part", kStoreSectors);
    bed.machine.putOn("/dev/part", "/dev/store");
    refused(ErrorKind::Exists, "belongs to the store main", {"/dev/part"});
    engine.attach("/dev/one", store, "");
    refused(ErrorKind::InvalidArgument, "cannot stand on an origin", {"/dev/mapper/cowsnap-one"});
    refused(ErrorKind::InvalidArgument, "cannot stand on an origin", {"/dev/one"});
    bed.machine.addDisk("/dev/volume", kStoreSectors);
    bed.machine.putOn("/dev/volume", "/dev/one");
    refused(ErrorKind::InvalidArgument, "cannot stand on an origin", {"/dev/volume"});
    bed.machine.addDisk("/dev/on-origin", kStoreSectors);
    bed.machine.putOn("/dev/on-origin", "/dev/volume");
    checkRefused(bed, ErrorKind::InvalidArgument, "cannot stand on an origin",
                 [&] { engine.extendStore(store, {"/dev/on-origin"}); });
    checkRefused(bed, ErrorKind::Exists, "belongs to the store",
                 [&] { engine.extendStore(store, {"/dev/store"}); });
    checkRefused(bed, ErrorKind::InvalidArgument, "at least one",
                 [&] { engine.extendStore(store, {}); });
    checkRefused(bed, ErrorKind::NotFound, "no store starts",
                 [&] { engine.openStore({"/dev/two"}, ""); });
    checkRefused(bed, ErrorKind::Busy, "detach them first", [&] { engine.closeStore(store); });
    checkRefused(bed, ErrorKind::NotFound, "no store", [&] { engine.closeStore(Uuid::random()); });
}

TEST_CASE("a store is opened on its own devices only, in their order") {
    EngineBed bed;
    bed.machine.addDisk("/dev/third", kStoreSectors);  // without a serial number
    bed.machine.addDisk("/dev/other", kStoreSectors, "other-serial");
    const std::vector<std::string> devices{"/dev/store", "/dev/spare", "/dev/third"};
    const Uuid store = bed.engine->createStore(devices, "main", {});
    bed.engine->closeStore(store);
    const auto refused = [&](const std::string& cause, const std::vector<std::string>& paths,
                             ErrorKind kind = ErrorKind::InvalidArgument) {
        const Refusal refusal = refusalOf([&] { bed.engine->openStore(paths, ""); });
        CHECK(refusal.kind == kind);
        CHECK_THAT(refusal.message, Contains(cause));
        CHECK(bed.engine->stores().empty());
        CHECK(bed.machine.mappedNames().empty());
    };
    refused("same device", {"/dev/store", "/dev/store", "/dev/third"});
    refused("in their order", {"/dev/store", "/dev/third", "/dev/spare"});
    refused("/dev/other is no device of the store",
            {"/dev/store", "/dev/spare", "/dev/third", "/dev/other"});
    refused("one is missing", {"/dev/store", "/dev/spare"});
    bed.machine.resizeDisk("/dev/spare", kStoreSectors + 4096);
    refused("/dev/spare is not device 2", devices);
    bed.machine.resizeDisk("/dev/spare", kStoreSectors);
    bed.machine.setReadOnly("/dev/other");
    refused("/dev/other is read-only", {"/dev/store", "/dev/spare", "/dev/other"});
    bed.machine.setUser("/dev/third", "mounted on /three");
    refused("mounted on /three", devices, ErrorKind::Busy);
    bed.machine.setUser("/dev/third", "");
    CHECK(bed.engine->openStore(devices, "") == store);
    CHECK(bed.store().length_sectors == 3 * kStoreSectors);
}

TEST_CASE("a store is not opened on the device of another one") {
    EngineBed bed;
    const Uuid first = bed.engine->createStore({"/dev/store"}, "first", {});
    bed.engine->closeStore(first);
    bed.machine.addDisk("/dev/other", kStoreSectors);
    bed.engine->createStore({"/dev/other"}, "second", {});
    CHECK_THAT(refusalOf([&] {
                   bed.engine->openStore({"/dev/store", "/dev/other"}, "");
               }).message,
               Contains("belongs to the store second"));
    CHECK(bed.engine->stores().size() == 1);
}

TEST_CASE("a store that runs is not opened on other devices than it runs on") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.engine->attach("/dev/one", store, "");  // else the daemon would let go of it
    bed.machine.damageSlot(0);
    bed.machine.damageSlot(1);
    bed.restart();
    REQUIRE_FALSE(bed.store().problem.empty());
    const auto segments = bed.machine.status(bed.store().mapped->name);
    checkRefused(bed, ErrorKind::InvalidArgument, "runs already, on other devices", [&] {
        bed.engine->openStore({"/dev/store", "/dev/spare"}, "");
    });
    checkRefused(bed, ErrorKind::MetadataCorrupt, "both metadata slots",
                 [&] { bed.engine->openStore({"/dev/store"}, ""); });
    CHECK(bed.machine.status(bed.store().mapped->name) == segments);
    CHECK(bed.store().uuid == store);
}

TEST_CASE("a store that fails and cannot be told has its loss recorded outside it") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    const LossRecords losses(bed.directory.path());
    const auto tellsKernel = [&] {
        return contains(bed.machine.messages(), COWSNAP_MESSAGE_LOSS_RECORDED);
    };
    SECTION("by the daemon that runs") {
        bed.machine.failStore();
        bed.refresh();
    }
    SECTION("by the next one, if none runs") {
        bed.engine.reset();
        bed.machine.failStore();
        bed.restart();
    }
    SECTION("as soon as it can be written") {
        std::filesystem::create_directories(bed.directory.path() /
                                            fmt::format("lost-{}.json.new", store.dashed()));
        bed.machine.failStore();
        bed.refresh();
        CHECK_THAT(bed.store().problem, Contains("lost-"));
        CHECK_FALSE(tellsKernel());
        std::filesystem::remove(bed.directory.path() /
                                fmt::format("lost-{}.json.new", store.dashed()));
        bed.refresh();
    }
    CHECK(losses.find(store) == 2);
    CHECK(tellsKernel());

    // It works again: before anything else it is told, then the record goes.
    bed.reboot();
    CHECK(bed.machine.stateOf(1) == COWSNAP_STATE_LOST);
    CHECK(bed.store().snapshots.at(1).line.state == COWSNAP_STATE_LOST);
    CHECK_FALSE(losses.find(store));
    bed.engine->createSnapshots({{one, "b"}}, {});
    CHECK(bed.machine.stateOf(2) == COWSNAP_STATE_ACTIVE);
    bed.reboot();
    CHECK(bed.machine.stateOf(2) == COWSNAP_STATE_ACTIVE);
}

TEST_CASE("of 80, 90 and 95 percent used it is told once, and again after it was clearly less") {
    EngineBed bed;
    bed.makeStore();
    const auto total = bed.store().status.total_segments;
    const auto toldAt = [&](std::uint64_t percent) {
        // The first number of segments that is at least so much.
        bed.machine.useSegments((total * percent + 99) / 100);
        bed.refresh();
        std::vector<unsigned> told;
        for (const auto& warning : bed.takeSpaceWarnings()) {
            told.push_back(warning.percent);
            CHECK(warning.free_bytes == bed.store().status.free_segments << 20);
        }
        return told;
    };
    using Told = std::vector<unsigned>;
    CHECK(toldAt(78) == Told{});
    CHECK(toldAt(80) == Told{80});
    CHECK(toldAt(85) == Told{});
    CHECK(toldAt(90) == Told{90});
    CHECK(toldAt(87) == Told{});
    CHECK(toldAt(90) == Told{});
    CHECK(toldAt(83) == Told{});
    CHECK(toldAt(96) == Told{95});
    CHECK(toldAt(100) == Told{});
    CHECK(toldAt(83) == Told{});
    CHECK(toldAt(91) == Told{90});
    CHECK(toldAt(10) == Told{});
    CHECK(toldAt(97) == Told{95});
    bed.restart();
    CHECK(bed.takeSpaceWarnings().size() == 1);
}

TEST_CASE("a small part used is told once as well, and again after it was clearly less") {
    EngineBed bed;
    bed.engine->setSpaceWarnings({4, 80});
    bed.makeStore();
    const auto total = bed.store().status.total_segments;
    const auto toldAt = [&](std::uint64_t percent) {
        bed.machine.useSegments((total * percent + 99) / 100);
        bed.refresh();
        return bed.takeSpaceWarnings().size();
    };
    CHECK(toldAt(4) == 1);
    CHECK(toldAt(3) == 0);
    CHECK(toldAt(4) == 0);  // to and fro
    CHECK(toldAt(0) == 0);
    CHECK(toldAt(5) == 1);
}

TEST_CASE("a loss record that is not understood keeps its store from being activated") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.engine->attach("/dev/one", store, "");
    bed.engine.reset();
    std::ofstream(bed.directory.path() / fmt::format("lost-{}.json", store.dashed()))
        << GENERATE("", "{", R"({"schema": 2})", R"({"schema": 1, "store": "x", "last_set": 1})");
    bed.machine.reboot();
    bed.restart();
    CHECK_THAT(bed.store().problem, Contains("delete it"));
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-one"));
}

TEST_CASE("damaged metadata is told and never overwritten") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine.reset();
    SECTION("one slot: the other one is used") {
        const unsigned slot = GENERATE(0u, 1u);
        bed.machine.damageSlot(slot);
        bed.restart();
        CHECK(bed.store().problem.empty());
        CHECK(bed.store().metadata.snapshots.size() == 1);
        return;
    }
    SECTION("one slot, with the other one blank, on a machine that has no backup") {
        const unsigned slot = GENERATE(0u, 1u);
        bed.machine.damageSlot(slot);
        bed.machine.blankSlot(1 - slot);
        std::filesystem::remove_all(bed.directory.path() / "backups");
        bed.machine.reboot();
        bed.restart();
        CHECK(bed.store().problem_kind == ErrorKind::MetadataCorrupt);
        CHECK_THAT(bed.store().problem, Contains("1 origins and 1 snapshots") &&
                                            Contains("the other one is blank") &&
                                            Contains("cowsnap-store repair"));
        CHECK(bed.machine.snapshotIds().size() == 1);
        return;
    }
    bed.machine.damageSlot(0);
    bed.machine.damageSlot(1);
    bed.machine.reboot();
    bed.restart();
    CHECK(bed.store().problem_kind == ErrorKind::MetadataCorrupt);
    const auto slots = [&] { return bed.machine.read(bed.store().mapped->path(), 0, 2 * 65536); };
    const auto before = slots();
    checkRefused(bed, ErrorKind::MetadataCorrupt, "both metadata slots",
                 [&] { bed.engine->attach("/dev/two", store, ""); });
    checkRefused(bed, ErrorKind::MetadataCorrupt, "both metadata slots",
                 [&] { bed.engine->extendStore(store, {"/dev/spare"}); });
    checkRefused(bed, ErrorKind::MetadataCorrupt, "both metadata slots",
                 [&] { bed.engine->openStore({"/dev/store"}, ""); });
    bed.refresh();
    CHECK(slots() == before);
}

TEST_CASE("without the module everything is refused with the advice to load it") {
    EngineBed bed;
    bed.machine.removeModule();
    checkRefused(bed, ErrorKind::NotSupported, "modprobe", [&] { bed.makeStore(); });
}

TEST_CASE("stores that lack the module are started once it is loaded") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.machine.removeModule();
    bed.reboot();
    for (int i = 0; i < 2; ++i) {
        CHECK_THAT(bed.store().problem, Contains("modprobe dm-cow-snap"));
        bed.refresh();
    }
    SECTION("and can be used") {
        bed.machine.loadModule();
        bed.refresh();
        CHECK(bed.store().problem.empty());
        CHECK(bed.store().origins.at(1).condition == OriginCondition::Attached);
        CHECK_NOTHROW(bed.engine->createSnapshots({{one, "b"}}, {}));
    }
    SECTION("and then say what else is wrong, once") {
        bed.machine.removeDisk("/dev/store");
        bed.machine.loadModule();
        for (int i = 0; i < 2; ++i) {
            bed.refresh();
            CHECK_THAT(bed.store().problem, Contains("cannot find the device"));
        }
        bed.machine.addDisk("/dev/store", kStoreSectors, "store-serial");
        bed.refresh();
        CHECK_FALSE(bed.store().problem.empty());
    }
}

TEST_CASE("the last states of the metadata are kept as files") {
    EngineBed bed;
    bed.engine->setMetadataBackups(3);
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const MetadataBackups backups(bed.directory.path());
    const auto newest = [&] {
        REQUIRE(bed.engine->waitForBackups(kLongest));
        const auto text = readIfThere(backups.list(store).front());
        return parseMetadata(1, text.value());
    };
    CHECK(newest().origins.size() == 1);
    const auto snapshots = bed.engine->createSnapshots({{one, "a"}}, {});
    CHECK(newest().snapshots.front().name == "a");
    bed.engine->deleteSnapshots(snapshots);
    CHECK(newest().snapshots.empty());
    CHECK(backups.list(store).size() == 3);
    bed.engine->setMetadataBackups(1);
    bed.engine->createSnapshots({{one, "b"}}, {});
    CHECK(newest().snapshots.front().name == "b");
    CHECK(backups.list(store).size() == 1);
    bed.engine->setMetadataBackups(0);
    bed.engine->createSnapshots({{one, "c"}}, {});
    CHECK(newest().snapshots.size() == 1);

    // where none can be written all goes on without
    bed.engine->setMetadataBackups(3);
    const std::filesystem::path directory = bed.directory.path();
    std::filesystem::remove_all(directory / "backups");
    std::ofstream(directory / "backups") << "a file";
    CHECK_NOTHROW(bed.engine->createSnapshots({{one, "d"}}, {}));
    CHECK(bed.snapshotNamed("d"));
}

TEST_CASE("nobody waits for a file system that is frozen until the metadata is backed up there") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    REQUIRE(bed.engine->waitForBackups(kLongest));
    const MetadataBackups backups(bed.directory.path());
    const auto next = [&] {
        const auto newest = backups.list(store).front();
        return newest.parent_path() /
               fmt::format("{:020}.json.new", std::stoull(newest.stem().string()) + 1);
    }();
    // Who opens a pipe that nobody reads waits as who writes to a frozen file system does.
    REQUIRE(::mkfifo(next.c_str(), S_IRUSR | S_IWUSR) == 0);
    bed.engine->createSnapshots({{one, "a"}}, {});
    CHECK(bed.snapshotNamed("a"));
    CHECK_FALSE(bed.engine->waitForBackups(std::chrono::milliseconds(20)));
    bed.engine->createSnapshots({{one, "b"}}, {});
    CHECK(bed.snapshotNamed("b"));
    {
        const FileDescriptor thaw(::open(next.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
        REQUIRE(thaw);
        REQUIRE(bed.engine->waitForBackups(kLongest));
    }
    const auto text = readIfThere(backups.list(store).front());
    REQUIRE(text);
    CHECK(parseMetadata(1, *text).snapshots.size() == 2);
}
