// SPDX-License-Identifier: GPL-2.0-or-later
// Stores that get full are extended with what they were given for that, and with nothing else.
#include <catch2/catch.hpp>

#include "base/program.h"
#include "block/lvm_volume_groups.h"
#include "bus_bed.h"
#include "engine_bed.h"
#include "model/growth.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// A store on a volume of a group that has room left.
struct GroupBed : EngineBed {
    explicit GroupBed(std::uint64_t free_extents = 100) {
        machine.addVolumeGroup("vg", free_extents);
        machine.addVolume("vg", "store", 32);  // 128 MiB
    }

    Uuid makeOnVolume(const AutoextendChange& autoextend = {}) {
        return engine->createStore({"/dev/vg/store"}, "main", {}, autoextend);
    }

    /// What the daemon does after it looked at the store.
    void fill(unsigned percent) {
        machine.useSegments((store().status.total_segments * percent + 99) / 100);
        refresh();
    }
    bool extendIfWanted() {
        const Uuid uuid = store().uuid;
        if (!engine->wantsExtension(uuid))
            return false;
        engine->autoextend(uuid);
        return true;
    }
    std::vector<std::string> devicePaths() const {
        std::vector<std::string> paths;
        for (const auto& device : store().metadata.devices)
            paths.push_back(device.path);
        return paths;
    }
};

}  // namespace

TEST_CASE("a store is extended from its volume group, whatever it is called") {
    GroupBed bed;
    bed.engine->createStore({"/dev/vg/store"}, "snapshots", {}, {});
    bed.fill(70);
    CHECK(bed.extendIfWanted());
    CHECK(bed.devicePaths() ==
          std::vector<std::string>{"/dev/vg/store", "/dev/vg/_snapshots_cowsnap1"});
}

TEST_CASE("a store on a logical volume is extended from its volume group before it is full") {
    GroupBed bed;
    bed.makeOnVolume();
    bed.fill(69);
    CHECK_FALSE(bed.extendIfWanted());
    bed.fill(70);
    const auto before = bed.store().status.total_segments;
    bed.machine.renameVolumeGroup("vg", "vg2");
    CHECK(bed.extendIfWanted());
    CHECK(bed.devicePaths() == std::vector<std::string>{"/dev/vg/store", "/dev/vg2/main_cowsnap1"});
    // a fifth of 128 MiB in extents of 4 MiB
    CHECK(bed.store().status.total_segments == before + 28);
    CHECK_FALSE(bed.extendIfWanted());
    bed.fill(80);
    CHECK(bed.extendIfWanted());
    CHECK(bed.devicePaths().size() == 3);
    bed.reboot();
    CHECK(bed.store().problem.empty());
    CHECK(bed.devicePaths().size() == 3);
}

TEST_CASE("nothing is taken that the administrator did not name") {
    GroupBed bed;
    SECTION("a store elsewhere does not take from a volume group") {
        bed.makeStore();
    }
    SECTION("nor does one of which that was said") {
        bed.makeOnVolume({false});
    }
    SECTION("nor any if the configuration says so") {
        bed.makeOnVolume();
        bed.engine->setAutoextend({false});
    }
    SECTION("nor one where it was turned off") {
        const Uuid store = bed.makeOnVolume();
        bed.engine->changeAutoextend(store, {false});
        bed.restart();
    }
    const auto calls = bed.machine.groupCalls();
    bed.fill(100);
    CHECK_FALSE(bed.extendIfWanted());
    CHECK(bed.machine.groupCalls() == calls);
    CHECK(bed.machine.volumeNames("vg").size() == 1);
    CHECK(bed.store().metadata.devices.size() == 1);
}

TEST_CASE("spares are taken before a volume group, one at a time") {
    GroupBed bed;
    const Uuid store = bed.makeOnVolume({std::nullopt, {"/dev/spare"}});
    CHECK(bed.store().metadata.autoextend.spares.size() == 1);
    bed.fill(100);
    CHECK(bed.extendIfWanted());
    CHECK(bed.devicePaths().back() == "/dev/spare");
    CHECK(bed.store().metadata.autoextend.spares.empty());
    CHECK(bed.machine.volumeNames("vg").size() == 1);

    bed.machine.addDisk("/dev/more", kStoreSectors, "more-serial");
    bed.engine->changeAutoextend(store, {std::nullopt, {"/dev/more"}});
    checkRefused(bed, ErrorKind::Exists, "is a spare of this store already", [&] {
        bed.engine->changeAutoextend(store, {std::nullopt, {"/dev/more"}});
    });
    checkRefused(bed, ErrorKind::Exists, "is a spare of the store main",
                 [&] { bed.engine->createStore({"/dev/more"}, "other", {}); });
    checkRefused(bed, ErrorKind::NotFound, "no spare", [&] {
        bed.engine->changeAutoextend(store, {std::nullopt, {}, {"/dev/two"}});
    });
    bed.engine->changeAutoextend(store, {std::nullopt, {}, {"/dev/more"}});
    CHECK(bed.store().metadata.autoextend.spares.empty());
    bed.machine.setContents("/dev/more", "ext4");
    checkRefused(bed, ErrorKind::Exists, "holds ext4", [&] {
        bed.engine->changeAutoextend(store, {std::nullopt, {"/dev/more"}});
    });
}

