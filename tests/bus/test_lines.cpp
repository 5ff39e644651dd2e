// SPDX-License-Identifier: GPL-2.0-or-later
// The parsers of what the kernel module says, with what it must never say.
#include <catch2/catch.hpp>

#include <cerrno>

#include "base/error.h"
#include "dm/device_mapper.h"
#include "dm/kernel_log.h"
#include "dm/lines.h"

using namespace cowsnap;

namespace {

const std::string kUuid = "01234567-89ab-cdef-0123-456789abcdef";

}  // namespace

TEST_CASE("the status of a cow-store is read") {
    const StoreStatus status = parseStoreStatus(kUuid + " active 2048 10/12 512 2 3 4 5");
    CHECK(status.uuid.dashed() == kUuid);
    CHECK(status.state == "active");
    CHECK(status.segment_sectors == 2048);
    CHECK(status.free_segments == 10);
    CHECK(status.total_segments == 12);
    CHECK(status.slot_sectors == 512);
    CHECK(status.origins == 2);
    CHECK(status.snapshots == 3);
    CHECK(status.last_event == 4);
    CHECK(status.damaged_blocks == 5);
    SECTION("a newer module may add words") {
        CHECK(parseStoreStatus(kUuid + " active 2048 10/12 512 2 3 4 5 new 7") == status);
    }
}

TEST_CASE("a wrong status of a cow-store is refused") {
    const auto line =
        GENERATE(as<std::string>{}, "", "x active 2048 1/2 512 0 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef odd 2048 1/2 512 0 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef active -1 1/2 512 0 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef active 2048 12 512 0 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef active 2048 3/2 512 0 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef active 2048 1/2 512 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef active 2048 1/2 512 0 0 0 0x5",
                 "01234567-89ab-cdef-0123-456789abcdef active 99999999999999999999 1/2 512 0 0 0 0",
                 "01234567-89ab-cdef-0123-456789abcdef  active 2048 1/2 512 0 0 0 0");
    CHECK_THROWS_AS(parseStoreStatus(line), Error);
}

TEST_CASE("the status of a cow-origin is read, a wrong one refused") {
    CHECK(parseOriginStatus("7 2 30 4 50") == OriginStatus{7, 2, 30, 4, 50});
    for (const char* const line :
         {"", "0 2 30 4 50", "4294967295 2 30 4 50", "7 2 30 4", "7 2 30 4 x"})
        CHECK_THROWS_AS(parseOriginStatus(line), Error);
}

TEST_CASE("the status of a cow-snap is read, a wrong one refused") {
    CHECK(parseSnapStatus("damaged 7 ro 12") == SnapStatus{"damaged", 7, true, 12});
    CHECK(parseSnapStatus("stale 7 ro 12") == SnapStatus{"stale", 7, true, 12});
    CHECK(parseSnapStatus("active 7 rw 0") == SnapStatus{"active", 7, false, 0});
    for (const char* const line :
         {"", "broken 7 ro 12", "active x ro 12", "active 7 rx 12", "active 7 ro"})
        CHECK_THROWS_AS(parseSnapStatus(line), Error);
}

TEST_CASE("tables are read as they are written") {
    const StoreTable plain{"253:0", 8, {}, {}, {}};
    const StoreTable full{"253:0", 8, 500, 20, 1024};
    CHECK(formatTable(plain) == "253:0 8");
    CHECK(formatTable(full) == "253:0 8 6 full_wait_ms 500 loss_wait_ms 20 segment_sectors 1024");
    CHECK(parseStoreTable(formatTable(plain)) == plain);
    CHECK(parseStoreTable(formatTable(full)) == full);
    CHECK(parseStoreTable("253:0 8 0") == plain);
    const OriginTable origin{"253:1", 3, "8:16"};
    CHECK(formatTable(origin) == "253:1 3 8:16");
    CHECK(parseOriginTable(formatTable(origin)) == origin);
    const OriginTable interposed{"253:1", 3, "8:16", true};
    CHECK(formatTable(interposed) == "253:1 3 8:16 1 interpose");
    CHECK(parseOriginTable(formatTable(interposed)) == interposed);
    const SnapTable writable{"253:1", 3, false};
    const SnapTable read_only{"253:1", 3, true};
    CHECK(formatTable(read_only) == "253:1 3 1 read_only");
    CHECK(parseSnapTable(formatTable(writable)) == writable);
    CHECK(parseSnapTable(formatTable(read_only)) == read_only);
}

TEST_CASE("wrong tables are refused") {
    for (const char* const line :
         {"", "253:0", "253:0 x", "253:0 8 2 full_wait_ms", "253:0 8 1 full_wait_ms 5",
          "253:0 8 1 odd", "253:0 8 2 full_wait_ms 5 more", "253:0 8 99"})
        CHECK_THROWS_AS(parseStoreTable(line), Error);
    for (const char* const line :
         {"", "253:0", "253:0 1", "253:0 0 8:0", "253:0 1 8:0 1 odd", "253:0 1 8:0 x",
          "253:0 1 8:0 2 interpose", "253:0 1 8:0 1 interpose more"})
        CHECK_THROWS_AS(parseOriginTable(line), Error);
    for (const char* const line : {"", "253:0", "253:0 x", "253:0 1 1 odd", "253:0 1 2 read_only"})
        CHECK_THROWS_AS(parseSnapTable(line), Error);
}

