// SPDX-License-Identifier: GPL-2.0-or-later
// What many operations, and many snapshots, cost: counted, not timed. The long form is the program
// scale.
#include <catch2/catch.hpp>

#include "bus_bed.h"
#include "engine_bed.h"
#include "resources.h"

using namespace cowsnap;
using namespace cowsnap::test;

TEST_CASE("creating and deleting again and again keeps neither memory nor descriptors") {
    BusBed bed;
    bed.directory.write("cowsnapd.conf",
                        R"({"finished_jobs": 20, "request_ids": 20, "metadata_backups": 2})");
    bed.call(kRoot, kManager, "Reload", nullptr);
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    unsigned made = 0;
    const auto pairs = [&](unsigned count) {
        for (unsigned i = 0; i < count; ++i) {
            const auto snapshot =
                bed.createSnapshots({{origin, "s"}}, {{"request-id", fmt::format("c{}", made++)}})
                    .front();
            bed.call(snapshot.path, kSnapshot, "Delete", nullptr);
        }
        bed.forgetSignals();
        bed.machine.forgetMessages();
    };
    pairs(200);  // until all that is kept for a while is full
    const auto descriptors = openDescriptors();
    const auto heap = heapBytes();
    constexpr unsigned count = 200;
    pairs(count);
    constexpr std::size_t at_a_time = 10;  // some are open for a moment only
    CHECK(openDescriptors() < descriptors + at_a_time);
    // Caches fill for a while yet; a job, or a snapshot, of each pair would be several times this.
    constexpr std::int64_t allowed_bytes_a_pair = 1000;
    CHECK(heapBytes() - heap < count * allowed_bytes_a_pair);
}

TEST_CASE("what a create asks the kernel does not grow with the snapshots that there are") {
    EngineBed bed;
    bed.machine.makeSlotsLarge();
    const Uuid store = bed.makeStore();
    const Uuid one = bed.engine->attach("/dev/one", store, "");
    const auto messagesOfACreate = [&](const std::string& name) {
        bed.machine.forgetMessages();
        bed.engine->createSnapshots({{one, name}}, {});
        return bed.machine.messages().size();
    };
    const auto few = messagesOfACreate("first");
    bed.engine->setMetadataBackups(0);
    for (int i = 0; i < 120; ++i)
        bed.engine->createSnapshots({{one, fmt::format("s{}", i)}}, {});
    const auto many = messagesOfACreate("last");
    // Answers come in pages.
    CHECK(many <= few + 10);
}
