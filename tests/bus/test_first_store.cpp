// SPDX-License-Identifier: GPL-2.0-or-later
// The first snapshot of a machine where nothing was set up: what its store could be made of is
// found, and taken where there is one choice.
#include <catch2/catch.hpp>

#include <chrono>
#include <filesystem>
#include <sstream>

#include "block/lvm_volume_groups.h"
#include "bus_bed.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

std::vector<std::string> namesOf(const std::vector<StoreCandidate>& candidates) {
    std::vector<std::string> names;
    for (const auto& candidate : candidates)
        names.push_back(candidate.name);
    return names;
}

using Names = std::vector<std::string>;

void useUp(FakeMachine& machine, const std::vector<std::string>& devices) {
    for (const auto& device : devices)
        machine.setContents(device, "ext4");
}

/// The words of the command that begins a line with these.
std::vector<std::string> commandIn(const std::string& text, const std::string& begin) {
    const auto at = text.find(begin);
    REQUIRE(at != std::string::npos);
    std::istringstream line(text.substr(at, text.find('\n', at) - at));
    std::vector<std::string> words;
    for (std::string word; line >> word;)
        words.push_back(word);
    words.erase(words.begin());
    return words;
}

}  // namespace

TEST_CASE(
    "only what is free, blank and large enough, and apart from the origin, could be a store") {
    EngineBed bed;
    CHECK(namesOf(bed.engine->storeCandidates("/dev/one")) ==
          Names{"/dev/spare", "/dev/store", "/dev/two"});
    SECTION("with its size") {
        const auto candidates = bed.engine->storeCandidates("/dev/one");
        CHECK(candidates[0].size_bytes == kStoreSectors * 512);
        CHECK(candidates[0].kind == StoreCandidate::Kind::Device);
    }
    SECTION("not one that is in use, holds something, is read-only or too small") {
        bed.machine.setUser("/dev/spare", "mounted on /spare");
        bed.machine.setContents("/dev/store", "ext4");
        bed.machine.setReadOnly("/dev/two");
        bed.machine.addDisk("/dev/small", 16383);
        bed.machine.addDisk("/dev/enough", 16384);
        CHECK(namesOf(bed.engine->storeCandidates("/dev/one")) == Names{"/dev/enough"});
    }
    SECTION("not one with data that nobody knows") {
        bed.machine.write("/dev/spare", 8192, std::vector<std::byte>(4096, std::byte{1}));
        CHECK_FALSE(contains(namesOf(bed.engine->storeCandidates("/dev/one")), "/dev/spare"));
    }
    SECTION("not the disk that the origin is on, nor its partitions") {
        bed.machine.addPartition("/dev/two1", "/dev/two");
        CHECK(namesOf(bed.engine->storeCandidates("/dev/two1")) ==
              Names{"/dev/one", "/dev/spare", "/dev/store"});
        CHECK(namesOf(bed.engine->storeCandidates("/dev/two")) ==
              Names{"/dev/one", "/dev/spare", "/dev/store"});
    }
    SECTION("not what belongs to a store, or is an origin") {
        const Uuid store = bed.makeStore();
        bed.engine->attach("/dev/two", store, "");
        CHECK(namesOf(bed.engine->storeCandidates("/dev/one")) == Names{"/dev/spare"});
    }
}

TEST_CASE("a volume group with free space could have a store, unless it is on the origin") {
    EngineBed bed;
    useUp(bed.machine, {"/dev/spare", "/dev/store", "/dev/two"});
    bed.machine.addDisk("/dev/disk", kOriginSectors);
    bed.machine.setContents("/dev/disk", "LVM2_member");
    bed.machine.addVolumeGroup("vg", 100, {"/dev/disk"});
    bed.machine.addVolumeGroup("full", 1, {"/dev/disk"});
    bed.machine.addPartition("/dev/one1", "/dev/one");
    bed.machine.setContents("/dev/one1", "LVM2_member");
    bed.machine.setContents("/dev/one", "gpt partition table");
    bed.machine.addVolumeGroup("on-origin", 100, {"/dev/one1"});
    const auto candidates = bed.engine->storeCandidates("/dev/one");
    REQUIRE(namesOf(candidates) == Names{"vg"});
    CHECK(candidates[0].kind == StoreCandidate::Kind::VolumeGroup);
    CHECK(candidates[0].free_bytes == 400ULL << 20);
    CHECK(candidates[0].size_bytes == 64ULL << 20);
    SECTION("a fifth of a large origin, and not more than there is") {
        bed.machine.addDisk("/dev/large", (500ULL << 20) / 512);
        bed.machine.setContents("/dev/large", "ext4");
        CHECK(bed.engine->storeCandidates("/dev/large").at(0).size_bytes == 100ULL << 20);
        bed.machine.resizeDisk("/dev/large", (500ULL << 30) / 512);
        CHECK(bed.engine->storeCandidates("/dev/large").at(0).size_bytes == 400ULL << 20);
    }
    SECTION("an origin in the same group keeps it from nothing") {
        bed.machine.addVolume("vg", "root", 10);
        bed.machine.setContents("/dev/vg/root", "ext4");
        CHECK(namesOf(bed.engine->storeCandidates("/dev/vg/root")) == Names{"on-origin", "vg"});
    }
}

