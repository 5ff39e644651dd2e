// SPDX-License-Identifier: GPL-2.0-or-later
// A dump restored is the same store: the same bytes in every structure that counts, the same
// contents of every snapshot. What is not a dump is refused.
#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include <algorithm>
#include <optional>
#include <set>
#include <sstream>

#include "base/error.h"
#include "bed.h"
#include "checks.hpp"
#include "store/base64.h"
#include "store/check_parts.h"
#include "store/dump.h"
#include "store/repair.h"
#include "store/structures.h"
#include "worlds.hpp"

using namespace cowsnap;
using namespace cowsnap::store;
using namespace cowsnap::store::test;

namespace {

std::string dumped(sim::World& world, bool data = true) {
    SimBlocks blocks(world.store);
    std::ostringstream out;
    DumpOptions options;
    options.data = data;
    dump(blocks, out, options);
    return out.str();
}

class Target : public RestoreTarget {
public:
    explicit Target(sim::StoreImage& image) : image_(image), blocks_(image) {}

    Blocks& open(std::uint64_t store_blocks) override {
        opened = true;
        image_.resize(std::max(image_.size(), store_blocks));
        return blocks_;
    }
    void zero(std::uint64_t block, std::uint64_t count) override {
        const std::vector<std::byte> zeros(kBlockBytes);
        for (std::uint64_t i = 0; i < count; ++i)
            REQUIRE(blocks_.write(block + i, 1, zeros.data()) == 0);
    }
    bool opened = false;

private:
    sim::StoreImage& image_;
    SimBlocks blocks_;
};

RestoreResult restored(const std::string& text, sim::World& world) {
    std::istringstream in(text);
    Target target(world.store);
    return restore(in, target);
}

ErrorKind refusal(const std::string& text, bool& opened) {
    sim::StoreImage image(4096);
    Target target(image);
    std::istringstream in(text);
    try {
        restore(in, target);
    } catch (const Error& error) {
        opened = target.opened;
        return error.kind();
    }
    FAIL("restored: " << text.substr(0, 200));
    return ErrorKind::Failed;
}

/// The blocks whose bytes a dump promises: all of the structures that are valid, and the data of
/// the segments that are needed.
std::set<std::uint64_t> promised(const std::string& text) {
    const auto document = Json::parse(text);
    std::set<std::uint64_t> blocks;
    const cow_super super = superFromJson(document.at("supers").at(0));
    for (const auto& item : document.at("supers"))
        blocks.insert(item.at("copy").get<std::uint64_t>() * COWSNAP_SUPER_COPY_BLOCK);
    for (const auto& item : document.at("checkpoints")) {
        const std::uint64_t first =
            super.control_block + item.at("slot").get<std::uint64_t>() * super.checkpoint_blocks;
        for (std::uint64_t i = 0; i <= (item.at("ops").size() + 63) / 64; ++i)
            blocks.insert(first + i);
    }
    for (const auto& item : document.at("journal"))
        blocks.insert(super.control_block + 2 * super.checkpoint_blocks +
                      item.at("position").get<std::uint64_t>());
    for (const auto& item : document.at("tables"))
        blocks.insert(cow_super_table_block(&super, item.at("first_segment").get<u64>()) +
                      item.at("copy").get<std::uint64_t>());
    for (const auto& item : document.at("slots"))
        blocks.insert(super.slot_block + item.at("slot").get<std::uint64_t>() * super.slot_blocks);
    const u32 summary_blocks = COWSNAP_SUMMARY_BLOCKS(super.segment_blocks);
    for (const auto& item : document.at("segments")) {
        const std::uint64_t first = cow_super_segment_block(&super, item.at("segment").get<u64>());
        for (const auto& batch : item.at("batches")) {
            const auto position = batch.at("position").get<std::uint64_t>();
            for (std::uint64_t i = 0; i <= batch.at("crcs").size(); ++i)
                blocks.insert(first + position + i);
        }
        for (u32 i = 0; item.contains("summary") && i < summary_blocks; ++i)
            blocks.insert(first + super.segment_blocks - summary_blocks + i);
    }
    return blocks;
}

}  // namespace

