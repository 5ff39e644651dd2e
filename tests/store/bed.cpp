// SPDX-License-Identifier: GPL-2.0-or-later
// Stores to check and to repair.
#include "bed.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <stdexcept>

#include "meta/metadata.h"
#include "meta/slot_format.h"
#include "random_run.hpp"
#include "worlds.hpp"

namespace cowsnap::store::test {

int SimBlocks::read(std::uint64_t block, std::uint64_t count, void* to) {
    if (block > size() || count > size() - block)
        return -EIO;
    for (const auto at : bad)
        if (at >= block && at < block + count)
            return -EIO;
    image_.read(block, count, to);
    return 0;
}

int SimBlocks::write(std::uint64_t block, std::uint64_t count, const void* from) {
    if (block > size() || count > size() - block)
        return -EIO;
    image_.write(block, from, count);
    return 0;
}

namespace {

void writeMetadata(sim::World& world) {
    const cow_super super = superOf(world);
    Uuid::Bytes uuid{};
    std::memcpy(uuid.data(), super.uuid, uuid.size());
    Metadata metadata;
    metadata.store = Uuid(uuid);
    metadata.name = "main";
    metadata.next_origin_id = 3;
    metadata.next_snapshot_id = 100;
    for (const std::uint32_t id : {1U, 2U}) {
        OriginRecord origin;
        origin.uuid = Uuid::random();
        origin.id = id;
        origin.name = "origin-" + std::to_string(id);
        origin.mapped_name = "cowsnap-" + origin.name;
        metadata.origins.push_back(origin);
    }
    for (const auto& [id, model] : world.snapshots) {
        SnapshotRecord snapshot;
        snapshot.uuid = Uuid::random();
        snapshot.id = id;
        snapshot.name = "snap-" + std::to_string(id);
        snapshot.origin = metadata.originWithId(model.origin)->uuid;
        metadata.snapshots.push_back(snapshot);
    }
    for (std::uint64_t slot = 0; slot < 2; ++slot) {
        const auto image = encodeSlot(metadata.store, 1 + slot, metadataSchema(metadata),
                                      formatMetadata(metadata));
        world.store.write(super.slot_block + slot * super.slot_blocks, image.data(),
                          image.size() / kBlockBytes);
    }
}

}  // namespace

cow_super superOf(sim::World& world) {
    std::vector<std::byte> block(kBlockBytes);
    world.store.read(0, 1, block.data());
    cow_super super{};
    if (cow_super_decode(block.data(), world.store.size(), &super) != COW_VALID)
        throw std::runtime_error("the store has no superblock");
    return super;
}

sim::World usedWorld(std::uint64_t seed, const WorldOptions& options) {
    sim::Shape shape;
    shape.segment_blocks = options.segment_blocks;
    shape.segments = 30;
    shape.origin_blocks = 48;
    sim::World world = sim::make_world(shape);
    sim::Machine machine(world, seed);
    if (machine.open() || machine.create({{1, 1}, {2, 2}}))
        throw std::runtime_error("a new store cannot be used: " + machine.why());
    sim::RandomRun run(machine, seed);
    run.steps(options.steps);
    machine.drain();
    for (const std::uint32_t id : {20U, 21U})
        if (machine.create({{id, id - 19}}))
            throw std::runtime_error("no snapshot can be made: " + machine.why());
    for (std::uint64_t block = 0; block < 30; block += 3) {
        machine.write(1, block, 2);
        machine.write(2, 47 - block, 1);
        machine.drain();
    }
    if (world.snapshots.contains(20))
        machine.overlay_write(20, 3, 4);
    machine.drain();
    writeMetadata(world);
    if (options.idle == Idle::Settled) {
        machine.close();
    } else if (options.idle == Idle::Marked) {
        machine.mark();
        machine.drain();
    } else {
        for (std::uint64_t i = 0; i < 20; ++i) {
            machine.write(1, (i * 7) % 40, 3);
            machine.step();
        }
        return machine.crash(2);
    }
    return world;
}

void damage(sim::World& world, std::uint64_t block, Rot rot, sim::Random& random) {
    std::vector<std::uint8_t> data(kBlockBytes);
    world.store.read(block, 1, data.data());
    if (rot == Rot::Bit) {
        data[random.below(kBlockBytes)] ^= static_cast<std::uint8_t>(1U << random.below(8));
    } else {
        const std::size_t at = rot == Rot::Sector ? random.below(8) * 512 : 0;
        const std::size_t length = rot == Rot::Sector ? 512 : kBlockBytes;
        for (std::size_t i = 0; i < length; ++i)
            data[at + i] = static_cast<std::uint8_t>(random.next());
    }
    world.store.write(block, data.data(), 1);
    world.damaged = true;
}

void flip(sim::World& world, std::uint64_t block, std::size_t byte) {
    std::vector<std::uint8_t> data(kBlockBytes);
    world.store.read(block, 1, data.data());
    data[byte] ^= 1;
    world.store.write(block, data.data(), 1);
    world.damaged = true;
}

const Finding* find(const Report& report, const std::string& structure, bool damage) {
    for (const auto& finding : report.findings)
        if (finding.structure == structure && finding.damage == damage)
            return &finding;
    return nullptr;
}

std::string textOf(const Report& report) {
    std::string text = report.refusal;
    for (const auto& finding : report.findings) {
        text += "\n" + std::string(finding.damage ? "damage" : "notice") + " " +
                std::to_string(finding.block) + " " + finding.structure + ": " + finding.what +
                " touches";
        for (const auto id : finding.snapshots)
            text += " " + std::to_string(id);
    }
    return text;
}

}  // namespace cowsnap::store::test
