// SPDX-License-Identifier: GPL-2.0-or-later
// JSON to a store: read as a stream, a segment at a time, since with data it may be as large as the
// store. The control record comes behind the segments, and the superblocks last.
#include <algorithm>
#include <cstring>
#include <map>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_number.h"
#include "meta/slot_format.h"
#include "store/base64.h"
#include "store/check_parts.h"
#include "store/dump.h"
#include "store/engine.h"
#include "store/structures.h"

namespace cowsnap::store {

namespace {

using Bytes = std::vector<std::byte>;

[[noreturn]] void wrong(std::string_view where, std::string_view why) {
    fail(ErrorKind::InvalidArgument, "the dump is not understood: {}: {}", where, why);
}

void mustBeValid(std::string_view where, cow_check check) {
    if (check != COW_VALID)
        wrong(where, cow_check_name(check));
}

class Restorer {
public:
    explicit Restorer(RestoreTarget& target) : target_(target) {}

    RestoreResult run(std::istream& in);

private:
    /// All in front of the segments is there: encode it, check it, open the target.
    void begin();
    void supers(const Json& json);
    void checkpoints(const Json& json);
    void journal(const Json& json);
    void tables(const Json& json);
    void slots(const Json& json);
    void segment(const Json& json);
    void end();
    void recordLoss(Blocks& blocks);
    std::uint64_t controlEnd() const;
    void write(std::uint64_t block, const Bytes& bytes);
    const Json& part(const char* name) const;

