// SPDX-License-Identifier: GPL-2.0-or-later
// The operations: what they do, what they refuse, and that all is found again.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstring>
#include <fstream>

#include "assembly/store_assembly.h"
#include "cowsnap_dm.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

bool contains(const std::vector<std::string>& texts, const std::string& text) {
    return std::find(texts.begin(), texts.end(), text) != texts.end();
}

/// Refused with this kind and a message that names the cause; and nothing has changed.
void checkRefused(EngineBed& bed, ErrorKind kind, const std::string& cause,
                  const std::function<void()>& action) {
    const auto names = bed.machine.mappedNames();
    const auto snapshots = bed.machine.snapshotIds();
    const auto origins = bed.machine.originIds();
    const Refusal refusal = refusalOf(action);
    INFO(refusal.message);
    CHECK(refusal.kind == kind);
    CHECK_THAT(refusal.message, Contains(cause));
    CHECK(bed.machine.mappedNames() == names);
    CHECK(bed.machine.snapshotIds() == snapshots);
    CHECK(bed.machine.originIds() == origins);
}

}  // namespace

TEST_CASE("a store is made, an origin attached, snapshots created and deleted") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    CHECK(bed.machine.mappedNames().size() == 2);
    const Uuid one = engine.attach("/dev/one", store, "");
    const Uuid two = engine.attach("/dev/two", store, "data");
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-data"));
    const auto set = engine.createSnapshots({{one, "a"}, {two, "b"}}, {});
    REQUIRE(set.size() == 2);
    CHECK(bed.machine.messages().back() == "create 1 1 2 2");
    engine.createSnapshots({{one, "c"}}, {true, "third"});
    CHECK(bed.store().metadata.snapshots.size() == 3);
    CHECK(bed.store().metadata.snapshot(set[0])->set == bed.store().metadata.snapshot(set[1])->set);
    engine.deleteSnapshots({set[0], set[1]});
    CHECK(bed.machine.messages().back() == "delete 1 2");
    CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{3});
    checkRefused(bed, ErrorKind::Busy, "delete them first", [&] { engine.detach(one); });
    engine.deleteSnapshots({*bed.snapshotNamed("c")});
    engine.detach(one);
    engine.detach(two);
    CHECK(bed.machine.originIds().empty());
    engine.closeStore(store);
    CHECK(bed.machine.mappedNames().empty());
    CHECK(engine.stores().empty());
}

TEST_CASE("ids are never used again") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const auto first = bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine->deleteSnapshots(first);
    bed.engine->createSnapshots({{one, "a"}}, {});
    CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{2});
    bed.engine->deleteSnapshots({*bed.snapshotNamed("a")});
    bed.engine->detach(one);
    bed.restart();
    bed.engine->attach("/dev/one", store, "");
    CHECK(bed.machine.originIds() == std::vector<std::uint32_t>{2});
}

TEST_CASE("everything is found again after a restart and after a reboot") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    for (int i = 0; i < 7; ++i)
        bed.engine->createSnapshots({{one, "s" + std::to_string(i)}}, {i % 2 == 0, "text"});
    const std::string before = formatMetadata(bed.store().metadata);
    SECTION("restart") {
        bed.restart();
    }
    SECTION("reboot") {
        bed.reboot();
    }
    SECTION("reboot, with the disks under other names") {
        bed.engine.reset();
        bed.machine.reboot();
        bed.machine.renameDisk("/dev/store", "/dev/x");
        bed.machine.renameDisk("/dev/one", "/dev/store");
        bed.machine.renameDisk("/dev/x", "/dev/one");
        bed.restart();
        CHECK(bed.store().problem.empty());
        CHECK(bed.store().origins.at(1).mapped);
        return;
    }
    SECTION("restart without the registry") {
        std::filesystem::remove(bed.directory.path() / "stores.json");
        bed.restart();
    }
    REQUIRE(bed.engine->stores().size() == 1);
    CHECK(bed.store().problem.empty());
    CHECK(formatMetadata(bed.store().metadata) == before);
    CHECK(bed.store().origins.at(1).mapped);
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
}

