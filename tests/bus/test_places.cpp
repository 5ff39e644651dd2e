// SPDX-License-Identifier: GPL-2.0-or-later
// Where in an origin something begins that is written as a device of its own, and that the module
// is told.
#include <catch2/catch.hpp>

#include <fmt/format.h>

#include <algorithm>

#include "assembly/places.h"
#include "engine_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

/// A mapped device over a part of another one.
void mapPart(EngineBed& bed, const std::string& name, const std::string& lower,
             std::uint64_t start) {
    constexpr std::uint64_t length = 1024;
    bed.machine.putTable(
        name, {{0, length, "linear",
                fmt::format("{} {}", bed.machine.describe(lower).number.text(), start)}});
}

std::vector<Place> placesOn(EngineBed& bed, const std::string& path) {
    return placesIn(bed.machine, bed.machine, bed.machine.describe(path).number);
}

std::vector<std::string> watched(EngineBed& bed) {
    std::vector<std::string> messages = bed.machine.messages();
    std::erase_if(messages, [](const auto& text) { return !text.starts_with("watch"); });
    return messages;
}

}  // namespace

TEST_CASE("a partition begins where it does on its disk, and what is on it behind that") {
    EngineBed bed;
    CHECK(placesOn(bed, "/dev/one").empty());
    bed.machine.addPartition("/dev/one1", "/dev/one");
    bed.machine.addPartition("/dev/one2", "/dev/one");
    CHECK(placesOn(bed, "/dev/one") == std::vector<Place>{{2048, false}, {4096, false}});
    mapPart(bed, "volume", "/dev/one2", 384);
    mapPart(bed, "first", "/dev/one2", 0);  // begins with its partition
    CHECK(placesOn(bed, "/dev/one") ==
          std::vector<Place>{{2048, false}, {4096, false}, {4480, false}});
    CHECK(placesOn(bed, "/dev/one2") == std::vector<Place>{{384, false}});
    CHECK(placesOn(bed, "/dev/one1").empty());
}

TEST_CASE("what is in a container is encrypted, and so is what stands on that") {
    EngineBed bed;
    const std::string number = bed.machine.describe("/dev/one").number.text();
    bed.machine.putTable(
        "secret", {{0, 8192, "crypt",
                    "aes-xts-plain64 :64:logon:key 0 " + number + " 32768 1 allow_discards"}});
    CHECK(placesOn(bed, "/dev/one") == std::vector<Place>{{32768, true}});
    mapPart(bed, "root", "/dev/mapper/secret", 2048);
    CHECK(placesOn(bed, "/dev/one") == std::vector<Place>{{32768, true}, {34816, true}});
    CHECK(placesOn(bed, "/dev/mapper/secret") == std::vector<Place>{{2048, false}});
}

TEST_CASE("what is not on the device as it is has no place") {
    EngineBed bed;
    const std::string one = bed.machine.describe("/dev/one").number.text();
    const std::string two = bed.machine.describe("/dev/two").number.text();
    SECTION("only its later part is") {
        bed.machine.putTable(
            "volume", {{0, 1024, "linear", two + " 384"}, {1024, 1024, "linear", one + " 8192"}});
        CHECK(placesOn(bed, "/dev/one").empty());
        CHECK(placesOn(bed, "/dev/two") == std::vector<Place>{{384, false}});
    }
    SECTION("it is in stripes") {
        bed.machine.putTable("volume",
                             {{0, 2048, "striped", "2 128 " + one + " 384 " + two + " 0"}});
        CHECK(placesOn(bed, "/dev/one").empty());
    }
}

TEST_CASE("a create tells the module where something begins in its origins") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid two = bed.engine->attach("/dev/two", store, "");
    bed.machine.addPartition("/dev/one1", "/dev/one");
    bed.machine.setUser("/dev/one", "mounted on /home");
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    bed.engine->createSnapshots({{two, "a"}}, {});
    CHECK(watched(bed).empty());
    bed.engine->createSnapshots({{one, "b"}, {two, "c"}}, {});
    CHECK(watched(bed) == std::vector<std::string>{"watch 2 2048"});
    CHECK(bed.machine.messages().back().starts_with("create"));
}

TEST_CASE("a volume on the mapped device of a stacked origin is on its device, too") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    mapPart(bed, "volume", bed.store().origins.begin()->second.mapped->path(), 2048);
    bed.engine->createSnapshots({{one, "a"}}, {});
    CHECK(watched(bed) == std::vector<std::string>{"watch 1 2048"});
}

TEST_CASE("a module that cannot watch, or not so much, makes snapshots all the same") {
    EngineBed bed;
    const Uuid store = bed.makeStore();
    bed.machine.addPartition("/dev/one1", "/dev/one");
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    SECTION("it is older") {
        bed.machine.setModuleMinor(2);
        CHECK_NOTHROW(bed.engine->createSnapshots({{one, "a"}}, {}));
        CHECK(watched(bed).empty());
    }
    SECTION("there are more than it takes") {
        for (unsigned i = 0; i < COWSNAP_WATCH_MAX; ++i)
            bed.machine.addPartition(fmt::format("/dev/one{}", i + 2), "/dev/one");
        CHECK_NOTHROW(bed.engine->createSnapshots({{one, "a"}}, {}));
        REQUIRE(watched(bed).size() == 1);
        const std::string words = watched(bed).front();
        CHECK(std::count(words.begin(), words.end(), ' ') == 1 + COWSNAP_WATCH_MAX);
    }
}