TEST_CASE("a spare that is used by now is not touched") {
    EngineBed bed;
    const Uuid store =
        bed.engine->createStore({"/dev/store"}, "main", {}, {std::nullopt, {"/dev/spare"}});
    bed.machine.setContents("/dev/spare", "ext4");
    const auto before = bed.machine.read("/dev/spare", 0, 4096);
    bed.machine.useSegments(bed.store().status.total_segments);
    bed.refresh();
    checkRefused(bed, ErrorKind::NoSpace, "/dev/spare holds ext4",
                 [&] { bed.engine->autoextend(store); });
    CHECK(bed.machine.read("/dev/spare", 0, 4096) == before);
    CHECK(bed.store().metadata.devices.size() == 1);
}

TEST_CASE("a store does not grow beyond its limit") {
    GroupBed bed;
    AutoextendChange change;
    change.max_bytes = (128 + 12) << 20;
    const Uuid store = bed.makeOnVolume(change);
    bed.fill(100);
    CHECK(bed.extendIfWanted());
    CHECK(bed.store().length_sectors * kSectorBytes == change.max_bytes);
    bed.fill(100);
    checkRefused(bed, ErrorKind::NoSpace, "reached its limit of 140.0 MiB",
                 [&] { bed.engine->autoextend(store); });
}

TEST_CASE("what cannot be extended is told once and tried again after a while") {
    GroupBed bed(0);
    const Uuid store = bed.makeOnVolume();
    bed.fill(100);
    checkRefused(bed, ErrorKind::NoSpace, "vgextend vg DEVICE",
                 [&] { bed.engine->autoextend(store); });
    const auto calls = bed.machine.groupCalls();
    CHECK(bed.engine->takeNotices({store}).extend_failed.size() == 1);
    CHECK_THAT(bed.store().autoextend_problem, Contains("snapd-cli store extend"));
    for (int i = 0; i < 100; ++i) {
        bed.refresh();
        CHECK_FALSE(bed.extendIfWanted());
    }
    CHECK(bed.machine.groupCalls() == calls);
    CHECK(bed.engine->takeNotices({store}).extend_failed.empty());
    // who gives it something else does not wait
    bed.engine->changeAutoextend(store, {std::nullopt, {"/dev/spare"}});
    CHECK(bed.extendIfWanted());
    CHECK(bed.store().autoextend_problem.empty());
    CHECK(bed.engine->takeNotices({store}).extended.front().device == "/dev/spare");
}

TEST_CASE("a kill while a store is extended loses no volume and no spare") {
    for (const bool with_spare : {false, true})
        for (const auto accident : {Accident::KillBefore, Accident::KillAfter, Accident::Tear}) {
            bool reached_end = false;
            for (unsigned step = 0; !reached_end; ++step) {
                INFO("accident " << static_cast<int>(accident) << " at step " << step);
                GroupBed bed;
                AutoextendChange change;
                if (with_spare)
                    change.add_spares = {"/dev/spare"};
                bed.makeOnVolume(change);
                bed.fill(75);
                bed.machine.plan(accident, step);
                try {
                    bed.extendIfWanted();
                } catch (const Killed&) {
                }
                reached_end = !bed.machine.accidentHappened();
                bed.machine.planNothing();
                bed.restart();
                CHECK(bed.store().problem.empty());
                bed.extendIfWanted();
                const auto paths = bed.devicePaths();
                CHECK(paths.size() == 2);
                CHECK(paths.back() == (with_spare ? "/dev/spare" : "/dev/vg/main_cowsnap1"));
                CHECK(bed.store().metadata.autoextend.spares.empty());
                // one that was made and not taken is taken by the next try
                CHECK(bed.machine.volumeNames("vg").size() == (with_spare ? 1 : 2));
                REQUIRE(step < 100);
            }
        }
}