TEST_CASE("what is written during a rollback is checked, dumped and restored") {
    sim::Shape shape;
    shape.segment_blocks = 16;
    shape.segments = 30;
    shape.origin_blocks = 96;
    sim::World world = sim::make_world(shape);
    std::uint64_t overlay_block = 0;
    {
        sim::Machine machine(world, 1);
        REQUIRE(machine.open() == 0);
        REQUIRE(machine.create({{1, 1}}) == 0);
        machine.write(1, 40, 8);
        machine.drain();
        REQUIRE(machine.schedule(1, 1, 2) == 0);
        SimBlocks blocks(world.store);
        const Report scheduled = check(blocks, {true, {}});
        CHECK(scheduled.passed());
        CHECK(scheduled.findings.empty());
        REQUIRE(scheduled.rollbacks.size() == 1);
        CHECK(scheduled.rollbacks[0].scheduled);
        REQUIRE(machine.cancel(1) == 0);
        REQUIRE(machine.roll_back(1, 1, 2) == 0);
        machine.write(1, 44, 2);
        machine.drain(false);
        cow_where where{};
        u64 location = COW_NOT_FOUND;
        cow_origin* origin = cow_origin_find(&machine.store(), 1);
        cow_snapshot_lookup(&origin->rollback.shown, 44, 1, &where, &location);
        REQUIRE(where == COW_AT_STORE);
        cow_store_unpin(&machine.store(), location);
        overlay_block = location;
        machine.stop_copying();
        machine.mark();
        machine.drain(false);
    }
    SimBlocks blocks(world.store);
    const Report report = check(blocks, {true, {}});
    INFO(textOf(report));
    CHECK(report.passed());
    REQUIRE(report.rollbacks.size() == 1);
    CHECK(report.rollbacks[0].target == 1);
    CHECK_FALSE(report.rollbacks[0].scheduled);
    CHECK(report.rollbacks[0].blocks == 96);

    sim::World copy = world;
    copy.store = sim::StoreImage(world.store.size());
    restored(dumped(world), copy);
    {
        sim::Machine machine(copy, 1);
        REQUIRE(machine.open() == 0);
        sim::check_contents(machine);
        machine.drain();  // to the rollback's end
        sim::check_contents(machine);
        CHECK(cow_origin_find(&machine.store(), 1)->rollback.state == COW_ROLLBACK_NONE);
    }

    flip(world, overlay_block, 77);
    const Report damaged = check(blocks, {true, {}});
    INFO(textOf(damaged));
    REQUIRE(find(damaged, "data") != nullptr);
    CHECK(find(damaged, "data")->block == overlay_block);
    CHECK(find(damaged, "data")->what.find("during its rollback") != std::string::npos);
}

TEST_CASE("a dump restored is the same store, whatever was on the target before") {
    const auto idle = GENERATE(Idle::Settled, Idle::Marked, Idle::Cut);
    const std::uint32_t segment_blocks = GENERATE(16U, 128U);
    for (std::uint64_t seed = 1; seed <= 5; ++seed) {
        INFO("seed " << seed << " idle " << static_cast<int>(idle));
        sim::World world = usedWorld(seed, {idle, segment_blocks, 150});
        const std::string text = dumped(world);
        sim::World other = usedWorld(seed + 100, {Idle::Marked, segment_blocks, 250});
        sim::World again = world;
        again.store = other.store;
        const RestoreResult result = restored(text, again);
        CHECK(result.with_data);
        CHECK(result.segments > 0);
        CHECK(dumped(again) == text);
        std::vector<std::byte> one(kBlockBytes);
        std::vector<std::byte> two(kBlockBytes);
        for (const auto block : promised(text)) {
            world.store.read(block, 1, one.data());
            again.store.read(block, 1, two.data());
            INFO("block " << block);
            REQUIRE(one == two);
        }
        SimBlocks blocks(again.store);
        const Report report = check(blocks, {true, {}});
        INFO(textOf(report));
        CHECK(report.passed());
        if (idle != Idle::Cut) {
            sim::Machine machine(again, seed);
            REQUIRE(machine.open() == 0);
            sim::check_contents(machine);
            sim::check_empties(machine);
        }
    }
}