TEST_CASE("of what device-mapper logs the cause is told") {
    CHECK(causeIn("table: 253:3: cow-origin: A zoned device cannot be an origin (-EOPNOTSUPP)") ==
          "A zoned device cannot be an origin");
    CHECK(causeIn("table: 253:3: cow-origin: Cause: with a colon (and more)") ==
          "Cause: with a colon (and more)");
    CHECK(causeIn("table: 253:3") == "table: 253:3");
    CHECK(causeIn("cow-snap: create: origin 1 has no cow-origin") ==
          "cow-snap: create: origin 1 has no cow-origin");
    CHECK(causeIn("ioctl: error adding target to table").empty());
    CHECK(errorNumberIn("table: 253:3: cow-origin: Cause (-EOPNOTSUPP)") == EOPNOTSUPP);
    CHECK(errorNumberIn("table: 253:3: cow-origin: Cause (-EBUSY)") == EBUSY);
    CHECK(errorNumberIn("table: 253:3: cow-origin: Cause (-16)") == EBUSY);
    CHECK(errorNumberIn("table: 253:3: cow-origin: Cause (-EODD)") == 0);
    CHECK(errorNumberIn("table: 253:3: cow-origin: Cause (and more)") == 0);
    CHECK(errorNumberIn("") == 0);
}

TEST_CASE("answers to messages are read line by line") {
    CHECK(parseOriginsAnswer("").empty());
    CHECK(parseOriginsAnswer("1 800 1 2\n5 900 0 0\n") ==
          std::vector<OriginLine>{{1, 800, true, 2}, {5, 900, false, 0}});
    CHECK(parseSnapshotsAnswer("4 1 1700000000 9 active 1 20 3\n") ==
          std::vector<SnapshotLine>{{4, 1, 1700000000, 9, "active", true, 20, 3}});
    CHECK(parseSnapshotsAnswer("4 1 1700000000 9 stale 0 20 3\n") ==
          std::vector<SnapshotLine>{{4, 1, 1700000000, 9, "stale", false, 20, 3}});
    CHECK(parseEventsAnswer("1 low_water 5\n2 something_new 0") ==
          std::vector<EventLine>{{1, "low_water", 5}, {2, "something_new", 0}});
}

TEST_CASE("wrong answers are refused") {
    for (const char* const answer :
         {"1 800 1", "1 800 2 2", "0 800 1 2", "1 800 1 2 3", "1 800 1 2\n5 9"})
        CHECK_THROWS_AS(parseOriginsAnswer(answer), Error);
    for (const char* const answer :
         {"4 1 17 9 active 1 20", "4 1 17 9 odd 1 20 3", "4 0 17 9 active 1 20 3",
          "4 1 17 9 active yes 20 3", "4 1 17 9 active 1 20 3 4"})
        CHECK_THROWS_AS(parseSnapshotsAnswer(answer), Error);
    for (const char* const answer : {"1 low_water", "x low_water 5", "1 low_water 5 6"})
        CHECK_THROWS_AS(parseEventsAnswer(answer), Error);
}

TEST_CASE("messages are spelled as the contract says") {
    const std::vector<std::pair<std::uint32_t, std::uint32_t>> members{{10, 1}, {11, 2}};
    const std::vector<std::uint32_t> snapshots{10, 11};
    CHECK(createMessage(members) == "create 10 1 11 2");
    CHECK(deleteMessage(snapshots) == "delete 10 11");
    CHECK(briefMessage(deleteMessage(snapshots)) == "delete 10 11");
    CHECK(briefMessage(deleteMessage(std::vector<std::uint32_t>(1000, 4294967294u))) ==
          "delete 4294967294 4294967294 4294967294 4294967294 ... (996 words more)");
    CHECK(briefMessage(std::string(5000, 'x')).size() < 100);
    CHECK(forgetMessage(3) == "forget 3");
}

TEST_CASE("device-mapper UUIDs are read as they are written") {
    const Uuid uuid = *Uuid::parse(kUuid);
    CHECK(deviceMapperUuid(uuid, "store") == "COWSNAP-0123456789abcdef0123456789abcdef-store");
    const auto parsed = parseDeviceMapperUuid(deviceMapperUuid(uuid, "store"));
    REQUIRE(parsed);
    CHECK(parsed->uuid == uuid);
    CHECK(parsed->role == "store");
    for (const char* const text :
         {"", "LVM-abc", "COWSNAP-", "COWSNAP-0123456789abcdef0123456789abcdef",
          "COWSNAP-0123456789abcdef0123456789abcdef-",
          "COWSNAP-0123456789abcdef0123456789abcdeg-store"})
        CHECK_FALSE(parseDeviceMapperUuid(text));
    for (const char* const text : {"", "8", "8:", ":1", "8:1x", "8:1:2", "-8:1"})
        CHECK_FALSE(DeviceNumber::parse(text));
    CHECK(DeviceNumber::parse("8:1") == DeviceNumber{8, 1});
}