TEST_CASE("a store is made in a volume group, and a volume that an interrupted try left is taken") {
    for (const auto accident :
         {Accident::KillBefore, Accident::KillAfter, Accident::Tear, Accident::Fail}) {
        bool reached_end = false;
        for (unsigned step = 0; !reached_end; ++step) {
            INFO("accident " << static_cast<int>(accident) << " at step " << step);
            EngineBed bed;
            bed.machine.addVolumeGroup("vg", 100);
            const auto make = [&] {
                return bed.engine->createStoreIn("vg", (100ULL << 20) - 1, "main", {});
            };
            bed.machine.plan(accident, step);
            try {
                make();
            } catch (const Killed&) {
            } catch (const Error&) {
            }
            reached_end = !bed.machine.accidentHappened();
            bed.machine.planNothing();
            bed.restart();
            if (bed.engine->stores().empty())
                CHECK_NOTHROW(make());
            REQUIRE(bed.engine->stores().size() == 1);
            CHECK(bed.store().problem.empty());
            CHECK(bed.store().devices.front().size_sectors == (100ULL << 20) / 512);
            CHECK(bed.store().devices.front().path == "/dev/vg/main_cowsnap0");
            CHECK(bed.machine.volumeNames("vg").size() == 1);
            CHECK_NOTHROW(bed.engine->attach("/dev/one", bed.store().uuid, ""));
            REQUIRE(step < 100);
        }
    }
}

TEST_CASE("the volume of a store that was closed is not taken for another one") {
    EngineBed bed;
    bed.machine.addVolumeGroup("vg", 100);
    const Uuid closed = bed.engine->createStoreIn("vg", 100ULL << 20, "main", {});
    bed.engine->closeStore(closed);
    SECTION("whether there are backups of its metadata") {}
    SECTION("or not") {
        REQUIRE(bed.engine->waitForBackups(std::chrono::seconds(10)));
        std::filesystem::remove_all(bed.directory.path() / "backups");
    }
    bed.engine->createStoreIn("vg", 100ULL << 20, "main", {});
    CHECK(bed.store().devices.front().path == "/dev/vg/main_cowsnap1");
    CHECK(bed.engine->openStore({"/dev/vg/main_cowsnap0"}, "old") == closed);
}

TEST_CASE("what cannot be made in a volume group leaves nothing there") {
    EngineBed bed;
    bed.machine.addVolumeGroup("vg", 100);
    const auto make = [&](const std::string& group, std::uint64_t bytes, const std::string& name) {
        return [&bed, group, bytes, name] { bed.engine->createStoreIn(group, bytes, name, {}); };
    };
    checkRefused(bed, ErrorKind::NotFound, "no volume group \"other\"",
                 make("other", 64ULL << 20, "main"));
    checkRefused(bed, ErrorKind::NoSpace, "has 400.0 MiB free", make("vg", 401ULL << 20, "main"));
    checkRefused(bed, ErrorKind::NoSpace, "free", make("vg", UINT64_MAX, "main"));
    checkRefused(bed, ErrorKind::InvalidArgument, "at least 8.0 MiB", make("vg", 1, "main"));
    checkRefused(bed, ErrorKind::InvalidArgument, "'/'", make("vg", 64ULL << 20, "a/b"));
    bed.makeStore();
    checkRefused(bed, ErrorKind::Exists, "--name", make("vg", 64ULL << 20, "main"));
    bed.machine.removeModule();
    CHECK(refusalOf(make("vg", 64ULL << 20, "new")).kind.has_value());
    CHECK(bed.machine.volumeNames("vg").empty());
}

TEST_CASE("physical volumes are read from LVM's report") {
    CHECK(parsePhysicalVolumes(
              R"({"report":[{"vg":[{"pv_name":"/dev/sda3"},{"pv_name":"/dev/sdb"}]}]})") ==
          Names{"/dev/sda3", "/dev/sdb"});
    CHECK(refusalOf([] { parsePhysicalVolumes(R"({"report":[{"vg":[{}]}]})"); }).kind ==
          ErrorKind::Failed);
}

