// SPDX-License-Identifier: GPL-2.0-or-later
// Structures to JSON and back.
#include "store/structures.h"

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_number.h"
#include "base/uuid.h"

namespace cowsnap::store {

namespace {

// Shifts numbers of JSON into fields; one that does not fit is refused, never cut.
template <typename Field>
void take(Field& field, const Json& value) {
    field = numberFrom<Field>(value);
}

Json recordsToJson(const std::vector<cow_record>& records, bool positions) {
    Json json = Json::array();
    for (const auto& record : records) {
        json.push_back({record.block, record.length, record.flags});
        if (positions)
            json.back().push_back(record.position);
    }
    return json;
}

std::vector<cow_record> recordsFromJson(const Json& json, bool positions) {
    std::vector<cow_record> records;
    for (const auto& item : json) {
        cow_record record{};
        take(record.block, item.at(0));
        take(record.length, item.at(1));
        take(record.flags, item.at(2));
        if (positions)
            take(record.position, item.at(3));
        records.push_back(record);
    }
    return records;
}

std::vector<u32> crcsFromJson(const Json& json) {
    std::vector<u32> crcs;
    for (const auto& item : json)
        take(crcs.emplace_back(), item);
    return crcs;
}

}  // namespace

Json superToJson(const cow_super& super) {
    Uuid::Bytes uuid{};
    std::memcpy(uuid.data(), super.uuid, uuid.size());
    Json regions = Json::array();
    for (u32 i = 0; i < super.regions; ++i)
        regions.push_back({{"table_block", super.region[i].table_block},
                           {"segment_block", super.region[i].segment_block},
                           {"segments", super.region[i].segments}});
    return {{"uuid", Uuid(uuid).dashed()},
            {"generation", super.generation},
            {"compatible", super.compatible},
            {"ro_compatible", super.ro_compatible},
            {"incompatible", super.incompatible},
            {"store_blocks", super.store_blocks},
            {"control_block", super.control_block},
            {"checkpoint_blocks", super.checkpoint_blocks},
            {"journal_blocks", super.journal_blocks},
            {"slot_block", super.slot_block},
            {"slot_blocks", super.slot_blocks},
            {"segment_blocks", super.segment_blocks},
            {"regions", regions}};
}

cow_super superFromJson(const Json& json) {
    cow_super super{};
    const auto uuid = Uuid::parse(json.at("uuid").get<std::string>());
    if (!uuid)
        fail(ErrorKind::InvalidArgument, "\"uuid\" is not a UUID");
    std::memcpy(super.uuid, uuid->bytes().data(), sizeof(super.uuid));
    take(super.generation, json.at("generation"));
    take(super.compatible, json.at("compatible"));
    take(super.ro_compatible, json.at("ro_compatible"));
    take(super.incompatible, json.at("incompatible"));
    take(super.store_blocks, json.at("store_blocks"));
    take(super.control_block, json.at("control_block"));
    take(super.checkpoint_blocks, json.at("checkpoint_blocks"));
    take(super.journal_blocks, json.at("journal_blocks"));
    take(super.slot_block, json.at("slot_block"));
    take(super.slot_blocks, json.at("slot_blocks"));
    take(super.segment_blocks, json.at("segment_blocks"));
    const Json& regions = json.at("regions");
    if (regions.size() > COWSNAP_MAX_REGIONS)
        fail(ErrorKind::InvalidArgument, "there are more than {} regions", COWSNAP_MAX_REGIONS);
    for (const auto& region : regions) {
        cow_region& to = super.region[super.regions++];
        take(to.table_block, region.at("table_block"));
        take(to.segment_block, region.at("segment_block"));
        take(to.segments, region.at("segments"));
    }
    return super;
}

Json opsToJson(const std::vector<cow_op>& ops) {
    Json json = Json::array();
    for (const auto& op : ops)
        json.push_back({{"op", op.op},
                        {"snapshot", op.snapshot},
                        {"origin", op.origin},
                        {"flags", op.flags},
                        {"epoch", op.epoch},
                        {"sequence", op.sequence},
                        {"size_sectors", op.size_sectors},
                        {"created", op.created},
                        {"set", op.set},
                        {"activation", op.activation}});
    return json;
}

std::vector<cow_op> opsFromJson(const Json& json) {
    std::vector<cow_op> ops;
    for (const auto& item : json) {
        cow_op op{};
        take(op.op, item.at("op"));
        take(op.snapshot, item.at("snapshot"));
        take(op.origin, item.at("origin"));
        take(op.flags, item.at("flags"));
        take(op.epoch, item.at("epoch"));
        take(op.sequence, item.at("sequence"));
        take(op.size_sectors, item.at("size_sectors"));
        take(op.created, item.at("created"));
        take(op.set, item.at("set"));
        take(op.activation, item.at("activation"));
        ops.push_back(op);
    }
    return ops;
}

Json ownersToJson(const std::vector<cow_owner>& owners) {
    Json json = Json::array();
    for (const auto& owner : owners)
        json.push_back({owner.kind, owner.origin, owner.epoch, owner.generation});
    return json;
}

std::vector<cow_owner> ownersFromJson(const Json& json) {
    std::vector<cow_owner> owners;
    for (const auto& item : json) {
        cow_owner owner{};
        take(owner.kind, item.at(0));
        take(owner.origin, item.at(1));
        take(owner.epoch, item.at(2));
        take(owner.generation, item.at(3));
        owners.push_back(owner);
    }
    return owners;
}

Json batchToJson(const Batch& batch) {
    return {{"position", batch.info.position},
            {"activation", batch.info.activation},
            {"generation", batch.info.generation},
            {"sequence", batch.info.sequence},
            {"durable_sequence", batch.info.durable_sequence},
            {"segment_sequence", batch.info.segment_sequence},
            {"epoch", batch.info.epoch},
            {"origin", batch.info.origin},
            {"records", recordsToJson(batch.records, false)},
            {"crcs", batch.crcs}};
}

Batch batchFromJson(const Json& json) {
    Batch batch;
    take(batch.info.position, json.at("position"));
    take(batch.info.activation, json.at("activation"));
    take(batch.info.generation, json.at("generation"));
    take(batch.info.sequence, json.at("sequence"));
    take(batch.info.durable_sequence, json.at("durable_sequence"));
    take(batch.info.segment_sequence, json.at("segment_sequence"));
    take(batch.info.epoch, json.at("epoch"));
    take(batch.info.origin, json.at("origin"));
    batch.records = recordsFromJson(json.at("records"), false);
    batch.crcs = crcsFromJson(json.at("crcs"));
    if (!cow_batch_fits(static_cast<u32>(std::min<std::size_t>(batch.records.size(), 0xffff)),
                        static_cast<u32>(std::min<std::size_t>(batch.crcs.size(), 0xffff))))
        fail(ErrorKind::InvalidArgument, "a batch has more records than fit into a header");
    batch.info.records = static_cast<u16>(batch.records.size());
    batch.info.blocks = static_cast<u16>(batch.crcs.size());
    return batch;
}

Json summaryToJson(const Summary& summary) {
    return {{"activation", summary.info.activation},
            {"generation", summary.info.generation},
            {"sequence", summary.info.sequence},
            {"segment_sequence", summary.info.segment_sequence},
            {"durable_sequence", summary.info.durable_sequence},
            {"epoch", summary.info.epoch},
            {"origin", summary.info.origin},
            {"records", recordsToJson(summary.records, true)},
            {"crcs", summary.crcs}};
}

Summary summaryFromJson(const Json& json) {
    Summary summary;
    take(summary.info.activation, json.at("activation"));
    take(summary.info.generation, json.at("generation"));
    take(summary.info.sequence, json.at("sequence"));
    take(summary.info.segment_sequence, json.at("segment_sequence"));
    take(summary.info.durable_sequence, json.at("durable_sequence"));
    take(summary.info.epoch, json.at("epoch"));
    take(summary.info.origin, json.at("origin"));
    summary.records = recordsFromJson(json.at("records"), true);
    summary.crcs = crcsFromJson(json.at("crcs"));
    if (summary.crcs.size() > COW_SUMMARY_MAX_RECORDS ||
        summary.records.size() > summary.crcs.size())
        fail(ErrorKind::InvalidArgument, "a summary has more records than fit into it");
    summary.info.records = static_cast<u16>(summary.records.size());
    summary.info.blocks = static_cast<u16>(summary.crcs.size());
    return summary;
}

}  // namespace cowsnap::store