TEST_CASE("a damaged store dumped and restored has the same damage") {
    const sim::World world = usedWorld(2, {Idle::Marked, 16, 250});
    sim::Random random(1);
    std::uint64_t compared = 0;
    for (std::uint64_t block = COWSNAP_SUPER_COPY_BLOCK + 1; block < world.store.size(); ++block) {
        if (world.store.is_zero(block) || !random.one_in(3))
            continue;
        sim::World damaged = world;
        damage(damaged, block, Rot::Sector, random);
        INFO("block " << block);
        sim::World again = damaged;
        again.store = sim::StoreImage(world.store.size());
        restored(dumped(damaged), again);
        SimBlocks before(damaged.store);
        SimBlocks after(again.store);
        const Report one = check(before, {true, {}});
        const Report two = check(after, {true, {}});
        INFO(textOf(one) << "\nrestored" << textOf(two));
        REQUIRE(one.activates == two.activates);
        REQUIRE(one.passed() == two.passed());
        if (one.activates) {
            sim::Machine machine(again, 1);
            REQUIRE(machine.open() == 0);
            sim::check_contents(machine);
        }
        ++compared;
    }
    CHECK(compared > 50);
}

TEST_CASE("without data all snapshots are lost, and none returns anything") {
    sim::World world = usedWorld(3, {Idle::Marked, 16, 200});
    const std::string text = dumped(world, false);
    CHECK(text.find("base64") == std::string::npos);
    sim::World again = world;
    const RestoreResult result = restored(text, again);
    CHECK_FALSE(result.with_data);
    CHECK(result.lost_snapshots == world.snapshots.size());
    sim::Machine machine(again, 1);
    REQUIRE(machine.open() == 0);
    for (cow_snapshot* snapshot : snapshotsOf(machine.store())) {
        CHECK(snapshot->lost);
        for (u64 block = 0; block < 48; ++block) {
            cow_where where{};
            u64 location = 0;
            cow_snapshot_lookup(snapshot, block, 1, &where, &location);
            REQUIRE(where == COW_AT_ERROR);
        }
    }
    SimBlocks blocks(again.store);
    CHECK(check(blocks).passed());
}

TEST_CASE("a store that cannot be read whole is not restored") {
    sim::World world = usedWorld(3, {Idle::Marked, 16, 200});
    SimBlocks blocks(world.store);
    const cow_super super = superOf(world);
    blocks.bad = {super.slot_block, super.region[0].segment_block};
    std::ostringstream out;
    dump(blocks, out);
    bool opened = false;
    CHECK(refusal(out.str(), opened) == ErrorKind::InvalidArgument);
}

TEST_CASE("a dump that makes no sense is refused before anything is written") {
    sim::World world = usedWorld(1);
    const std::string text = dumped(world);
    const auto with = [&](const std::string& from, const std::string& to) {
        std::string changed = text;
        const auto at = changed.find(from);
        REQUIRE(at != std::string::npos);
        changed.replace(at, from.size(), to);
        return changed;
    };
    bool opened = false;
    const auto refused = [&](const std::string& changed) {
        const ErrorKind kind = refusal(changed, opened);
        CHECK_FALSE(opened);
        return kind;
    };
    CHECK(refused("") == ErrorKind::InvalidArgument);
    CHECK(refused("[1,2]") == ErrorKind::InvalidArgument);
    CHECK(refused("{}") == ErrorKind::InvalidArgument);
    CHECK(refused(with("cowsnap-store-dump", "other")) == ErrorKind::InvalidArgument);
    CHECK(refused(with("\"version\":1", "\"version\":2")) == ErrorKind::NotSupported);
    CHECK(refused(with("\"data\":true", "\"data\":1")) == ErrorKind::InvalidArgument);
    CHECK(refused(with("\"copy\":0", "\"copy\":2")) == ErrorKind::InvalidArgument);
    CHECK(refused(with("\"segment_blocks\":16", "\"segment_blocks\":17")) ==
          ErrorKind::InvalidArgument);
    CHECK(refused(with("\"segment_blocks\":16", "\"segment_blocks\":4294967312")) ==
          ErrorKind::InvalidArgument);
    CHECK(refused(with("\"segment_blocks\":16", "\"segment_blocks\":-16")) ==
          ErrorKind::InvalidArgument);
    CHECK(refused(with("\"checkpoints\"", "\"checkpoint\"")) == ErrorKind::InvalidArgument);
    CHECK(refused(with("\"first_segment\":0", "\"first_segment\":1")) ==
          ErrorKind::InvalidArgument);
    CHECK(refused(with("\"position\":0", "\"position\":99999")) == ErrorKind::InvalidArgument);
    CHECK(refused(with("\"op\":", "\"op\":9")) == ErrorKind::InvalidArgument);
    for (std::size_t length : {std::size_t{1}, std::size_t{100}, std::size_t{1000}})
        CHECK(refused(text.substr(0, length)) == ErrorKind::InvalidArgument);
}

