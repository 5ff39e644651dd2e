// SPDX-License-Identifier: GPL-2.0-or-later
// Metadata slots survive damage and torn writes; metadata that makes no sense is refused.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <set>

#include "base/error.h"
#include "fake_machine.h"
#include "meta/metadata.h"
#include "meta/registry.h"
#include "meta/slots.h"
#include "temporary_directory.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

constexpr std::uint64_t kSlotBytes = 8192;
const Uuid kStore = *Uuid::parse("01234567-89ab-cdef-0123-456789abcdef");

/// A disk stands for the cow-store's device: both are just blocks.
struct SlotBed {
    FakeMachine machine;
    SlotBed() { machine.addDisk("/dev/slots", 64); }
    MetadataSlots slots(const Uuid& store = kStore) {
        return {machine, "/dev/slots", store, kSlotBytes};
    }
    void damage(unsigned slot, std::size_t byte) {
        auto block = machine.read("/dev/slots", slot * kSlotBytes, 4096);
        block[byte] = block[byte] ^ std::byte{1};
        machine.write("/dev/slots", slot * kSlotBytes, block);
    }
};

ErrorKind kindOf(const std::function<void()>& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.kind();
    }
    FAIL("no error");
    return ErrorKind::Failed;
}

Metadata sample() {
    Metadata metadata;
    metadata.store = kStore;
    metadata.name = "main";
    metadata.devices.push_back({"/dev/vdb", "/dev/disk/by-id/x", "serial", 0, 4096});
    metadata.full_wait_ms = 5;
    metadata.next_origin_id = 2;
    metadata.next_snapshot_id = 2;
    OriginRecord origin;
    origin.uuid = Uuid::random();
    origin.id = 1;
    origin.name = "vdc";
    origin.device = {"/dev/vdc", "", "", 0, 800};
    origin.mapped_name = "cowsnap-vdc";
    metadata.origins.push_back(origin);
    SnapshotRecord snapshot;
    snapshot.uuid = Uuid::random();
    snapshot.id = 1;
    snapshot.name = "before";
    snapshot.origin = origin.uuid;
    snapshot.created = 7;
    snapshot.set = 3;
    snapshot.writable = true;
    snapshot.description = "ä";
    snapshot.consistency = Consistency::FileSystem;
    snapshot.tags = {"nightly", "ü"};
    snapshot.expires = 77;
    metadata.snapshots.push_back(snapshot);
    return metadata;
}

}  // namespace

TEST_CASE("blank slots are fresh, and the newest write is read") {
    SlotBed bed;
    auto slots = bed.slots();
    CHECK(slots.read().fresh);
    for (const char* const body : {"one", "two", "three"}) {
        slots.write(1, body);
        const SlotContents contents = bed.slots().read();
        CHECK_FALSE(contents.fresh);
        CHECK(contents.body == body);
        CHECK(contents.one_damaged == (body == std::string("one")));
    }
    CHECK(bed.slots().read().generation == 3);
}

TEST_CASE("with one slot damaged the other one is used, and the damaged one overwritten next") {
    SlotBed bed;
    auto slots = bed.slots();
    slots.read();
    slots.write(1, "one");
    slots.write(1, "two");
    const std::size_t byte = GENERATE(0u, 9u, 13u, 20u, 33u, 41u, 66u);
    bed.damage(1, byte);
    auto again = bed.slots();
    const SlotContents contents = again.read();
    CHECK(contents.one_damaged);
    CHECK(contents.body == "one");
    again.write(1, "three");
    const SlotContents repaired = bed.slots().read();
    CHECK_FALSE(repaired.one_damaged);
    CHECK(repaired.body == "three");
}

TEST_CASE("with both slots damaged nothing is read and nothing overwritten") {
    SlotBed bed;
    auto slots = bed.slots();
    slots.read();
    slots.write(1, "one");
    slots.write(1, "two");
    bed.damage(0, 5);
    bed.damage(1, 5);
    auto again = bed.slots();
    CHECK(kindOf([&] { again.read(); }) == ErrorKind::MetadataCorrupt);
    const auto before = bed.machine.read("/dev/slots", 0, 2 * kSlotBytes);
    CHECK(kindOf([&] { again.write(1, "three"); }) == ErrorKind::MetadataCorrupt);
    CHECK(bed.machine.read("/dev/slots", 0, 2 * kSlotBytes) == before);
}

TEST_CASE("a torn write leaves the metadata before it") {
    SlotBed bed;
    auto slots = bed.slots();
    slots.read();
    slots.write(1, std::string(5000, 'a'));
    slots.write(1, std::string(5000, 'b'));
    bed.machine.plan(Accident::Tear, 0);
    CHECK_THROWS_AS(slots.write(1, std::string(5000, 'c')), Killed);
    CHECK(bed.slots().read().body == std::string(5000, 'b'));
}