TEST_CASE("the boot part without a daemon attaches all origins as they were") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.engine->attach("/dev/one", store, "");
    bed.engine->attach("/dev/two", store, "");
    bed.machine.addDisk("/dev/three", kOriginSectors, "three-serial");
    bed.machine.setUser("/dev/three", "mounted on /three");
    bed.engine->attach("/dev/three", store, "");
    bed.engine.reset();
    bed.machine.reboot();
    const auto registered = StoreRegistry(bed.directory.path()).read();
    REQUIRE(registered.size() == 1);
    const ActiveStore active = activateStore(bed.machine, bed.machine,
                                             LossRecords(bed.directory.path()), registered.front());
    REQUIRE(active.metadata);
    bed.machine.setUser("/dev/two", "mounted on /two");
    const auto problems = attachOrigins(bed.machine, bed.machine, active.device, *active.metadata);
    REQUIRE(problems.size() == 1);
    CHECK_THAT(problems.front().reason, Contains("mounted on /two"));
    CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-two"));
    CHECK_THAT(bed.machine.table("cowsnap-three").front().arguments, Contains(" 1 interpose"));
}

TEST_CASE(
    "an origin whose device is missing, smaller or in use is shown as missing and can be attached "
    "later") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine.reset();
    bed.machine.reboot();
    SECTION("smaller") {
        bed.machine.resizeDisk("/dev/one", kOriginSectors - 8);
        bed.restart();
        CHECK_THAT(bed.store().origins.at(1).problem, Contains("smaller than before"));
        checkRefused(bed, ErrorKind::InvalidArgument, "smaller than when it was attached",
                     [&] { bed.engine->attach("/dev/one", store, ""); });
        bed.machine.resizeDisk("/dev/one", kOriginSectors);
    }
    SECTION("in use") {
        bed.machine.setUser("/dev/one", "mounted on /one");
        bed.restart();
        CHECK_THAT(bed.store().origins.at(1).problem, Contains("mounted on /one"));
        bed.machine.setUser("/dev/one", "");
    }
    SECTION("missing") {
        bed.machine.renameDisk("/dev/one", "/dev/elsewhere");
        bed.machine.addDisk("/dev/one", kOriginSectors, "stranger");
        bed.machine.resizeDisk("/dev/elsewhere", 0);
        bed.restart();
        CHECK_THAT(bed.store().origins.at(1).problem, Contains("another serial number"));
        bed.machine.removeDisk("/dev/one");
        bed.machine.renameDisk("/dev/elsewhere", "/dev/one");
        bed.machine.resizeDisk("/dev/one", kOriginSectors);
    }
    CHECK_FALSE(bed.store().origins.at(1).mapped);
    checkRefused(bed, ErrorKind::NotFound, "not attached", [&] {
        bed.engine->createSnapshots({{one, "b"}}, {});
    });
    checkRefused(bed, ErrorKind::NotFound, "not attached",
                 [&] { bed.engine->activate(*bed.snapshotNamed("a"), true); });
    CHECK(bed.engine->attach("/dev/one", store, "") == one);
    CHECK(bed.store().origins.at(1).mapped);
    CHECK(bed.store().origins.at(1).problem.empty());
}

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

TEST_CASE("devices that cannot be an origin are refused") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    const auto refused = [&](ErrorKind kind, const std::string& cause, const std::string& path,
                             const std::string& name = "") {
        checkRefused(bed, kind, cause, [&] { engine.attach(path, store, name); });
    };
    refused(ErrorKind::NotFound, "/dev/nothing", "/dev/nothing");
    refused(ErrorKind::InvalidArgument, "absolute", "one");
    refused(ErrorKind::InvalidArgument, "belongs to the store main", "/dev/store");
    refused(ErrorKind::InvalidArgument, "device of a store",
            "/dev/mapper/" + bed.store().mapped->name);
    bed.machine.addDisk("/dev/part", kStoreSectors);
    bed.machine.putOn("/dev/part", "/dev/store");
    refused(ErrorKind::InvalidArgument, "stand on each other", "/dev/part");
    bed.machine.setUser("/dev/one", "mounted on /home");
    checkRefused(bed, ErrorKind::Busy, "mounted on /home",
                 [&] { engine.attach("/dev/one", store, "", AttachMethod::Stacked); });
    bed.machine.setUser("/dev/one", "");
    bed.machine.addDisk("/dev/frozen", kStoreSectors);
    bed.machine.setReadOnly("/dev/frozen");
    refused(ErrorKind::InvalidArgument, "read-only", "/dev/frozen");
    refused(ErrorKind::InvalidArgument, "control", "/dev/one", "a\tb");
    const Uuid one = engine.attach("/dev/one", store, "");
    refused(ErrorKind::Exists, "attached already", "/dev/one");
    refused(ErrorKind::Exists, "attached already", "/dev/mapper/cowsnap-one");
    refused(ErrorKind::Exists, "named \"one\"", "/dev/two", "one");
    bed.machine.addDisk("/dev/volume", kOriginSectors);
    bed.machine.putOn("/dev/volume", "/dev/one");
    refused(ErrorKind::Exists, "stand on each other", "/dev/volume");
    engine.createSnapshots({{one, "a"}}, {});
    const std::string device = engine.activate(*bed.snapshotNamed("a"), true);
    refused(ErrorKind::NotSupported, "snapshots of snapshots", device);
    checkRefused(bed, ErrorKind::NotFound, "no store",
                 [&] { engine.attach("/dev/two", Uuid::random(), ""); });
    checkRefused(bed, ErrorKind::NotFound, "no origin", [&] { engine.detach(Uuid::random()); });
}

