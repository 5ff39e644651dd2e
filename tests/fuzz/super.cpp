// SPDX-License-Identifier: GPL-2.0-or-later
// Superblocks: what decodes lies inside the store, and says the same when it is encoded again.
// Input: flags, blocks of the device, the superblock.
#include <cstring>

#include "blocks.h"

using namespace cowsnap::fuzz;

namespace {

void checkLayout(const cow_super& super) {
    const u64 segments = cow_super_segments(&super);
    u64 after = 0;
    for (const u64 segment : {u64{0}, segments / 2, segments - 1}) {
        const u64 block = cow_super_segment_block(&super, segment);
        require(block + super.segment_blocks <= super.store_blocks, "segments end in the store");
        require(block >= after, "segments rise");
        require(cow_super_block_segment(&super, block) == segment, "a block knows its segment");
        require(cow_super_block_segment(&super, block + super.segment_blocks - 1) == segment,
                "so does a segment's last block");
        require(cow_super_table_block(&super, segment) + 1 < block, "tables stand in front");
        u32 count = 0;
        const u64 first = cow_super_table_first(&super, segment, &count);
        require(first <= segment && segment < first + count, "a table block has its segment");
        after = block;
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    Input input(data, bytes);
    const bool sealed = input.byte() & 1;
    const std::uint64_t device_blocks = input.number(6);
    auto block = input.blocks(1);
    if (sealed)
        seal(block);
    static cow_super super;
    static cow_super again;
    if (cow_super_decode(block.data(), device_blocks, &super) != COW_VALID)
        return 0;
    require(super.store_blocks <= device_blocks, "the store fits onto the device");
    checkLayout(super);
    std::vector<std::uint8_t> encoded(kBlockBytes);
    cow_super_encode(&super, encoded.data());
    require(cow_super_decode(encoded.data(), device_blocks, &again) == COW_VALID,
            "what was valid is so again");
    require(std::memcmp(&super, &again, sizeof(super)) == 0, "and says the same");
    if (cow_super_extend(&again, device_blocks) == 0)
        checkLayout(again);
    return 0;
}