TEST_CASE("the first create takes the only place for a store, when that is agreed to") {
    BusBed bed;
    SECTION("a device") {
        useUp(bed.machine, {"/dev/store", "/dev/two"});
        const CliResult asked = runCli({"create", "/dev/one", "--name", "before-upgrade"});
        CHECK(asked.code != 0);
        CHECK_THAT(asked.errors, Contains("Make the store main on /dev/spare, which is blank"));
        CHECK_THAT(asked.errors, Contains("--yes"));
        CHECK(bed.machine.mappedNames().empty());
        const CliResult done = runCli({"create", "/dev/one", "--name", "before-upgrade", "--yes"});
        INFO(done.errors);
        CHECK(done.code == 0);
        CHECK_THAT(done.output, Contains("created the store main on /dev/spare"));
        CHECK_THAT(done.output, Contains("created before-upgrade of one"));
        CHECK(runCli({"store", "list", "-o", "name,devices", "--no-headings"}).output ==
              "main  /dev/spare\n");
        CHECK(runCli({"rollback", "before-upgrade", "--yes"}).code == 0);
    }
    SECTION("a volume group, also for a set, in JSON") {
        useUp(bed.machine, {"/dev/store", "/dev/two", "/dev/spare"});
        bed.machine.addVolumeGroup("vg", 100);
        const CliResult done =
            runCli({"set", "create", "/dev/one=a", "/dev/two=b", "--yes", "--json"});
        INFO(done.errors);
        CHECK(done.code == 0);
        CHECK(done.output.starts_with("{"));
        CHECK(bed.machine.volumeNames("vg") == Names{"main_cowsnap0"});
        CHECK(bed.machine.snapshotIds().size() == 2);
    }
    SECTION("a dry run makes none") {
        useUp(bed.machine, {"/dev/store", "/dev/two"});
        const CliResult done = runCli({"create", "/dev/one", "--name", "a", "--dry-run"});
        CHECK(done.code == 0);
        CHECK_THAT(done.output, Contains("its first step (CreateStore) can be done"));
        CHECK(bed.machine.mappedNames().empty());
    }
    SECTION("nothing") {
        useUp(bed.machine, {"/dev/store", "/dev/two", "/dev/spare"});
        const CliResult none = runCli({"create", "/dev/one", "--name", "a", "--yes"});
        CHECK(none.code == 3);
        CHECK_THAT(none.errors, Contains("no blank device that is free, and no volume group"));
        CHECK_THAT(none.errors, Contains("snapd-cli store create DEVICE --name main"));
    }
}

TEST_CASE("where there are several places for the first store each is a command that works") {
    BusBed bed;
    bed.machine.addVolumeGroup("vg", 100);
    const CliResult choices = runCli({"create", "/dev/one", "--name", "a", "--yes"});
    CHECK(choices.code == 3);
    CHECK(bed.machine.mappedNames().empty());
    CHECK_THAT(choices.errors, Contains("snapd-cli store create /dev/two --name main\n"));
    CHECK_THAT(choices.errors, Contains("which has 400.0 MiB free"));
    const bool in_group = GENERATE(false, true);
    const auto words = commandIn(choices.errors, in_group ? "snapd-cli store create --volume-group"
                                                          : "snapd-cli store create /dev/spare");
    const CliResult made = runCli(words);
    INFO(made.errors);
    CHECK(made.code == 0);
    CHECK(runCli({"create", "/dev/one", "--name", "a"}).code == 0);
    CHECK(runCli({"store", "list", "-o", "devices", "--no-headings"}).output ==
          (in_group ? "/dev/vg/main_cowsnap0\n" : "/dev/spare\n"));
}

TEST_CASE("store create says what belongs together") {
    BusBed bed;
    bed.machine.addVolumeGroup("vg", 100);
    for (const std::vector<std::string>& more : std::vector<std::vector<std::string>>{
             {},
             {"--volume-group", "vg"},
             {"--volume-size", "64M", "/dev/spare"},
             {"--volume-group", "vg", "--volume-size", "64M", "/dev/spare"}}) {
        std::vector<std::string> words{"store", "create"};
        words.insert(words.end(), more.begin(), more.end());
        CHECK(runCli(words).code == 2);
    }
    const auto fails = [&](const std::vector<std::string>& devices, const Dictionary& options) {
        return bed
            .failureOfCall(
                kRoot, kManager, "CreateStore",
                [&](Message& message) {
                    message.append(Value(devices));
                    message.append(Value(std::string("new")));
                },
                options)
            .message;
    };
    const std::uint64_t bytes = 64ULL << 20;
    CHECK_THAT(fails({}, {{"volume_group", std::string("vg")}}), Contains("belong together"));
    CHECK_THAT(fails({}, {{"volume_bytes", bytes}}), Contains("belong together"));
    CHECK_THAT(
        fails({"/dev/spare"}, {{"volume_group", std::string("vg")}, {"volume_bytes", bytes}}),
        Contains("not on both"));
    CHECK(bed.machine.mappedNames().empty());
}