TEST_CASE("a device in use is interposed, and one that is not stacked, unless told otherwise") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.setUser("/dev/one", "mounted on /home");
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const auto arguments = [&] { return bed.machine.table("cowsnap-one").front().arguments; };
    const std::string store_number = bed.store().mapped->number.text();
    const std::string device = bed.machine.describe("/dev/one").number.text();
    CHECK(arguments() == fmt::format("{} 1 {} 1 interpose", store_number, device));
    CHECK(bed.store().origins.at(1).device == "/dev/one");
    CHECK(bed.store().origins.at(1).method == AttachMethod::Interposed);
    checkRefused(bed, ErrorKind::Exists, "attached already, as the origin one: use /dev/one",
                 [&] { bed.engine->attach("/dev/one", store, ""); });
    bed.engine->attach("/dev/two", store, "");
    CHECK(bed.store().origins.at(2).method == AttachMethod::Stacked);
    CHECK(bed.store().origins.at(2).device == "/dev/mapper/cowsnap-two");
    bed.engine->createSnapshots({{one, "a"}}, {});

    SECTION("it is found again by a daemon that is started again") {
        bed.restart();
        CHECK(bed.store().origins.at(1).device == "/dev/one");
        CHECK(bed.store().origins.at(1).mapped);
    }
    SECTION("it is put back the same way after a reboot, mounted or not yet") {
        bed.machine.setUser("/dev/one", GENERATE("", "mounted on /home"));
        bed.reboot();
        CHECK(bed.store().problem.empty());
        CHECK(bed.store().origins.at(1).problem.empty());
        CHECK_THAT(arguments(), Contains(" 1 interpose"));
        CHECK(bed.store().origins.at(2).method == AttachMethod::Stacked);
    }
    SECTION("its device is told by the name that it has now") {
        bed.engine.reset();
        bed.machine.reboot();
        bed.machine.renameDisk("/dev/one", "/dev/renamed");
        bed.restart();
        CHECK(bed.store().origins.at(1).device == "/dev/renamed");
    }
    SECTION("with snapshots it is not detached, without them it is, while it is in use") {
        checkRefused(bed, ErrorKind::Busy, "delete them first", [&] { bed.engine->detach(one); });
        bed.engine->deleteSnapshots({*bed.snapshotNamed("a")});
        bed.engine->detach(one);
        CHECK(bed.machine.originIds() == std::vector<std::uint32_t>{2});
        CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-one"));
    }
    SECTION("a store cannot stand on it") {
        bed.machine.addDisk("/dev/file", kStoreSectors);
        bed.machine.putOn("/dev/file", "/dev/one");
        checkRefused(bed, ErrorKind::InvalidArgument, "cannot stand on an origin",
                     [&] { bed.engine->createStore({"/dev/file"}, "other", {}); });
    }
}

