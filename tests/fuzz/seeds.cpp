// SPDX-License-Identifier: GPL-2.0-or-later
// Makes the corpora from stores that the engine made: fuzz-seeds DIRECTORY. Zeros at the end are
// left out, the targets add them.
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <sstream>
#include <string>

#include <fmt/format.h>

#include "meta/metadata.h"
#include "meta/slot_format.h"
#include "store/dump.h"
#include "world.h"

using namespace cowsnap;
using namespace cowsnap::fuzz;

namespace {

constexpr std::uint8_t kAsItIs = 0;
constexpr std::uint8_t kSealed = 1;

class Corpora {
public:
    explicit Corpora(std::filesystem::path directory) : directory_(std::move(directory)) {}

    void add(const std::string& target, std::string input) {
        const auto last = input.find_last_not_of('\0');
        input.resize(last == std::string::npos ? 1 : last + 1);
        const auto path = directory_ / target;
        std::filesystem::create_directories(path);
        std::ofstream(path / fmt::format("seed-{:02}", count_[target]++), std::ios::binary)
            << input;
    }
    bool full(const std::string& target, int most) { return count_[target] >= most; }

private:
    std::filesystem::path directory_;
    std::map<std::string, int> count_;
};

std::string text(std::initializer_list<int> bytes) {
    std::string result;
    for (const int byte : bytes)
        result += static_cast<char>(byte);
    return result;
}

std::string text(std::span<const std::uint8_t> bytes) {
    return {bytes.begin(), bytes.end()};
}

void addStructures(Corpora& corpora, MemoryBlocks& blocks) {
    cow_super super{};
    cow_super_decode(blocks.at(0).data(), blocks.size(), &super);
    const auto size = static_cast<int>(blocks.size());
    corpora.add("super", text({kAsItIs, size & 255, size >> 8, 0, 0, 0, 0}) + text(blocks.at(0)));
    corpora.add("super", text({kSealed, size & 255, size >> 8, 1, 0, 0, 0}) + text(blocks.at(0)));
    corpora.add("table", text({kSealed, static_cast<int>(super.region[0].segments), 0, 0}) +
                             text(blocks.at(super.region[0].table_block)));
    for (u64 block = super.region[0].segment_block; block < blocks.size(); ++block) {
        cow_batch_info batch{};
        const auto image = blocks.at(block);
        if (cow_batch_decode(image.data(), super.uuid, super.segment_blocks, &batch) == COW_VALID &&
            !corpora.full("batch", 8))
            corpora.add("batch", text({kSealed}) + text(image));
        std::vector<cow_record> records(COW_SUMMARY_MAX_RECORDS);
        std::vector<u32> crcs(COW_SUMMARY_MAX_RECORDS);
        cow_summary_info summary{};
        if (cow_summary_decode(image.data(), super.segment_blocks, super.uuid, &summary,
                               records.data(), crcs.data()) == COW_VALID &&
            !corpora.full("summary", 6))
            corpora.add("summary", text({kSealed}) + text(image));
    }
}

Metadata metadataOf(int records) {
    const auto uuid = [](int number) {
        return *Uuid::parse(fmt::format("01234567-89ab-4def-8123-{:012}", number));
    };
    Metadata metadata;
    metadata.store = uuid(0);
    metadata.name = "main";
    metadata.devices.push_back({"/dev/sdb1", "/dev/disk/by-id/ata-1", "serial", 1, 80000});
    metadata.next_origin_id = 10;
    metadata.next_snapshot_id = 100;
    if (records > 1)
        metadata.full_wait_ms = 5000;
    for (int i = 1; i <= records; ++i) {
        OriginRecord origin;
        origin.uuid = uuid(i);
        origin.id = static_cast<std::uint32_t>(i);
        origin.name = fmt::format("origin {}", i);
        origin.mapped_name = fmt::format("cowsnap-{}", i);
        origin.detaching = i == 2;
        metadata.origins.push_back(origin);
        SnapshotRecord snapshot;
        snapshot.uuid = uuid(50 + i);
        snapshot.id = static_cast<std::uint32_t>(i);
        snapshot.name = fmt::format("snapshot {} \xc3\xa4", i);
        snapshot.origin = origin.uuid;
        snapshot.writable = i == 1;
        snapshot.description = "before \"it\"";
        metadata.snapshots.push_back(snapshot);
    }
    return metadata;
}

void addMetadata(Corpora& corpora) {
    Uuid::Bytes uuid{};
    std::copy(kUuid.begin(), kUuid.end(), uuid.begin());
    for (const int records : {0, 1, 3}) {
        const std::string json = formatMetadata(metadataOf(records));
        corpora.add("metadata", json);
        const auto slot = encodeSlot(Uuid(uuid), 7, kMetadataSchema, json);
        const std::string bytes(reinterpret_cast<const char*>(slot.data()), slot.size());
        corpora.add("slot", text({kAsItIs}) + bytes);
        corpora.add("slot", text({kSealed}) + bytes);
    }
}

void addLines(Corpora& corpora) {
    const std::string uuid = "01234567-89ab-4def-8123-0123456789ab";
    corpora.add("lines", text({0}) + uuid + " active 2048 100/400 2048 2 5 17 0");
    corpora.add("lines", text({0}) + uuid + " full 128 0/4 2048 1 1 0 3");
    corpora.add("lines", text({1}) + "1 5 4711 0 99");
    corpora.add("lines", text({2}) + "active 1 ro 0");
    corpora.add("lines", text({2}) + "damaged 4294967294 rw 12");
    corpora.add("lines", text({3}) + "253:4 10 4 full_wait_ms 5000 segment_sectors 2048");
    corpora.add("lines", text({3}) + "/dev/sdb 10");
    corpora.add("lines", text({4}) + "/dev/mapper/s 1 8:16");
    corpora.add("lines", text({5}) + "/dev/mapper/s 7 1 read_only");
    corpora.add("lines", text({6}) + "1 80000 1 5\n2 90000 0 0\n");
    corpora.add("lines",
                text({7}) + "1 1 1700000000 3 active 0 55 0\n2 1 1700000001 4 lost 1 1 9\n");
    corpora.add("lines", text({8}) + "1 low_water 3\n2 dropped 7\n");
    corpora.add("lines", text({7}) + "1 1 1700000000 3 stale 0 55 0\n");
}

/// Ops, transactions and a checkpoint, as tests/fuzz/control.cpp reads them.
void addControl(Corpora& corpora) {
    const auto op = [](int kind, int snapshot, int origin, int epoch, int sequence, int flags = 1) {
        return text({0, kind, snapshot, origin, flags, epoch, sequence, 64, 1, epoch, 1});
    };
    const std::string first = op(5, 0, 0, 1, 0) + text({2, 0});
    const std::string used = first + op(1, 0, 1, 0, 0) + text({1, 0}) + op(3, 1, 1, 1, 1) +
                             text({1, 0}) + op(3, 2, 1, 2, 4) + text({1, 0});
    corpora.add("control", first);
    corpora.add("control", used);
    corpora.add("control",
                used + op(4, 1, 0, 0, 0) + text({1, 0}) + op(6, 2, 0, 0, 0) + text({1, 0}));
    corpora.add("control",
                used + op(3, 3, 1, 3, 9) + text({1, 6}) + op(3, 4, 1, 4, 10) + text({1, 0}));
    corpora.add("control", used + op(5, 0, 0, 9, 0) + op(1, 0, 1, 0, 0) + op(3, 2, 1, 2, 4) +
                               text({2, 1}) + op(2, 0, 1, 0, 0) + text({1, 0}));
    corpora.add("control", used + text({3, 34, 40, 0, 4, 9, 9, 9, 9}));
    corpora.add("control", used + op(7, 0, 1, 5, 6, 5) + text({1, 0}) + op(7, 0, 1, 8, 9, 6) +
                               text({1, 0}) + op(8, 0, 1, 0, 0) + op(7, 0, 1, 5, 5, 5) +
                               text({1, 0}));
    corpora.add("control", first + op(1, 0, 1, 0, 0) + op(7, 0, 1, 5, 6, 5) + op(3, 1, 1, 1, 1, 4) +
                               text({2, 1}));
}

void addStores(Corpora& corpora) {
    for (int base = 0; base < 4; ++base) {
        corpora.add("store", text({base}));
        corpora.add("store", text({base, 40, 0, 16, 0, 0x41, 9, 9, 9, 9}));
        corpora.add("store", text({base, 60, 0, 60, 0, 0x20, 1, 1, 20, 0, 50, 0, 0x10, 7}));
        corpora.add("store", text({base, 12, 0, 70, 0, 0x23, 3, 3}));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::cerr << "usage: fuzz-seeds DIRECTORY\n";
        return 2;
    }
    Corpora corpora(argv[1]);
    for (const bool settled : {true, false}) {
        MemoryBlocks blocks = usedStore(settled ? 1 : 2, settled, 60);
        addStructures(corpora, blocks);
        std::ostringstream out;
        store::DumpOptions options;
        options.data = false;
        store::dump(blocks, out, options);
        corpora.add("dump", out.str());
    }
    MemoryBlocks small = usedStore(3, true, 1);
    std::ostringstream out;
    store::dump(small, out);
    corpora.add("dump", out.str());
    addMetadata(corpora);
    addLines(corpora);
    addControl(corpora);
    addStores(corpora);
    return 0;
}
