// SPDX-License-Identifier: GPL-2.0-or-later
// Summaries of segments. Input: flags, the blocks.
#include "blocks.h"

using namespace cowsnap::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t bytes) {
    Input input(data, bytes);
    const std::uint8_t flags = input.byte();
    const u32 segment_blocks = 16U << (flags >> 1) % 5;
    auto blocks = input.blocks(COWSNAP_SUMMARY_BLOCKS(segment_blocks));
    if (flags & 1)
        seal(blocks);
    // no more room than is promised to be enough
    std::vector<cow_record> records(COW_SUMMARY_MAX_RECORDS);
    std::vector<u32> crcs(COW_SUMMARY_MAX_RECORDS);
    cow_summary_info info{};
    if (cow_summary_decode(blocks.data(), segment_blocks, kUuid.data(), &info, records.data(),
                           crcs.data()) != COW_VALID)
        return 0;
    u32 end = 1;
    for (u32 i = 0; i < info.records; ++i) {
        require(records[i].position >= end, "records do not overlap");
        end = records[i].position + records[i].length;
    }
    require(end <= segment_blocks - COWSNAP_SUMMARY_BLOCKS(segment_blocks),
            "records end in front of the summary");
    std::vector<std::uint8_t> encoded(blocks.size());
    cow_summary_encode(encoded.data(), segment_blocks, kUuid.data(), &info, records.data(),
                       crcs.data());
    cow_summary_info again{};
    require(cow_summary_decode(encoded.data(), segment_blocks, kUuid.data(), &again, records.data(),
                               crcs.data()) == COW_VALID,
            "what was valid is so again");
    require(info.sequence == again.sequence && info.records == again.records &&
                info.blocks == again.blocks && info.durable_sequence == again.durable_sequence,
            "and says the same");
    return 0;
}
