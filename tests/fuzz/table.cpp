// SPDX-License-Identifier: GPL-2.0-or-later
// Blocks of the segment table. Input: flags, number of segments, the block.
#include "blocks.h"

using namespace cowsnap::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    Input input(data, bytes);
    const bool sealed = input.byte() & 1;
    const u32 count = input.byte() % (COWSNAP_SEGMENTS_PER_TABLE_BLOCK + 2);
    const u64 first_segment = input.number(2);
    auto block = input.blocks(1);
    if (sealed)
        seal(block);
    std::vector<cow_owner> owners(count);
    u64 generation = 0;
    if (cow_table_decode(block.data(), kUuid.data(), first_segment, &generation, owners.data(),
                         count) != COW_VALID)
        return 0;
    std::vector<std::uint8_t> encoded(kBlockBytes);
    cow_table_encode(encoded.data(), kUuid.data(), generation, first_segment, owners.data(), count);
    std::vector<cow_owner> again(count);
    u64 generation_again = 0;
    require(cow_table_decode(encoded.data(), kUuid.data(), first_segment, &generation_again,
                             again.data(), count) == COW_VALID,
            "what was valid is so again");
    require(generation == generation_again, "of the same generation");
    for (u32 i = 0; i < count; ++i)
        require(owners[i].kind == again[i].kind && owners[i].origin == again[i].origin &&
                    owners[i].epoch == again[i].epoch &&
                    owners[i].generation == again[i].generation,
                "with the same owners");
    return 0;
}
