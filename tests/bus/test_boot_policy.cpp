// SPDX-License-Identifier: GPL-2.0-or-later
// Fail-closed origins: where that is recorded, and what the boot makes of it.
#include <catch2/catch.hpp>

#include "assembly/activation.h"
#include "assembly/boot_policy.h"
#include "bus_bed.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// One store with the fail-closed origin "one" and the fail-open "two", the first with a snapshot.
struct PolicyBed : EngineBed {
    Uuid store_uuid;
    Uuid one;
    Uuid two;
    std::ptrdiff_t told_before = 0;

    PolicyBed() {
        store_uuid = makeStore();
        one = engine->attach("/dev/one", store_uuid, "", {}, {}, BootPolicy::FailClosed);
        two = engine->attach("/dev/two", store_uuid, "");
        engine->createSnapshots({{one, "a"}}, {});
    }

    BootPolicy policyOf(const Uuid& origin) const {
        return store().metadata.origin(origin)->boot_policy;
    }
    std::vector<RegisteredStore> registered() const {
        return StoreRegistry(directory.path()).read();
    }
    /// The names of the origins that the boot knows as fail-closed.
    std::vector<std::string> closed() const {
        std::vector<std::string> names;
        for (const auto& store : registered())
            for (const auto& origin : store.closed)
                names.push_back(origin.name);
        return names;
    }
    /// The devices that udev was told to look at again since the machine was shut down.
    std::vector<std::string> announced() const {
        const auto all = machine.announced();
        return {all.begin() + told_before, all.end()};
    }
    void shutDown() {
        engine.reset();
        machine.reboot();
        told_before = std::ssize(machine.announced());
    }
    Activation activate() {
        return activateStores(machine, machine, LossRecords(directory.path()), registered());
    }
    WithheldOrigins file() const { return WithheldOrigins(directory.path() / "run"); }
    std::vector<std::string> withheldNames() const {
        std::vector<std::string> names;
        for (const auto& entry : file().read())
            names.push_back(entry.origin.name);
        return names;
    }
    std::string withheldReason(const std::string& path, const std::set<std::string>& links = {},
                               std::optional<DeviceNumber> root = std::nullopt) {
        const auto found = withheldBelow(machine, file().read(), path, links, root);
        return found ? found->reason : std::string();
    }
};

using Texts = std::vector<std::string>;

}  // namespace

TEST_CASE("a store that was extended since the boot's list was made is started all the same") {
    PolicyBed bed;
    const auto older = bed.registered();
    bed.engine->extendStore(bed.store_uuid, {"/dev/spare"});
    bed.shutDown();
    const auto activate = [&] {
        return activateStores(bed.machine, bed.machine, LossRecords(bed.directory.path()), older);
    };
    SECTION("and its origins are attached") {
        CHECK(activate().failed == 0);
        bed.restart();
        CHECK(bed.store().devices.size() == 2);
        CHECK(bed.store().origins.at(1).mapped);
    }
    SECTION("or waited for, if its new device is not there yet") {
        bed.machine.removeDisk("/dev/spare");
        const Activation result = activate();
        CHECK(result.missing_stores == 1);
        CHECK(result.withheld.size() == 1);
        CHECK(bed.machine.mappedNames().empty());
    }
    SECTION("but not if the list is of other devices") {
        auto others = older;
        others.front().devices.front().serial = "other-serial";
        CHECK(activateStores(bed.machine, bed.machine, LossRecords(bed.directory.path()), others)
                  .failed == 1);
        CHECK(bed.machine.mappedNames().empty());
    }
}

