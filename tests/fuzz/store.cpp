// SPDX-License-Identifier: GPL-2.0-or-later
// Whole stores: the engine activates, cowsnap-store checks and repairs a used store of which any
// bytes were changed and their checksums put right.
//
// Input: which store, then a row of changes: block, place, bytes, and whether the checksum is put
// right.
#include "base/error.h"
#include "blocks.h"
#include "store/check.h"
#include "store/repair.h"
#include "world.h"

using namespace cowsnap;
using namespace cowsnap::fuzz;
using namespace cowsnap::store;

namespace {

/// The blocks of a store that are not zero.
struct Base {
    MemoryBlocks blocks;
    std::vector<std::uint64_t> used;
    cow_super super{};

    Base(std::uint64_t seed, bool settled) : blocks(usedStore(seed, settled, 60)) {
        for (std::uint64_t block = 0; block < blocks.size(); ++block)
            if (!blocks.isZero(block))
                used.push_back(block);
        require(cow_super_decode(blocks.at(0).data(), blocks.size(), &super) == COW_VALID,
                "a store has a superblock");
    }
};

void change(MemoryBlocks& blocks, const Base& base, Input& input) {
    const std::uint64_t block = base.used[input.number(2) % base.used.size()];
    const auto image = blocks.at(block);
    const std::uint16_t where = static_cast<std::uint16_t>(input.number(2));
    // what matters stands in front
    const std::size_t at = where & 0x8000 ? where % kBlockBytes : where % 256;
    const std::uint8_t kind = input.byte();
    const auto bytes = input.bytes(kind >> 4);
    for (std::size_t i = 0; i < bytes.size() && at + i < image.size(); ++i)
        image[at + i] = bytes[i];
    if (kind & 1)
        seal(image);
    // the twin says the same
    if (kind & 2 && block + 1 < blocks.size())
        std::copy(image.begin(), image.end(), blocks.at(block + 1).begin());
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    static const Base bases[] = {Base(1, true), Base(2, false), Base(3, true), Base(4, false)};
    Input input(data, bytes);
    const Base& base = bases[input.byte() % 4];
    MemoryBlocks blocks = base.blocks;
    while (!input.empty())
        change(blocks, base, input);
    Report report;
    try {
        report = check(blocks, {true, {}});
    } catch (const Error&) {
        return 0;
    }
    require(report.activates || report.damages() != 0, "what is refused is damaged");
    ShadowBlocks shadow(blocks);
    try {
        const RepairPlan plan = planRepair(shadow, {true, {}});
        require(plan.after.passed(), "what was repaired passes");
    } catch (const Error&) {
        require(!report.passed(), "what passes need not be repaired");
    }
    return 0;
}