TEST_CASE("one of the methods can be asked for") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "", AttachMethod::Interposed);
    CHECK(bed.store().origins.at(1).method == AttachMethod::Interposed);
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.machine.remove("cowsnap-one", Visibility::Hidden);
    bed.machine.setUser("/dev/two", "mounted on /two");
    checkRefused(bed, ErrorKind::Busy, "mounted on /two",
                 [&] { bed.engine->attach("/dev/two", store, "", AttachMethod::Stacked); });
    SECTION("an origin with snapshots is attached again as it was") {
        CHECK(bed.engine->attach("/dev/one", store, "") == one);
        CHECK(bed.store().origins.at(1).method == AttachMethod::Interposed);
    }
    SECTION("or otherwise, and that is kept") {
        CHECK(bed.engine->attach("/dev/one", store, "", AttachMethod::Stacked) == one);
        CHECK(bed.store().origins.at(1).method == AttachMethod::Stacked);
        bed.reboot();
        CHECK(bed.store().origins.at(1).method == AttachMethod::Stacked);
    }
    SECTION("a stacked one with snapshots is not interposed unasked") {
        bed.engine->attach("/dev/one", store, "", AttachMethod::Stacked);
        bed.machine.remove("cowsnap-one", Visibility::Visible);
        bed.machine.setUser("/dev/one", "mounted on /home");
        checkRefused(bed, ErrorKind::Busy, "mounted on /home: the origin one is stacked",
                     [&] { bed.engine->attach("/dev/one", store, ""); });
        CHECK(bed.store().metadata.origins.front().method == AttachMethod::Stacked);
    }
}

TEST_CASE("devices that make no sense as an interposed origin are refused by name") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const auto refused = [&](ErrorKind kind, const std::string& cause, const std::string& path) {
        checkRefused(bed, kind, cause, [&] { bed.engine->attach(path, store, ""); });
        CHECK(bed.store().metadata.origins.empty());
    };
    SECTION("swap") {
        bed.machine.setUser("/dev/one", "active swap", DeviceUser::Kind::Swap);
        refused(ErrorKind::Busy, "/dev/one is active swap", "/dev/one");
    }
    SECTION("one of several devices of btrfs") {
        std::vector<std::byte> super(4096);
        std::memcpy(&super[0x40], "_BHRfS_M", 8);
        super[0x88] = std::byte{2};
        bed.machine.write("/dev/one", 65536, super);
        bed.machine.setUser("/dev/one", "in use by someone", DeviceUser::Kind::Other);
        refused(ErrorKind::NotSupported, "one of the 2 devices of a btrfs", "/dev/one");
        super[0x88] = std::byte{1};
        bed.machine.write("/dev/one", 65536, super);
        CHECK_NOTHROW(bed.engine->attach("/dev/one", store, ""));
    }
    SECTION("a store in a file on its file system, through two loop devices") {
        bed.machine.addDisk("/dev/loop0", kStoreSectors);
        bed.machine.addDisk("/dev/loop1", kStoreSectors);
        bed.machine.putOn("/dev/loop0", "/dev/two");
        bed.machine.putOn("/dev/loop1", "/dev/loop0");
        const Uuid in_file = bed.engine->createStore({"/dev/loop1"}, "in-file", {});
        bed.machine.setUser("/dev/two", "mounted on /two");
        for (const Uuid& uuid : {in_file, store})
            checkRefused(bed, ErrorKind::InvalidArgument,
                         "the device /dev/loop1 of the store in-file",
                         [&] { bed.engine->attach("/dev/two", uuid, ""); });
    }
    SECTION("what the store stands on, or its disk") {
        bed.machine.addPartition("/dev/store-part", "/dev/spare");
        bed.machine.resizeDisk("/dev/store-part", kStoreSectors);
        bed.engine->createStore({"/dev/store-part"}, "parted", {});
        refused(ErrorKind::InvalidArgument, "the device /dev/store-part of the store parted",
                "/dev/spare");
        refused(ErrorKind::InvalidArgument, "belongs to the store parted", "/dev/store-part");
    }
}

TEST_CASE("interposing needs a module and a kernel that can") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.setUser("/dev/one", "mounted on /home");
    SECTION("the module is older") {
        bed.machine.setModuleMinor(0);
        checkRefused(bed, ErrorKind::NotSupported, "version 1.0.",
                     [&] { bed.engine->attach("/dev/one", store, ""); });
        CHECK_NOTHROW(bed.engine->attach("/dev/two", store, ""));
    }
    SECTION("someone else has the hook") {
        bed.machine.refuseInterposing("submit_bio_noacct() cannot be hooked");
        checkRefused(bed, ErrorKind::Busy, "cannot be hooked",
                     [&] { bed.engine->attach("/dev/one", store, ""); });
        checkRefused(bed, ErrorKind::Busy, "dmesg",
                     [&] { bed.engine->attach("/dev/one", store, ""); });
        CHECK(bed.store().metadata.origins.empty());
        CHECK_NOTHROW(bed.engine->attach("/dev/two", store, ""));
    }
    SECTION("at the next start the kernel cannot any more") {
        bed.engine->attach("/dev/one", store, "");
        bed.machine.refuseInterposing("submit_bio_noacct() cannot be hooked");
        bed.reboot();
        CHECK_THAT(bed.store().origins.at(1).problem, Contains("cannot be hooked"));
        CHECK_FALSE(bed.store().origins.at(1).mapped);
        bed.machine.refuseInterposing("");
        bed.engine->attach("/dev/one", store, "");
        CHECK(bed.store().origins.at(1).mapped);
    }
}

