// SPDX-License-Identifier: GPL-2.0-or-later
// Headers of batches. Input: flags, the header.
#include <cstring>

#include "blocks.h"

using namespace cowsnap::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    Input input(data, bytes);
    const std::uint8_t flags = input.byte();
    const u32 segment_blocks = 16U << (flags >> 1) % 5;
    auto block = input.blocks(1);
    if (flags & 1)
        seal(block);
    cow_batch_info info{};
    if (cow_batch_decode(block.data(), kUuid.data(), segment_blocks, &info) != COW_VALID)
        return 0;
    require(info.position + 1U + info.blocks < segment_blocks, "a batch ends in its segment");
    std::vector<cow_record> records(info.records);
    std::vector<u32> crcs(info.blocks);
    cow_batch_unpack(block.data(), records.data(), crcs.data());
    u32 position = info.position + 1U;
    for (u32 i = 0; i < info.records; ++i) {
        cow_record one{};
        cow_batch_record(block.data(), i, &one);
        require(one.block == records[i].block && one.length == records[i].length &&
                    one.position == records[i].position && records[i].position == position,
                "records stand one behind the other");
        position += records[i].length;
    }
    for (u32 i = 0; i < info.blocks; ++i)
        require(cow_batch_crc(block.data(), i) == crcs[i], "each block has one checksum");
    std::vector<std::uint8_t> encoded(kBlockBytes);
    cow_batch_encode(encoded.data(), kUuid.data(), &info, records.data(), crcs.data());
    cow_batch_info again{};
    require(cow_batch_decode(encoded.data(), kUuid.data(), segment_blocks, &again) == COW_VALID,
            "what was valid is so again");
    require(info.sequence == again.sequence && info.records == again.records &&
                info.blocks == again.blocks && info.durable_sequence == again.durable_sequence,
            "and says the same");
    return 0;
}