    RestoreTarget& target_;
    Blocks* blocks_ = nullptr;
    RestoreResult result_;
    std::map<std::string, Json> parts_;
    cow_super super_{};
    std::map<std::uint64_t, Bytes> super_images_;
    std::map<std::uint64_t, Bytes> images_;  ///< in front of the segments
};

const Json& Restorer::part(const char* name) const {
    const auto found = parts_.find(name);
    if (found == parts_.end())
        wrong(name, "it is missing, or does not stand in front of the segments");
    return found->second;
}

void Restorer::write(std::uint64_t block, const Bytes& bytes) {
    if (const int error = blocks_->write(block, bytes.size() / kBlockBytes, bytes.data()))
        failErrno(-error, fmt::format("cannot write block {}", block));
}

void Restorer::supers(const Json& json) {
    for (const auto& item : json) {
        const auto copy = numberFrom<unsigned>(item.at("copy"));
        if (copy > 1)
            wrong("supers", "\"copy\" is neither 0 nor 1");
        const cow_super super = superFromJson(item);
        Bytes image(kBlockBytes);
        cow_super_encode(&super, image.data());
        cow_super decoded{};
        mustBeValid("supers", cow_super_decode(image.data(), super.store_blocks, &decoded));
        super_images_[copy * std::uint64_t{COWSNAP_SUPER_COPY_BLOCK}] = std::move(image);
        if (super_.regions == 0 || super.generation > super_.generation)
            super_ = super;
    }
    if (super_.regions == 0)
        wrong("supers", "there is none");
}

void Restorer::checkpoints(const Json& json) {
    for (const auto& item : json) {
        const auto slot = numberFrom<unsigned>(item.at("slot"));
        if (slot > 1)
            wrong("checkpoints", "\"slot\" is neither 0 nor 1");
        const auto ops = opsFromJson(item.at("ops"));
        const std::uint64_t op_blocks =
            (ops.size() * sizeof(cowsnap_disk_op) + kBlockBytes - 1) / kBlockBytes;
        if (op_blocks + 1 > super_.checkpoint_blocks)
            wrong("checkpoints", "more ops than there is room for");
        Bytes image((1 + op_blocks) * kBlockBytes);
        cow_checkpoint_encode_ops(image.data() + kBlockBytes, ops.data(), ops.size());
        cow_checkpoint_encode(image.data(), super_.uuid, numberFrom<u64>(item.at("transaction")),
                              ops.size(), image.data() + kBlockBytes);
        u64 transaction = 0;
        u64 nr_ops = 0;
        std::vector<cow_op> decoded(ops.size());
        mustBeValid("checkpoints",
                    cow_checkpoint_decode(image.data(), super_.uuid, super_.checkpoint_blocks,
                                          &transaction, &nr_ops));
        mustBeValid("checkpoints", cow_checkpoint_decode_ops(
                                       image.data(), image.data() + kBlockBytes, decoded.data()));
        images_[super_.control_block + std::uint64_t{slot} * super_.checkpoint_blocks] =
            std::move(image);
    }
}

void Restorer::journal(const Json& json) {
    const std::uint64_t first = super_.control_block + 2ULL * super_.checkpoint_blocks;
    for (const auto& item : json) {
        const auto position = numberFrom<std::uint64_t>(item.at("position"));
        auto ops = opsFromJson(item.at("ops"));
        if (position >= super_.journal_blocks || ops.size() > COWSNAP_OPS_PER_BLOCK)
            wrong("journal", "there is no such block");
        Bytes image(kBlockBytes);
        cow_journal_encode(image.data(), super_.uuid, numberFrom<u64>(item.at("transaction")),
                           numberFrom<u16>(item.at("index")), numberFrom<u16>(item.at("count")),
                           ops.data(), static_cast<u32>(ops.size()));
        u64 transaction = 0;
        u16 index = 0;
        u16 count = 0;
        u32 nr_ops = 0;
        mustBeValid("journal", cow_journal_decode(image.data(), super_.uuid, &transaction, &index,
                                                  &count, ops.data(), &nr_ops));
        images_[first + position] = std::move(image);
    }
}

void Restorer::tables(const Json& json) {
    for (const auto& item : json) {
        const auto segment = numberFrom<u64>(item.at("first_segment"));
        const auto copy = numberFrom<std::uint64_t>(item.at("copy"));
        if (segment >= cow_super_segments(&super_) || copy > 1)
            wrong("tables", "there is no such block");
        auto owners = ownersFromJson(item.at("owners"));
        u32 count = 0;
        if (cow_super_table_first(&super_, segment, &count) != segment || owners.size() != count)
            wrong("tables", "a block does not begin there, or has another number of segments");
        Bytes image(kBlockBytes);
        cow_table_encode(image.data(), super_.uuid, numberFrom<u64>(item.at("generation")), segment,
                         owners.data(), count);
        u64 generation = 0;
        mustBeValid("tables", cow_table_decode(image.data(), super_.uuid, segment, &generation,
                                               owners.data(), count));
        images_[cow_super_table_block(&super_, segment) + copy] = std::move(image);
    }
}

void Restorer::slots(const Json& json) {
    Uuid::Bytes uuid{};
    std::memcpy(uuid.data(), super_.uuid, uuid.size());
    for (const auto& item : json) {
        const auto slot = numberFrom<std::uint64_t>(item.at("slot"));
        std::string body;
        if (item.contains("body")) {
            body = item.at("body").get<std::string>();
        } else {
            const auto bytes = decodeBase64(item.at("body_base64").get<std::string>());
            if (!bytes)
                wrong("slots", "\"body_base64\" is not base64");
            body.assign(reinterpret_cast<const char*>(bytes->data()), bytes->size());
        }
        if (slot > 1 || slotBytesUsed(body.size()) > super_.slot_blocks * kBlockBytes)
            wrong("slots", "there is no such slot, or it is longer than one");
        images_[super_.slot_block + slot * super_.slot_blocks] =
            encodeSlot(Uuid(uuid), numberFrom<std::uint64_t>(item.at("generation")),
                       numberFrom<std::uint32_t>(item.at("schema")), body);
    }
}

void Restorer::begin() {
    if (part("format") != "cowsnap-store-dump")
        wrong("format", "it is no dump of a store");
    if (part("version") != 1)
        fail(ErrorKind::NotSupported,
             "the dump has version {}, this program knows version 1: update cowsnap",
             part("version").dump());
    result_.with_data = part("data").get<bool>();
    supers(part("supers"));
    checkpoints(part("checkpoints"));
    journal(part("journal"));
    tables(part("tables"));
    slots(part("slots"));
    blocks_ = &target_.open(super_.store_blocks);
    // All of it: headers that an older store left there could be taken for those of this one.
    target_.zero(0, super_.store_blocks);
    // without a control record all this is nobody's
    const auto behind = images_.lower_bound(controlEnd());
    for (auto at = behind; at != images_.end(); ++at)
        write(at->first, at->second);
    images_.erase(behind, images_.end());
}

std::uint64_t Restorer::controlEnd() const {
    return super_.control_block + 2ULL * super_.checkpoint_blocks + super_.journal_blocks;
}

void Restorer::segment(const Json& json) {
    const auto number = numberFrom<u64>(json.at("segment"));
    const std::string where = fmt::format("segment {}", number);
    if (number >= cow_super_segments(&super_))
        wrong(where, "there is no such segment");
    const u32 summary_blocks = COWSNAP_SUMMARY_BLOCKS(super_.segment_blocks);
    const u32 usable = super_.segment_blocks - summary_blocks;
    Bytes image(super_.segment_blocks * kBlockBytes);
    if (json.contains("data") && result_.with_data) {
        for (const auto& item : json.at("data")) {
            const auto position = numberFrom<std::uint64_t>(item.at("position"));
            const auto bytes = decodeBase64(item.at("base64").get<std::string>());
            if (!bytes || bytes->size() % kBlockBytes != 0 || position > usable ||
                bytes->size() / kBlockBytes > usable - position)
                wrong(where, "its data are not base64 of whole blocks inside it");
            std::copy(bytes->begin(), bytes->end(),
                      image.begin() + static_cast<std::ptrdiff_t>(position * kBlockBytes));
        }
    } else if (result_.with_data) {
        wrong(where, "its data are missing");
    }
    for (const auto& item : json.at("batches")) {
        Batch batch = batchFromJson(item);
        batch.info.segment = number;
        if (batch.info.position >= usable)
            wrong(where, "a batch stands outside of it");
        std::byte* at = image.data() + batch.info.position * kBlockBytes;
        cow_batch_encode(at, super_.uuid, &batch.info, batch.records.data(), batch.crcs.data());
        mustBeValid(where, cow_batch_decode(at, super_.uuid, super_.segment_blocks, &batch.info));
    }
    if (json.contains("summary")) {
        Summary summary = summaryFromJson(json.at("summary"));
        summary.info.segment = number;
        if (summary.info.blocks >= usable)
            wrong(where, "its summary has more blocks than it");
        std::byte* at = image.data() + usable * kBlockBytes;
        cow_summary_encode(at, super_.segment_blocks, super_.uuid, &summary.info,
                           summary.records.data(), summary.crcs.data());
        summary.records.resize(COW_SUMMARY_MAX_RECORDS + 2);
        summary.crcs.resize(COW_SUMMARY_MAX_RECORDS + 2);
        mustBeValid(where, cow_summary_decode(at, super_.segment_blocks, super_.uuid, &summary.info,
                                              summary.records.data(), summary.crcs.data()));
    }
    write(cow_super_segment_block(&super_, number), image);
    ++result_.segments;
}

/// Without data a snapshot is not exact, and what the engine concludes from a batch whose data do
/// not match may even be wrong.
void Restorer::recordLoss(Blocks& blocks) {
    Engine engine(blocks);
    engine.get().super = super_;
    if (engine.loadControl() != 0)
        return;  // it does not activate
    std::vector<cow_op> ops;
    for (const cow_snapshot* snapshot : snapshotsOf(engine.get())) {
        if (snapshot->lost)
            continue;
        cow_op op{};
        op.op = COWSNAP_OP_LOST;
        op.snapshot = snapshot->id;
        ops.push_back(op);
    }
    constexpr std::size_t most = COWSNAP_TRANSACTION_MAX_BLOCKS * COWSNAP_OPS_PER_BLOCK;
    for (std::size_t done = 0; done < ops.size(); done += most)
        if (const int error =
                cow_control_commit(&engine.get(), ops.data() + done,
                                   static_cast<u32>(std::min(most, ops.size() - done))))
            failErrno(-error, "cannot record that the snapshots have no data");
    result_.lost_snapshots = ops.size();
}

void Restorer::end() {
    if (blocks_ == nullptr)
        wrong("segments", "they are missing");
    const Json& unreadable = part("unreadable");
    if (!unreadable.empty())
        fail(ErrorKind::InvalidArgument,
             "the dump was made of a store of which {} blocks could not be read: repair that store "
             "first",
             unreadable.size());
    ShadowBlocks shadow(*blocks_);
    for (const auto& [block, image] : images_)
        if (const int error = shadow.write(block, image.size() / kBlockBytes, image.data()))
            failErrno(-error, fmt::format("cannot write block {}", block));
    if (!result_.with_data)
        recordLoss(shadow);
    // Checkpoints last: what an interruption leaves is a store with all its segments, or none.
    for (std::uint64_t block = controlEnd(); block-- > super_.control_block;) {
        const Bytes image = readBlocks(shadow, block).bytes;
        if (std::any_of(image.begin(), image.end(), [](std::byte b) { return b != std::byte{0}; }))
            write(block, image);
    }
    for (const auto& [block, image] : super_images_)
        write(block, image);
}

RestoreResult Restorer::run(std::istream& in) {
    std::string key;
    const auto on_event = [&](int depth, Json::parse_event_t event, Json& parsed) {
        using Event = Json::parse_event_t;
        if (event == Event::key && depth == 1) {
            key = parsed.get<std::string>();
            if (key == "segments")
                begin();
            return true;
        }
        if (key == "segments") {
            if (event == Event::object_end && depth == 2) {
                segment(parsed);
                return false;  // and forget it
            }
            return true;
        }
        const bool ended =
            event == Event::array_end || event == Event::object_end || event == Event::value;
        if (ended && depth == 1)
            parts_[key] = parsed;
        return true;
    };
    try {
        const Json document = Json::parse(in, on_event);
        if (!document.is_object())
            wrong("format", "it is no dump of a store");
        end();
    } catch (const Json::exception& error) {
        wrong("JSON", error.what());
    }
    return result_;
}

}  // namespace

RestoreResult restore(std::istream& in, RestoreTarget& target) {
    return Restorer(target).run(in);
}

}  // namespace cowsnap::store