TEST_CASE("what is above an origin is one, too, if the lower one is interposed") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.addPartition("/dev/part", "/dev/one");
    bed.machine.setUser("/dev/part", "mounted on /part");
    const auto attach = [&](const std::string& path, std::optional<AttachMethod> method = {}) {
        return bed.engine->attach(path, store, "", method);
    };
    SECTION("a partition and then its disk") {
        attach("/dev/part");
        attach("/dev/one");
        CHECK(bed.store().origins.at(2).method == AttachMethod::Interposed);
    }
    SECTION("a disk and then its partition") {
        attach("/dev/one");
        attach("/dev/part");
        CHECK(bed.store().origins.size() == 2);
    }
    SECTION("not over a stacked one") {
        bed.machine.setUser("/dev/part", "");
        attach("/dev/one");
        checkRefused(bed, ErrorKind::Exists, "stand on each other",
                     [&] { attach("/dev/part", AttachMethod::Interposed); });
    }
    SECTION("not stacked below one") {
        bed.machine.setUser("/dev/part", "");
        attach("/dev/part");
        checkRefused(bed, ErrorKind::Exists, "stand on each other",
                     [&] { attach("/dev/one", AttachMethod::Stacked); });
    }
}

TEST_CASE("an attach that the kernel refuses leaves nothing behind") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    if (GENERATE(false, true))
        bed.machine.setUser("/dev/one", "mounted on /home");
    bed.machine.plan(Accident::Fail, 1);  // after the metadata, at the table
    checkRefused(bed, ErrorKind::Failed, "planned",
                 [&] { bed.engine->attach("/dev/one", store, ""); });
    CHECK(bed.store().metadata.origins.empty());
    bed.restart();
    CHECK(bed.store().metadata.origins.empty());
    CHECK_NOTHROW(bed.engine->attach("/dev/one", store, ""));
}

TEST_CASE("an origin that is open is not detached") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.machine.setOpen("/dev/mapper/cowsnap-one", true);
    checkRefused(bed, ErrorKind::Busy, "is open", [&] { bed.engine->detach(one); });
    bed.machine.setOpen("/dev/mapper/cowsnap-one", false);
    CHECK_NOTHROW(bed.engine->detach(one));
}

TEST_CASE("snapshots that cannot be created are refused") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    const Uuid one = engine.attach("/dev/one", store, "");
    const Uuid two = engine.attach("/dev/two", store, "");
    engine.createSnapshots({{one, "a"}}, {});
    using Members = std::vector<std::pair<Uuid, std::string>>;
    const auto refused = [&](ErrorKind kind, const std::string& cause, const Members& members,
                             const SnapshotOptions& options = {}) {
        checkRefused(bed, kind, cause, [&] { engine.createSnapshots(members, options); });
    };
    refused(ErrorKind::InvalidArgument, "at least one origin", {});
    refused(ErrorKind::Exists, "named \"a\"", {{two, "a"}});
    refused(ErrorKind::Exists, "named \"x\"", {{one, "x"}, {two, "x"}});
    refused(ErrorKind::InvalidArgument, "twice", {{one, "x"}, {one, "y"}});
    refused(ErrorKind::NotFound, "no origin", {{Uuid::random(), "x"}});
    refused(ErrorKind::InvalidArgument, "127", {{one, std::string(128, 'x')}});
    refused(ErrorKind::InvalidArgument, "description", {{one, "x"}}, {false, "a\nb"});
    refused(ErrorKind::InvalidArgument, "description", {{one, "x"}},
            {false, std::string(1025, 'x')});
    refused(ErrorKind::InvalidArgument, fmt::format("at most {}", COWSNAP_SET_MAX),
            Members(COWSNAP_SET_MAX + 1, {one, "x"}));
    bed.machine.plan(Accident::Fail, 1);
    refused(ErrorKind::Failed, "no snapshot was created", {{one, "x"}, {two, "y"}});
    CHECK(bed.store().metadata.snapshots.size() == 1);
    bed.machine.plan(Accident::Fail, 0);
    refused(ErrorKind::Failed, "planned", {{one, "x"}});
    CHECK(bed.store().metadata.snapshots.size() == 1);
    CHECK_NOTHROW(engine.createSnapshots({{one, "x"}, {two, "y"}}, {}));
}

