// SPDX-License-Identifier: GPL-2.0-or-later
// Origins: attaching by stacking and interposing, detaching, and what is refused.
#include <catch2/catch.hpp>

#include <cstring>

#include "assembly/store_assembly.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

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
    bed.machine.plan(Accident::Fail, 2);  // after the metadata and the device, at the table
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

TEST_CASE("a path of a multipath device is refused, however it is to be attached") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.setUser("/dev/one", "a path of the multipath device mpatha",
                        DeviceUser::Kind::Multipath);
    for (const auto method : {AttachMethod::Interposed, AttachMethod::Stacked})
        checkRefused(bed, ErrorKind::NotSupported, "Name the multipath device",
                     [&] { bed.engine->attach("/dev/one", store, "", method); });
}