TEST_CASE("slots of another store are damage, and too much metadata is NoSpace") {
    SlotBed bed;
    auto slots = bed.slots();
    slots.read();
    slots.write(1, "one");
    slots.write(1, "two");
    CHECK(kindOf([&] { slots.write(1, std::string(kSlotBytes - 63, 'x')); }) == ErrorKind::NoSpace);
    CHECK(bed.slots().read().body == "two");
    CHECK_NOTHROW(slots.write(1, std::string(kSlotBytes - 64, 'x')));
    auto other = bed.slots(Uuid::random());
    CHECK(kindOf([&] { other.read(); }) == ErrorKind::MetadataCorrupt);
}

TEST_CASE("metadata is read as it was written") {
    const Metadata metadata = sample();
    const Metadata again = parseMetadata(kMetadataSchema, formatMetadata(metadata));
    CHECK(formatMetadata(again) == formatMetadata(metadata));
    CHECK(again.snapshots.front().description == "ä");
    CHECK(again.full_wait_ms == metadata.full_wait_ms);
    CHECK(again.snapshots.front().consistency == Consistency::FileSystem);
    CHECK(again.snapshots.front().tags == metadata.snapshots.front().tags);
    CHECK(again.snapshots.front().expires == 77);
}

TEST_CASE(
    "what was rolled back, and what was cancelled, is read again and needs no other program") {
    Metadata metadata = sample();
    OriginRecord& origin = metadata.origins[0];
    CHECK_THAT(formatMetadata(metadata),
               !Catch::Contains("rolled_back") && !Catch::Contains("cancelled"));
    origin.rolled_back = {Uuid::random(), Uuid::random()};
    origin.rollback = {Uuid::random(), 9, Uuid::random(), "undo"};
    CHECK_THAT(formatMetadata(metadata), !Catch::Contains("cancelled"));
    origin.rollback->cancelled = true;
    CHECK(metadataSchema(metadata) == 1);
    const OriginRecord again = parseMetadata(1, formatMetadata(metadata)).origins[0];
    REQUIRE(again.rolled_back.has_value());
    CHECK(again.rolled_back->target == origin.rolled_back->target);
    CHECK(again.rolled_back->undo == origin.rolled_back->undo);
    REQUIRE(again.rollback.has_value());
    CHECK(again.rollback->cancelled);
}

TEST_CASE("only metadata with an interposed origin needs a program that knows of them") {
    Metadata metadata = sample();
    CHECK(metadataSchema(metadata) == 1);
    // As the version before wrote it.
    CHECK_THAT(formatMetadata(metadata), !Catch::Contains("method"));
    CHECK(parseMetadata(1, formatMetadata(metadata)).origins[0].method == AttachMethod::Stacked);
    metadata.origins[0].method = AttachMethod::Interposed;
    CHECK(metadataSchema(metadata) == 2);
    CHECK(parseMetadata(2, formatMetadata(metadata)).origins[0].method == AttachMethod::Interposed);
    std::string json = formatMetadata(metadata);
    json.replace(json.find("interposed"), 10, "glued");
    CHECK(kindOf([&] { parseMetadata(2, json); }) == ErrorKind::MetadataCorrupt);
}

TEST_CASE("only metadata with a held snapshot needs a program that knows of holds") {
    Metadata metadata = sample();
    CHECK(metadataSchema(metadata) == 1);
    CHECK_THAT(formatMetadata(metadata), !Catch::Contains("holds"));
    metadata.snapshots[0].holds = {"backup", "audit"};
    CHECK(metadataSchema(metadata) == 3);
    CHECK(parseMetadata(3, formatMetadata(metadata)).snapshots[0].holds ==
          metadata.snapshots[0].holds);
    metadata.origins[0].method = AttachMethod::Interposed;
    CHECK(metadataSchema(metadata) == 3);
    metadata.snapshots[0].holds.clear();
    CHECK(metadataSchema(metadata) == 2);
}

TEST_CASE("only metadata with a fail-closed origin needs a program that knows of boot policies") {
    Metadata metadata = sample();
    CHECK(metadataSchema(metadata) == 1);
    CHECK_THAT(formatMetadata(metadata), !Catch::Contains("boot_policy"));
    CHECK(parseMetadata(1, formatMetadata(metadata)).origins[0].boot_policy ==
          BootPolicy::FailOpen);
    metadata.origins[0].boot_policy = BootPolicy::FailClosed;
    CHECK(metadataSchema(metadata) == 4);
    CHECK(parseMetadata(4, formatMetadata(metadata)).origins[0].boot_policy ==
          BootPolicy::FailClosed);
    metadata.snapshots[0].holds = {"backup"};
    CHECK(metadataSchema(metadata) == 4);
    std::string json = formatMetadata(metadata);
    json.replace(json.find("fail-closed"), 11, "fail-slowly");
    CHECK(kindOf([&] { parseMetadata(4, json); }) == ErrorKind::MetadataCorrupt);
}