TEST_CASE("a snapshot is file-system consistent if all that is mounted was frozen") {
    EngineBed bed;
    using Kind = DeviceUser::Kind;
    const Uuid store = bed.makeStore();
    const auto consistency = [&](const Uuid& origin) {
        const Uuid snapshot = bed.engine->createSnapshots({{origin, "a"}}, {}).front();
        bed.restart();
        const Consistency result = bed.store().metadata.snapshot(snapshot)->consistency;
        bed.engine->deleteSnapshots({snapshot});
        return result;
    };
    SECTION("stacked") {
        const Uuid one = bed.engine->attach("/dev/one", store, "");
        CHECK(consistency(one) == Consistency::Crash);
        bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/mapper/cowsnap-one", "in use by vg-lv", Kind::Other);
        CHECK(consistency(one) == Consistency::Crash);
    }
    SECTION("interposed") {
        bed.machine.setUser("/dev/one", "mounted on /one");
        const Uuid one = bed.engine->attach("/dev/one", store, "");
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/one", "in use by vg-lv", Kind::Other);
        CHECK(consistency(one) == Consistency::Crash);
        bed.machine.setUser("/dev/one", "");
        CHECK(consistency(one) == Consistency::Crash);
    }
    SECTION("a disk with partitions") {
        bed.machine.addPartition("/dev/one1", "/dev/one");
        bed.machine.addPartition("/dev/one2", "/dev/one");
        bed.machine.setUser("/dev/one1", "mounted on /one");
        const Uuid one = bed.engine->attach("/dev/one", store, "");
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/one2", "active swap", Kind::Swap);
        CHECK(consistency(one) == Consistency::FileSystem);
        bed.machine.setUser("/dev/one2", "in use by vg-lv", Kind::Other);
        CHECK(consistency(one) == Consistency::Crash);
        bed.machine.setUser("/dev/one2", "active swap", Kind::Swap);
        bed.machine.setUser("/dev/one1", "");
        CHECK(consistency(one) == Consistency::Crash);
    }
}

TEST_CASE("a set is of one store") {
    EngineBed bed;
    const Uuid main = bed.makeStore();
    const Uuid other = bed.engine->createStore({"/dev/spare"}, "other", {});
    const Uuid one = bed.engine->attach("/dev/one", main, "");
    const Uuid two = bed.engine->attach("/dev/two", other, "");
    checkRefused(bed, ErrorKind::InvalidArgument, "one store", [&] {
        bed.engine->createSnapshots({{one, "a"}, {two, "b"}}, {});
    });
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.engine->createSnapshots({{two, "a"}}, {});
    CHECK(bed.machine.snapshotIds().size() == 2);
}

