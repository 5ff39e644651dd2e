// SPDX-License-Identifier: GPL-2.0-or-later
// A store to JSON: what is valid, decoded by the engine's own decoders.
#include <algorithm>
#include <array>
#include <cstring>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/names.h"
#include "meta/slot_format.h"
#include "store/base64.h"
#include "store/check_parts.h"
#include "store/dump.h"
#include "store/structures.h"
#include "store/super_remains.h"

namespace cowsnap::store {

namespace {

using Bytes = std::vector<std::byte>;

class Dumper {
public:
    Dumper(Blocks& blocks, const cow_super& super, std::ostream& out, const DumpOptions& options)
        : blocks_(blocks), super_(super), out_(out), options_(options) {}

    void run(const cow_store& control, bool control_readable);

private:
    /// Zeros if they cannot be read; which ones is remembered.
    Bytes read(std::uint64_t block, std::uint64_t count = 1);
    /// What the JSON says must be all there is.
    void same(std::uint64_t block, const Bytes& found, const Bytes& encoded) const;

    Json supers();
    Json checkpoints();
    Json journal();
    Json tables();
    Json slots();
    Json segment(u64 number, const cow_owner& owner);
    Json dataOf(const Bytes& image, const std::vector<bool>& used) const;

    Blocks& blocks_;
    cow_super super_;
    std::ostream& out_;
    DumpOptions options_;
    std::vector<cow_owner> owners_;  ///< of all segments
    std::vector<std::uint64_t> unreadable_;
};

Bytes Dumper::read(std::uint64_t block, std::uint64_t count) {
    Bytes bytes(count * kBlockBytes);
    if (!blocks_.read(block, count, bytes.data()))
        return bytes;
    for (std::uint64_t i = 0; i < count; ++i) {
        const ReadBlock one = readBlocks(blocks_, block + i);
        std::copy(one.bytes.begin(), one.bytes.end(),
                  bytes.begin() + static_cast<std::ptrdiff_t>(i * kBlockBytes));
        if (one.error)
            unreadable_.push_back(block + i);
    }
    return bytes;
}

void Dumper::same(std::uint64_t block, const Bytes& found, const Bytes& encoded) const {
    if (found != encoded)
        fail(ErrorKind::Failed,
             "block {} has a valid structure with something that this program does not know: "
             "update cowsnap",
             block);
}

Json Dumper::supers() {
    Json json = Json::array();
    for (const unsigned copy : {0U, 1U}) {
        const std::uint64_t block = copy * std::uint64_t{COWSNAP_SUPER_COPY_BLOCK};
        const Bytes image = read(block);
        cow_super super{};
        if (cow_super_decode(image.data(), blocks_.size(), &super) != COW_VALID)
            continue;
        Bytes encoded(kBlockBytes);
        cow_super_encode(&super, encoded.data());
        same(block, image, encoded);
        Json item = {{"copy", copy}};
        item.update(superToJson(super));
        json.push_back(item);
    }
    return json;
}

Json Dumper::checkpoints() {
    Json json = Json::array();
    for (const unsigned slot : {0U, 1U}) {
        const std::uint64_t block =
            super_.control_block + std::uint64_t{slot} * super_.checkpoint_blocks;
        const Bytes image = read(block, super_.checkpoint_blocks);
        u64 transaction = 0;
        u64 nr_ops = 0;
        if (cow_checkpoint_decode(image.data(), super_.uuid, super_.checkpoint_blocks, &transaction,
                                  &nr_ops) != COW_VALID)
            continue;
        std::vector<cow_op> ops(nr_ops);
        if (cow_checkpoint_decode_ops(image.data(), image.data() + kBlockBytes, ops.data()) !=
            COW_VALID)
            continue;
        Bytes encoded(image.size());
        cow_checkpoint_encode_ops(encoded.data() + kBlockBytes, ops.data(), nr_ops);
        cow_checkpoint_encode(encoded.data(), super_.uuid, transaction, nr_ops,
                              encoded.data() + kBlockBytes);
        const std::size_t used = kBlockBytes + nr_ops * sizeof(cowsnap_disk_op);
        if (!std::equal(image.begin(), image.begin() + static_cast<std::ptrdiff_t>(used),
                        encoded.begin()))
            same(block, image, encoded);
        json.push_back({{"slot", slot}, {"transaction", transaction}, {"ops", opsToJson(ops)}});
    }
    return json;
}

Json Dumper::journal() {
    Json json = Json::array();
    const std::uint64_t first = super_.control_block + 2ULL * super_.checkpoint_blocks;
    for (std::uint64_t position = 0; position < super_.journal_blocks; ++position) {
        const Bytes image = read(first + position);
        u64 transaction = 0;
        u16 index = 0;
        u16 count = 0;
        u32 nr_ops = 0;
        std::vector<cow_op> ops(COWSNAP_OPS_PER_BLOCK);
        if (cow_journal_decode(image.data(), super_.uuid, &transaction, &index, &count, ops.data(),
                               &nr_ops) != COW_VALID)
            continue;
        ops.resize(nr_ops);
        Bytes encoded(kBlockBytes);
        cow_journal_encode(encoded.data(), super_.uuid, transaction, index, count, ops.data(),
                           nr_ops);
        same(first + position, image, encoded);
        json.push_back({{"position", position},
                        {"transaction", transaction},
                        {"index", index},
                        {"count", count},
                        {"ops", opsToJson(ops)}});
    }
    return json;
}

Json Dumper::tables() {
    Json json = Json::array();
    const u64 segments = cow_super_segments(&super_);
    owners_.assign(segments, cow_owner{});
    for (u64 segment = 0; segment < segments;) {
        u32 count = 0;
        const u64 first = cow_super_table_first(&super_, segment, &count);
        const std::uint64_t block = cow_super_table_block(&super_, segment);
        segment = first + count;
        u64 newest = 0;
        for (const unsigned copy : {0U, 1U}) {
            const Bytes image = read(block + copy);
            std::vector<cow_owner> owners(count);
            u64 generation = 0;
            if (cow_table_decode(image.data(), super_.uuid, first, &generation, owners.data(),
                                 count) != COW_VALID)
                continue;
            Bytes encoded(kBlockBytes);
            cow_table_encode(encoded.data(), super_.uuid, generation, first, owners.data(), count);
            same(block + copy, image, encoded);
            if (generation > newest)
                std::copy(owners.begin(), owners.end(),
                          owners_.begin() + static_cast<std::ptrdiff_t>(first));
            newest = std::max(newest, generation);
            json.push_back({{"first_segment", first},
                            {"copy", copy},
                            {"generation", generation},
                            {"owners", ownersToJson(owners)}});
        }
    }
    return json;
}

Json Dumper::slots() {
    Json json = Json::array();
    const auto found = readSlots(blocks_, super_);
    for (std::size_t i = 0; i < found.size(); ++i) {
        const Slot& slot = found[i];
        if (slot.header.state != SlotState::Valid)
            continue;
        Json item = {
            {"slot", i}, {"generation", slot.header.generation}, {"schema", slot.header.schema}};
        if (isUtf8(slot.body))
            item["body"] = slot.body;
        else
            item["body_base64"] = encodeBase64(std::as_bytes(std::span(slot.body)));
        json.push_back(item);
    }
    return json;
}

Json Dumper::dataOf(const Bytes& image, const std::vector<bool>& used) const {
    Json json = Json::array();
    for (std::size_t position = 0; position < used.size();) {
        std::size_t end = position;
        while (end < used.size() && used[end])
            ++end;
        if (end > position)
            json.push_back(
                {{"position", position},
                 {"base64", encodeBase64(std::span(image).subspan(
                                position * kBlockBytes, (end - position) * kBlockBytes))}});
        position = end + 1;
    }
    return json;
}

Json Dumper::segment(u64 number, const cow_owner& owner) {
    const u32 summary_blocks = COWSNAP_SUMMARY_BLOCKS(super_.segment_blocks);
    const u32 usable = super_.segment_blocks - summary_blocks;
    const std::uint64_t first = cow_super_segment_block(&super_, number);
    const Bytes image = read(first, super_.segment_blocks);
    std::vector<bool> used(usable);
    Json json = {{"segment", number}, {"batches", Json::array()}};
    const auto use = [&](u32 position, u32 count) {
        for (u32 i = 0; i < count; ++i)
            used[position + i] = true;
    };
    for (u32 position = 0; position < usable; ++position) {
        const Bytes header(
            image.begin() + static_cast<std::ptrdiff_t>(position * kBlockBytes),
            image.begin() + static_cast<std::ptrdiff_t>((position + 1) * kBlockBytes));
        Batch batch;
        if (cow_batch_decode(header.data(), super_.uuid, super_.segment_blocks, &batch.info) !=
                COW_VALID ||
            batch.info.segment != number || batch.info.generation != owner.generation ||
            batch.info.position != position)
            continue;
        batch.records.resize(batch.info.records);
        batch.crcs.resize(batch.info.blocks);
        cow_batch_unpack(header.data(), batch.records.data(), batch.crcs.data());
        Bytes encoded(kBlockBytes);
        cow_batch_encode(encoded.data(), super_.uuid, &batch.info, batch.records.data(),
                         batch.crcs.data());
        same(first + position, header, encoded);
        json["batches"].push_back(batchToJson(batch));
        use(position + 1, batch.info.blocks);
    }
    Summary summary;
    summary.records.resize(COW_SUMMARY_MAX_RECORDS + 2);
    summary.crcs.resize(COW_SUMMARY_MAX_RECORDS + 2);
    const Bytes end(image.begin() + static_cast<std::ptrdiff_t>(usable * kBlockBytes), image.end());
    if (cow_summary_decode(end.data(), super_.segment_blocks, super_.uuid, &summary.info,
                           summary.records.data(), summary.crcs.data()) == COW_VALID &&
        summary.info.segment == number && summary.info.generation == owner.generation) {
        summary.records.resize(summary.info.records);
        summary.crcs.resize(summary.info.blocks);
        Bytes encoded(end.size());
        cow_summary_encode(encoded.data(), super_.segment_blocks, super_.uuid, &summary.info,
                           summary.records.data(), summary.crcs.data());
        same(first + usable, end, encoded);
        json["summary"] = summaryToJson(summary);
        for (const auto& record : summary.records)
            use(record.position, record.length);
    }
    if (options_.data)
        json["data"] = dataOf(image, used);
    return json;
}

void Dumper::run(const cow_store& control, bool control_readable) {
    Json head = {{"format", "cowsnap-store-dump"}, {"version", 1}, {"data", options_.data}};
    head["supers"] = supers();
    head["checkpoints"] = checkpoints();
    head["journal"] = journal();
    head["tables"] = tables();
    head["slots"] = slots();
    std::vector<u64> needed;
    for (u64 number = 0; number < owners_.size(); ++number)
        if (control_readable ? ownerLives(control, owners_[number])
                             : owners_[number].kind != COWSNAP_OWNER_FREE)
            needed.push_back(number);
    std::string text = head.dump();
    text.pop_back();  // the brace: segments follow, one a line
    out_ << text << ",\n\"segments\":[";
    for (std::size_t i = 0; i < needed.size() && out_; ++i) {
        out_ << (i == 0 ? "\n" : ",\n") << segment(needed[i], owners_[needed[i]]).dump();
        if (options_.progress)
            options_.progress(i + 1, needed.size());
    }
    out_ << "],\n\"unreadable\":" << Json(unreadable_).dump() << "}\n" << std::flush;
    if (!out_)
        fail(ErrorKind::Failed, "the dump cannot be written");
}

}  // namespace

void dump(Blocks& blocks, std::ostream& out, const DumpOptions& options) {
    ShadowBlocks shadow(blocks);
    Engine control(shadow);
    const int probed = control.probe();
    if (probed != 0 && supersGone(blocks) && findSuper(blocks, nullptr).store)
        fail(ErrorKind::MetadataCorrupt,
             "both superblocks of the store are gone; \"cowsnap-store check\" tells more");
    if (probed == 1)
        fail(ErrorKind::NotFound, "there is no store: nothing but zeros where one begins");
    if (probed != 0)
        fail(probed == -EPROTONOSUPPORT ? ErrorKind::NotSupported
             : probed == -EUCLEAN       ? ErrorKind::MetadataCorrupt
                                        : ErrorKind::NotFound,
             "{}", control.why());
    const bool readable = control.loadControl() == 0;
    Dumper(blocks, control.get().super, out, options).run(control.get(), readable);
}

}  // namespace cowsnap::store