TEST_CASE("a boot policy is kept in the store and in the list that the boot reads") {
    PolicyBed bed;
    CHECK(bed.policyOf(bed.one) == BootPolicy::FailClosed);
    CHECK(bed.policyOf(bed.two) == BootPolicy::FailOpen);
    CHECK(bed.closed() == Texts{"one"});
    const ClosedOrigin known = bed.registered().front().closed.front();
    CHECK(known.uuid == bed.one);
    CHECK(known.mapped_name == "cowsnap-one");
    CHECK(known.device == bed.machine.describe("/dev/one").identity);
    SECTION("over a restart and a reboot") {
        bed.restart();
        CHECK(bed.policyOf(bed.one) == BootPolicy::FailClosed);
        bed.reboot();
        CHECK(bed.policyOf(bed.one) == BootPolicy::FailClosed);
        CHECK(bed.closed() == Texts{"one"});
    }
    SECTION("until it is changed") {
        bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed);
        CHECK(bed.closed() == Texts{"one", "two"});
        bed.engine->setBootPolicy(bed.one, BootPolicy::FailOpen);
        CHECK(bed.closed() == Texts{"two"});
        bed.restart();
        CHECK(bed.policyOf(bed.one) == BootPolicy::FailOpen);
        CHECK(bed.policyOf(bed.two) == BootPolicy::FailClosed);
    }
    SECTION("until the origin is detached") {
        bed.engine->deleteSnapshots({*bed.snapshotNamed("a")});
        bed.engine->detach(bed.one);
        CHECK(bed.closed().empty());
    }
    SECTION("when it is attached again, unless told otherwise") {
        bed.machine.remove("cowsnap-one", Visibility::Visible);
        bed.engine->attach("/dev/one", bed.store_uuid, "");
        CHECK(bed.policyOf(bed.one) == BootPolicy::FailClosed);
        bed.machine.remove("cowsnap-one", Visibility::Visible);
        bed.engine->attach("/dev/one", bed.store_uuid, "", {}, {}, BootPolicy::FailOpen);
        CHECK(bed.policyOf(bed.one) == BootPolicy::FailOpen);
        CHECK(bed.closed().empty());
    }
    SECTION("when the store is opened on another machine") {
        bed.shutDown();
        StoreRegistry(bed.directory.path()).remove(bed.store_uuid);
        bed.restart();
        CHECK(bed.closed().empty());
        bed.engine->openStore({"/dev/store"}, "");
        CHECK(bed.closed() == Texts{"one"});
    }
    SECTION("when the store is extended") {
        bed.engine->extendStore(bed.store_uuid, {"/dev/spare"});
        CHECK(bed.closed() == Texts{"one"});
        CHECK(bed.registered().front().devices.size() == 2);
    }
    SECTION("while the store is missing") {
        bed.shutDown();
        bed.machine.removeDisk("/dev/store");
        bed.restart();
        CHECK_FALSE(bed.store().problem.empty());
        CHECK(bed.closed() == Texts{"one"});
    }
    checkRefused(bed, ErrorKind::NotFound, "no origin",
                 [&] { bed.engine->setBootPolicy(Uuid::random(), BootPolicy::FailClosed); });
}

TEST_CASE("a boot policy that the boot cannot know is not acknowledged") {
    PolicyBed bed;
    const auto list = bed.directory.path() / "stores.json";
    std::filesystem::rename(list, bed.directory.path() / "elsewhere");
    std::filesystem::create_directory(list);
    checkRefused(bed, ErrorKind::Failed, "could not be written",
                 [&] { bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed); });
    std::filesystem::remove(list);
    std::filesystem::rename(bed.directory.path() / "elsewhere", list);
    bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed);
    CHECK(bed.closed() == Texts{"one", "two"});
}

TEST_CASE("a fail-closed origin is withheld until it is attached") {
    PolicyBed bed;
    bed.shutDown();
    SECTION("all is well") {
        withhold(bed.file(), withheldOf(bed.registered(), bed.machine.devices(), "not tried"), "");
        CHECK(bed.withheldReason("/dev/one") == "not tried");
        const Activation result = bed.activate();
        withhold(bed.file(), result.withheld, "");
        CHECK(result.failed == 0);
        CHECK(result.withheld.empty());
        CHECK(bed.withheldNames().empty());
        CHECK(bed.announced() == Texts{"/dev/one"});
    }
    SECTION("its store is missing") {
        bed.machine.removeDisk("/dev/store");
        const Activation result = bed.activate();
        CHECK(result.missing_stores == 1);
        CHECK(result.missing_origins == 0);
        withhold(bed.file(), result.withheld, "quiet");
        CHECK(bed.withheldNames() == Texts{"one"});
        CHECK_THAT(bed.withheldReason("/dev/one"),
                   Contains("the store main is not activated") && Contains("/dev/store"));
        CHECK(bed.withheldReason("/dev/two").empty());
    }
    SECTION("the metadata of its store is damaged") {
        bed.machine.damageSlot(0);
        bed.machine.damageSlot(1);
        withhold(bed.file(), bed.activate().withheld, "");
        CHECK_THAT(bed.withheldReason("/dev/one"), Contains("metadata"));
    }
    SECTION("its device is missing, and turns up under another name") {
        bed.machine.renameDisk("/dev/one", "/dev/elsewhere");
        bed.machine.resizeDisk("/dev/elsewhere", kOriginSectors - 8);
        const Activation result = bed.activate();
        CHECK(result.missing_stores == 0);
        CHECK(result.missing_origins == 1);
        withhold(bed.file(), result.withheld, "");
        CHECK_THAT(bed.withheldReason("/dev/elsewhere"), Contains("cannot find the device"));
        bed.machine.resizeDisk("/dev/elsewhere", kOriginSectors);
        withhold(bed.file(), bed.activate().withheld, "");
        CHECK(bed.withheldNames().empty());
        CHECK(bed.announced() == Texts{"/dev/elsewhere"});
    }
    SECTION("its device is in use already") {
        bed.machine.setUser("/dev/one", "mounted on /one");
        withhold(bed.file(), bed.activate().withheld, "");
        CHECK_THAT(bed.withheldReason("/dev/one"), Contains("mounted on /one"));
    }
    SECTION("this boot goes on all the same") {
        bed.machine.removeDisk("/dev/store");
        withhold(bed.file(), bed.activate().withheld, "");
        CHECK(bed.withheldNames() == Texts{"one"});
        withhold(bed.file(), bed.activate().withheld, "ro cowsnap.policy=fail-open quiet");
        CHECK(bed.withheldNames().empty());
    }
}