TEST_CASE("a snapshot has a device while it is active") {
    EngineBed bed;
    Engine& engine = *bed.engine;
    const Uuid store = bed.makeStore();
    const Uuid one = engine.attach("/dev/one", store, "");
    const Uuid fixed = engine.createSnapshots({{one, "fixed"}}, {}).front();
    const Uuid writable = engine.createSnapshots({{one, "writable ü"}}, {true, ""}).front();
    checkRefused(bed, ErrorKind::InvalidArgument, "is read-only",
                 [&] { engine.activate(fixed, false); });
    CHECK(engine.activate(fixed, true) == "/dev/mapper/cowsnap-snap-fixed");
    CHECK(engine.activate(fixed, true) == "/dev/mapper/cowsnap-snap-fixed");
    CHECK(bed.machine.describe("/dev/mapper/cowsnap-snap-fixed").read_only);
    const std::string device = engine.activate(writable, false);
    CHECK(device == "/dev/mapper/cowsnap-snap-writable___");
    checkRefused(bed, ErrorKind::Busy, "deactivate it first",
                 [&] { engine.activate(writable, true); });
    bed.machine.setOpen(device, true);
    checkRefused(bed, ErrorKind::Busy, "is open", [&] { engine.deactivate(writable); });
    checkRefused(bed, ErrorKind::Busy, "is open", [&] {
        engine.deleteSnapshots({fixed, writable});
    });
    CHECK(bed.machine.snapshotIds().size() == 2);
    bed.machine.setOpen(device, false);
    bed.restart();
    CHECK(bed.store().snapshots.at(2).mapped);
    bed.engine->deactivate(writable);
    bed.engine->deactivate(writable);
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-snap-writable___"));
    bed.engine->deleteSnapshots({fixed});  // active, but nobody has it open
    CHECK_FALSE(contains(bed.machine.mappedNames(), "cowsnap-snap-fixed"));
    checkRefused(bed, ErrorKind::NotFound, "no snapshot",
                 [&] { bed.engine->activate(fixed, true); });
    checkRefused(bed, ErrorKind::NotFound, "no snapshot", [&] { bed.engine->deactivate(fixed); });
    checkRefused(bed, ErrorKind::NotFound, "no snapshot",
                 [&] { bed.engine->deleteSnapshots({fixed}); });
    checkRefused(bed, ErrorKind::InvalidArgument, "at least one",
                 [&] { bed.engine->deleteSnapshots({}); });
}

TEST_CASE("what the kernel drops goes, and the reason is told") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const Uuid a = bed.engine->createSnapshots({{one, "a"}}, {}).front();
    bed.engine->createSnapshots({{one, "b"}}, {});
    bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
    bed.machine.drop(1);
    bed.machine.forgetSnapshot(2);
    bed.engine->refresh();
    const auto events = bed.engine->takeEvents();
    REQUIRE(events.size() == 2);
    CHECK(events[0].event == COWSNAP_EVENT_LOW_WATER);
    CHECK_THAT(events[0].text, Contains("extend it"));
    const auto dropped = bed.engine->takeDropped();
    REQUIRE(dropped.size() == 2);
    CHECK(dropped[0].snapshot == a);
    CHECK_THAT(dropped[0].reason, Contains("make room"));
    CHECK_THAT(dropped[1].reason, Contains("not in the store"));
    CHECK(bed.store().metadata.snapshots.empty());
    bed.engine->refresh();
    CHECK(bed.engine->takeEvents().empty());
    SECTION("also while no daemon runs, and old events are not told again") {
        bed.engine->createSnapshots({{one, "c"}}, {});
        bed.engine.reset();
        bed.machine.drop(3);
        bed.restart();
        CHECK(bed.engine->takeEvents().empty());
        const auto later = bed.engine->takeDropped();
        REQUIRE(later.size() == 1);
        CHECK_THAT(later[0].reason, Contains("make room"));
    }
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
        bed.engine->refresh();
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
        bed.engine->refresh();
        CHECK_THAT(bed.store().problem, Contains("lost-"));
        CHECK_FALSE(tellsKernel());
        std::filesystem::remove(bed.directory.path() /
                                fmt::format("lost-{}.json.new", store.dashed()));
        bed.engine->refresh();
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

TEST_CASE("snapshots of an origin that was written unseen are stale, and it is told") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "data");
    bed.engine->createSnapshots({{one, "a"}}, {});
    bed.machine.writtenUnseen(1);
    bed.engine->refresh();
    const auto events = bed.engine->takeEvents();
    REQUIRE(events.size() == 1);
    CHECK(events[0].event == COWSNAP_EVENT_STALE);
    CHECK_THAT(events[0].text, Contains("the origin data was written"));
    CHECK(bed.store().snapshots.at(1).line.state == COWSNAP_STATE_STALE);
    CHECK_FALSE(bed.engine->activate(*bed.snapshotNamed("a"), true).empty());
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

TEST_CASE("a snapshot that the metadata does not know is adopted") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.machine.createBehindTheBack(17, 1);
    bed.restart();
    REQUIRE(bed.snapshotNamed("recovered-17"));
    bed.engine->createSnapshots({{one, "next"}}, {});
    CHECK(bed.machine.snapshotIds() == std::vector<std::uint32_t>{17, 18});
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
    bed.engine->refresh();
    CHECK(slots() == before);
}

TEST_CASE("without the module everything is refused with the advice to load it") {
    EngineBed bed;
    bed.machine.removeModule();
    checkRefused(bed, ErrorKind::NotSupported, "modprobe", [&] { bed.makeStore(); });
}