TEST_CASE("a dump cut short or wrong in its segments leaves no store") {
    sim::World world = usedWorld(1);
    const std::string text = dumped(world);
    const auto leavesNone = [](const std::string& changed) {
        sim::StoreImage image(4096);
        Target target(image);
        std::istringstream in(changed);
        CHECK_THROWS_AS(restore(in, target), Error);
        SimBlocks blocks(image);
        try {
            check(blocks);
            FAIL("half a store was taken for one");
        } catch (const Error& error) {
            CHECK(error.kind() == ErrorKind::NotFound);
        }
    };
    leavesNone(text.substr(0, text.size() - 3));
    leavesNone(text.substr(0, text.size() / 2));
    std::string changed = text;
    changed.replace(changed.find("\"base64\":\"") + 10, 4, "****");
    leavesNone(changed);
    changed = text;
    changed.replace(changed.find("{\"segment\":"), 11, "{\"segment\":99");
    leavesNone(changed);
}

TEST_CASE("a restore that is interrupted at any write leaves no store, or all of it") {
    const bool with_data = GENERATE(true, false);
    const sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    sim::World source = world;
    const std::string text = dumped(source, with_data);
    struct CutBlocks : SimBlocks {
        using SimBlocks::SimBlocks;
        std::uint64_t left = 0;
        int write(std::uint64_t block, std::uint64_t count, const void* from) override {
            return left == 0 ? -EIO : (--left, SimBlocks::write(block, count, from));
        }
    };
    struct CutTarget : RestoreTarget {
        explicit CutTarget(sim::StoreImage& image) : blocks(image) {}
        Blocks& open(std::uint64_t) override { return blocks; }
        void zero(std::uint64_t, std::uint64_t) override {}  // it is
        CutBlocks blocks;
    };
    std::uint64_t none = 0;
    std::uint64_t whole = 0;
    for (std::uint64_t cut = 0;; ++cut) {
        INFO("after " << cut << " writes");
        sim::World half = world;
        half.store = sim::StoreImage(world.store.size());
        CutTarget target(half.store);
        target.blocks.left = cut;
        std::istringstream in(text);
        bool ended = true;
        try {
            restore(in, target);
        } catch (const Error&) {
            ended = false;
        }
        SimBlocks blocks(half.store);
        ShadowBlocks shadow(blocks);
        try {
            const RepairPlan plan = planRepair(shadow, {true, {}});
            REQUIRE(shadow.apply() == 0);
            // without the checkpoints it is not known which snapshots there are
            REQUIRE((plan.dropped.empty() || !ended));
            for (const auto& dropped : plan.dropped)
                half.snapshots.erase(dropped.snapshot.id);
            whole += 1;
        } catch (const Error&) {
            none += 1;
            continue;
        }
        sim::Machine machine(half, 1);
        REQUIRE(machine.open() == 0);
        std::set<std::uint32_t> there;
        for (const cow_snapshot* snapshot : snapshotsOf(machine.store())) {
            REQUIRE(snapshot->lost == !with_data);
            there.insert(snapshot->id);
        }
        std::erase_if(half.snapshots,
                      [&](const auto& known) { return !there.contains(known.first); });
        if (with_data)
            sim::check_contents(machine);
        if (ended)
            break;
    }
    CHECK(none > 20);
    CHECK(whole > 1);
}

TEST_CASE("base64 is read back, and nothing else is") {
    sim::Random random(1);
    for (std::size_t length = 0; length < 70; ++length) {
        std::vector<std::byte> bytes(length);
        for (auto& byte : bytes)
            byte = static_cast<std::byte>(random.next());
        const auto back = decodeBase64(encodeBase64(bytes));
        REQUIRE(back);
        CHECK(*back == bytes);
    }
    CHECK(encodeBase64(std::as_bytes(std::span(std::string_view("Man")))) == "TWFu");
    CHECK(encodeBase64(std::as_bytes(std::span(std::string_view("Ma")))) == "TWE=");
    for (const char* const wrong : {"A", "AAA", "A===", "AA=A", "====", "AA*=", "AB==", "AAB="})
        CHECK_FALSE(decodeBase64(wrong));
}