TEST_CASE("metadata that makes no sense is MetadataCorrupt") {
    const auto spoiled = [](const std::function<void(Metadata&)>& spoil) {
        Metadata metadata = sample();
        spoil(metadata);
        const std::string json = formatMetadata(metadata);
        return kindOf([&] { parseMetadata(kMetadataSchema, json); });
    };
    CHECK(spoiled([](Metadata& m) { m.name = "a/b"; }) == ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.origins[0].id = 0; }) == ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.origins[0].mapped_name = "a/b"; }) ==
          ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.origins.push_back(m.origins[0]); }) ==
          ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.snapshots.push_back(m.snapshots[0]); }) ==
          ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.snapshots[0].origin = Uuid::random(); }) ==
          ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.snapshots[0].name = ""; }) == ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.snapshots[0].tags = {"a/b"}; }) ==
          ErrorKind::MetadataCorrupt);
    CHECK(spoiled([](Metadata& m) { m.snapshots[0].holds = {""}; }) == ErrorKind::MetadataCorrupt);
    std::string twice = formatMetadata(sample());
    twice.replace(twice.find("\"nightly\""), 9, "\"ü\"");
    CHECK(kindOf([&] { parseMetadata(kMetadataSchema, twice); }) == ErrorKind::MetadataCorrupt);
    for (const char* const json : {"", "{", "[]", "{}", "{\"store\": 5}", "null"})
        CHECK(kindOf([&] { parseMetadata(kMetadataSchema, json); }) == ErrorKind::MetadataCorrupt);
    CHECK(kindOf([&] { parseMetadata(kMetadataSchema + 1, "{}"); }) == ErrorKind::NotSupported);
}

TEST_CASE("a number in metadata that is none, or does not fit, is MetadataCorrupt") {
    const std::string good = formatMetadata(sample());
    const auto with = [&](const std::string& key, const std::string& value) {
        const auto at = good.find("\"" + key + "\":") + key.size() + 3;
        std::string json = good;
        return json.replace(at, json.find_first_of(",}", at) - at, value);
    };
    parseMetadata(kMetadataSchema, with("created", "18446744073709551615"));
    for (const char* const number :
         {"8.33333e+69", "1.5", "1.0", "-1", "true", "\"1\"", "null", "18446744073709551616"}) {
        CAPTURE(number);
        for (const char* const key : {"created", "set", "size_sectors", "next_origin_id"})
            CHECK(kindOf([&] { parseMetadata(kMetadataSchema, with(key, number)); }) ==
                  ErrorKind::MetadataCorrupt);
    }
    CHECK(kindOf([&] { parseMetadata(kMetadataSchema, with("partition", "4294967296")); }) ==
          ErrorKind::MetadataCorrupt);
}

TEST_CASE("the registry keeps stores over restarts and refuses a damaged file") {
    TemporaryDirectory directory;
    const StoreRegistry registry(directory.path() / "state");
    CHECK(registry.read().empty());
    registry.put({kStore, "main", {{"/dev/vdb", "", "serial", 0, 4096}}});
    registry.put({Uuid::random(), "other", {}});
    registry.put(
        {kStore, "main", {{"/dev/vdb", "", "serial", 0, 4096}, {"/dev/vdd", "", "", 2, 8}}});
    auto stores = StoreRegistry(directory.path() / "state").read();
    REQUIRE(stores.size() == 2);
    CHECK(stores[0].devices.size() == 2);
    CHECK(stores[0].devices[1] == DeviceIdentity{"/dev/vdd", "", "", 2, 8});
    const ClosedOrigin closed{Uuid::random(), "ä", "cowsnap-x", {"/dev/vdc", "", "s", 0, 8}};
    registry.put({kStore, "main", {}, {closed}});
    CHECK(registry.read()[0].closed == std::vector{closed});
    registry.remove(kStore);
    CHECK(registry.read().size() == 1);
    for (const char* const text :
         {"", "{", "{\"schema\": 1}",
          "{\"schema\": 1, \"stores\": [{\"uuid\": \"x\", \"name\": \"\"}]}",
          "{\"schema\": 1, \"stores\": [{\"uuid\": \"01234567-89ab-4def-8123-000000000000\", "
          "\"name\": \"\", \"devices\": [], \"fail_closed\": [{}]}]}"}) {
        directory.write("state/stores.json", text);
        CHECK(kindOf([&] { registry.read(); }) == ErrorKind::Failed);
    }
    directory.write("state/stores.json", "{\"schema\": 9, \"stores\": []}");
    CHECK(kindOf([&] { registry.read(); }) == ErrorKind::NotSupported);
}

TEST_CASE("a device is found again by its serial, and not taken for another one") {
    FakeMachine machine;
    machine.addDisk("/dev/vdb", 4096, "one");
    machine.addDisk("/dev/vdc", 4096, "two");
    const DeviceIdentity identity = machine.describe("/dev/vdb").identity;
    machine.renameDisk("/dev/vdb", "/dev/vdx");
    CHECK(findDevice(machine, identity).identity.path == "/dev/vdx");
    machine.renameDisk("/dev/vdc", "/dev/vdb");
    CHECK(findDevice(machine, identity).identity.path == "/dev/vdx");
    machine.resizeDisk("/dev/vdx", 2048);
    try {
        findDevice(machine, identity);
        FAIL("a smaller device was taken");
    } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::NotFound);
        CHECK_THAT(error.what(), Catch::Contains("smaller than before") &&
                                     Catch::Contains("another serial number"));
    }
}