TEST_CASE("what the metadata says of the policy counts, if it can be read") {
    PolicyBed bed;
    const RegisteredStore old = bed.registered().front();
    bed.engine->setBootPolicy(bed.one, BootPolicy::FailOpen);
    bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed);
    bed.shutDown();
    StoreRegistry(bed.directory.path()).put(old);
    bed.machine.setUser("/dev/one", "mounted on /one");
    bed.machine.setUser("/dev/two", "mounted on /two");
    withhold(bed.file(), bed.activate().withheld, "");
    CHECK(bed.withheldNames() == Texts{"two"});
}

TEST_CASE("while a rollback copies back the boot goes on with the origin only") {
    PolicyBed bed;
    bed.engine->setBootPolicy(bed.one, BootPolicy::FailOpen);
    bed.engine->rollback(*bed.snapshotNamed("a"), {"undo"});
    CHECK(bed.closed().empty());
    bed.shutDown();
    bed.machine.setUser("/dev/one", "mounted on /one");
    withhold(bed.file(), bed.activate().withheld, "");
    CHECK(bed.withheldNames() == Texts{"one"});
}

TEST_CASE("a daemon that attaches a fail-closed origin later has udev look again") {
    PolicyBed bed;
    bed.shutDown();
    bed.machine.addPartition("/dev/part", "/dev/one");
    bed.restart();
    CHECK(bed.announced() == Texts{"/dev/one", "/dev/part"});
    bed.engine->setBootPolicy(bed.two, BootPolicy::FailClosed);
    bed.machine.remove("cowsnap-two", Visibility::Visible);
    bed.engine->attach("/dev/two", bed.store_uuid, "");
    CHECK(bed.announced() == Texts{"/dev/one", "/dev/part", "/dev/two"});
}

TEST_CASE("what stands on a withheld device is withheld, what the root stands on is not") {
    PolicyBed bed;
    const ClosedOrigin one = bed.registered().front().closed.front();
    bed.shutDown();
    withhold(bed.file(), {{one, "why"}}, "");
    bed.machine.addDisk("/dev/volume", 4096);
    bed.machine.addPartition("/dev/part", "/dev/one");
    bed.machine.putOn("/dev/volume", "/dev/part");
    for (const char* const path : {"/dev/one", "/dev/part", "/dev/volume"})
        CHECK(bed.withheldReason(path) == "why");
    CHECK(bed.withheldReason("/dev/mapper/cowsnap-one") == "why");
    CHECK(bed.withheldReason("/dev/two").empty());
    const DeviceNumber volume = bed.machine.describe("/dev/volume").number;
    for (const char* const path : {"/dev/one", "/dev/part", "/dev/volume"})
        CHECK(bed.withheldReason(path, {}, volume).empty());
    const DeviceNumber two = bed.machine.describe("/dev/two").number;
    CHECK(bed.withheldReason("/dev/part", {}, two) == "why");
}

TEST_CASE("a device without serial number is withheld by its link or its path") {
    PolicyBed bed;
    ClosedOrigin origin = bed.registered().front().closed.front();
    bed.machine.addDisk("/dev/plain", 4096);
    origin.device = {"/dev/plain", "/dev/disk/by-id/x-plain", "", 0, 4096};
    withhold(bed.file(), {{origin, "why"}}, "");
    CHECK(bed.withheldReason("/dev/plain") == "why");
    bed.machine.renameDisk("/dev/plain", "/dev/renamed");
    CHECK(bed.withheldReason("/dev/renamed").empty());
    CHECK(bed.withheldReason("/dev/renamed", {"/dev/disk/by-id/x-plain", "/dev/disk/y"}) == "why");
    CHECK(bed.withheldReason("/dev/renamed", {"/dev/disk/by-id/x-other"}).empty());
}