TEST_CASE("the daemon extends a store that gets full, as a job, and says so") {
    BusBed bed;
    bed.machine.addVolumeGroup("vg", 100);
    bed.machine.addVolume("vg", "store", 32);
    const std::string store = bed.createStore("/dev/vg/store");
    const auto get = [&](const char* name) { return bed.properties(store, kStore).at(name); };
    CHECK(get("Autoextend") == Value(true));
    CHECK(get("AutoextendGroup") == Value(std::string("vg")));
    bed.machine.useSegments(100);
    bed.call(kRoot, kManager, "Refresh", nullptr);
    bed.signalsUntil("Autoextended");
    CHECK(get("Devices") ==
          Value(std::vector<std::string>{"/dev/vg/store", "/dev/vg/main_cowsnap1"}));
    const auto job = bed.jobProperties(bed.jobs().back());
    CHECK(job.at("Operation") == Value(std::string("autoextend")));
    CHECK(job.at("UserId") == Value(static_cast<std::uint32_t>(::geteuid())));
    CHECK(job.at("ProcessId") == Value(static_cast<std::uint32_t>(::getpid())));
    CHECK(bed.waitForJob(bed.jobs().back(), "State", Value(std::string("done"))));

    bed.call(store, kStore, "SetAutoextend", nullptr, {{"max_bytes", std::uint64_t{1}}});
    bed.machine.useSegments(120);
    bed.call(kRoot, kManager, "Refresh", nullptr);
    bed.signalsUntil("AutoextendFailed");
    CHECK_THAT(std::get<std::string>(get("AutoextendProblem")), Contains("its limit of"));
    const auto jobs = bed.jobs().size();
    for (int i = 0; i < 20; ++i)
        bed.call(kRoot, kManager, "Refresh", nullptr);
    CHECK(bed.jobs().size() == jobs);
}

TEST_CASE("what LVM reports is read, and what is something else is refused") {
    const auto groups = parseGroups(
        R"({"report":[{"vg":[{"vg_uuid":"AAAAAA-BBBB-CCCC-DDDD-EEEE-FFFF-GGGGGG","vg_name":"vg",)"
        R"("vg_extent_size":"4194304","vg_free":"8388608"}]}],"log":[]})");
    REQUIRE(groups.size() == 1);
    CHECK(groups[0].uuid == "AAAAAABBBBCCCCDDDDEEEEFFFFGGGGGG");
    CHECK(groups[0].extent_bytes == 4194304);
    CHECK(groups[0].free_bytes == 8388608);
    const auto volumes =
        parseVolumes(R"({"report":[{"lv":[{"lv_name":"a","lv_path":"/dev/vg/a","lv_tags":"x,y"},)"
                     R"({"lv_name":"b","lv_path":"/dev/vg/b","lv_tags":""}]}]})");
    REQUIRE(volumes.size() == 2);
    CHECK(volumes[0].tags == std::set<std::string>{"x", "y"});
    CHECK(volumes[1].tags.empty());
    for (const char* const wrong : {"", "{}", R"({"report":[]})", R"({"report":[{"vg":5}]})",
                                    R"({"report":[{"vg":[{"vg_uuid":"a"}]}]})",
                                    R"({"report":[{"vg":[{"vg_uuid":"a","vg_name":"b",)"
                                    R"("vg_extent_size":"many","vg_free":"1"}]}]})"})
        CHECK(refusalOf([&] { parseGroups(wrong); }).kind == ErrorKind::Failed);
}

TEST_CASE("which volume group a device is in is told by its UUID") {
    DeviceIdentity device;
    const std::string group(32, 'g');
    device.serial = "LVM-" + group + std::string(32, 'v');
    CHECK(volumeGroupUuid(device) == group);
    device.serial += "-tpool";
    CHECK(volumeGroupUuid(device).empty());
    device.serial = "WD-1234";
    CHECK(volumeGroupUuid(device).empty());
}

TEST_CASE("programs get their words as they are, and are ended when they take too long") {
    using std::chrono::seconds;
    const auto result = runProgram(
        {"/bin/sh", "-c", "echo \"$1\"; echo err >&2; exit 3", "sh", "; echo $(id) `id`"},
        seconds(10));
    CHECK(result.output == "; echo $(id) `id`\n");
    CHECK(result.errors == "err\n");
    CHECK(result.status == 3);
    CHECK(runProgram({"/bin/sh", "-c", "kill -9 $$"}, seconds(10)).status == 128 + 9);
    CHECK(refusalOf([] { runProgram({"/no/such"}, seconds(1)); }).kind == ErrorKind::NotFound);
    CHECK_THAT(refusalOf([] {
                   runProgram({"/bin/sleep", "60"}, seconds(1));
               }).message,
               Contains("took longer"));
}

TEST_CASE("when a store will be full is told from how it grew") {
    using std::chrono::seconds;
    Growth growth;
    Growth::Time now{};
    CHECK_FALSE(growth.until(100));
    growth.add(10, now);
    CHECK_FALSE(growth.until(100));
    growth.add(20, now + seconds(1));
    CHECK_FALSE(growth.until(100));  // too short a time
    growth.add(60, now + seconds(10));
    CHECK(growth.until(100) == seconds(20));
    growth.add(60, now + seconds(100));
    CHECK(growth.until(100) == seconds(200));
    growth.add(5, now + seconds(110));
    CHECK_FALSE(growth.until(100));
}