TEST_CASE("the word on the kernel's command line is that word alone") {
    CHECK(failsOpenNow("root=/dev/sda1 cowsnap.policy=fail-open\n"));
    for (const char* const other :
         {"", "cowsnap.policy=fail-closed", "cowsnap.policy=fail-opener",
          "cowsnap.policy=", "xcowsnap.policy=fail-open", "init=/x-cowsnap.policy=fail-open"})
        CHECK_FALSE(failsOpenNow(other));
}

TEST_CASE("a damaged list of withheld devices is an error, and none is none") {
    TemporaryDirectory directory;
    const WithheldOrigins file(directory.path());
    CHECK(file.read().empty());
    CHECK_NOTHROW(file.write({}));
    for (const char* const text :
         {"", "{", "[]", R"({"schema": 1})", R"({"schema": 9, "origins": []})",
          R"({"schema": 1, "origins": [{"uuid": "x"}]})"}) {
        directory.write("withheld.json", text);
        CHECK(refusalOf([&] { file.read(); }).kind.has_value());
    }
}

TEST_CASE("origins are waited for if the root file system may stand on one that is missing") {
    PolicyBed bed;
    CHECK_FALSE(mayStandOnMissing(bed.machine, "/dev/one"));
    CHECK(mayStandOnMissing(bed.machine, "/dev/mapper/cowsnap-root"));
    CHECK(mayStandOnMissing(bed.machine, "UUID=5f0b1c52-7d0e-4f25-9c43-0c0a5e6b1d11"));
    CHECK(mayStandOnMissing(bed.machine, ""));
    bed.machine.setContents("/dev/one", "ext4");
    CHECK_FALSE(mayStandOnMissing(bed.machine, "/dev/one"));
    bed.machine.setContents("/dev/one", "btrfs");
    CHECK(mayStandOnMissing(bed.machine, "/dev/one"));
}

TEST_CASE("cowsnap-activate needs no module when all stores are closed") {
    const TemporaryDirectory directory;
    StoreRegistry(directory.path()).put({Uuid::random(), "main", {}, {}});
    const auto activate = [&] {
        return runProgram({COWSNAP_ACTIVATE, "--state-directory", directory.path(),
                           "--run-directory", directory.path() / "run"});
    };
    CHECK(activate().code != 0);
    StoreRegistry(directory.path()).remove(StoreRegistry(directory.path()).read().front().uuid);
    CHECK(activate().code == 0);
}

TEST_CASE("cowsnap-activate takes what the initramfs has left while /var is not mounted") {
    PolicyBed bed;
    const auto state = bed.directory.path() / "unmounted";
    const auto withheld = [&] {
        const CliResult result =
            runProgram({COWSNAP_ACTIVATE, "--state-directory", state, "--run-directory",
                        bed.directory.path(), "--withhold"});
        CHECK(result.code == 0);
        return WithheldOrigins(bed.directory.path()).read().size();
    };
    CHECK(withheld() == 1);
    std::filesystem::create_directory(state);
    CHECK(withheld() == 0);
}

TEST_CASE("cowsnap-activate withholds before udev, and tells of a device whether it is withheld") {
    PolicyBed bed;
    RegisteredStore store = bed.registered().front();
    // Mapped devices of a name that this machine does not have.
    store.closed.front().mapped_name = "cowsnap-test-boot-policy";
    StoreRegistry(bed.directory.path()).put(store);
    const auto ask = [&](std::vector<std::string> words) {
        words.insert(words.begin(), {COWSNAP_ACTIVATE, "--state-directory", bed.directory.path(),
                                     "--run-directory", bed.directory.path() / "run"});
        return runProgram(words);
    };
    const std::string device = "/dev/mapper/cowsnap-test-boot-policy";
    CHECK(ask({"--withheld", device}).code == 3);
    CHECK(ask({"--withhold"}).code == 0);
    const CliResult withheld = ask({"--withheld", device});
    CHECK(withheld.code == 0);
    CHECK_THAT(withheld.output,
               Contains("the origin one (/dev/one) is fail-closed and not attached") &&
                   Contains("cowsnap.policy=fail-open"));
    for (const char* const odd : {"/dev/null", "", "relative", "/nonexistent"})
        CHECK(ask({"--withheld", odd}).code == 1);
    CHECK(ask({"--withhold", "--withheld", device}).code == 2);
    bed.directory.write("run/withheld.json", "{");
    CHECK(ask({"--withheld", device}).code == 1);
    bed.engine->setBootPolicy(bed.one, BootPolicy::FailOpen);
    CHECK(ask({"--withhold"}).code == 0);
    CHECK(ask({"--withheld", device}).code == 3);
}
