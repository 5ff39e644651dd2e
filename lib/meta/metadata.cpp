// SPDX-License-Identifier: GPL-2.0-or-later
// JSON of a store's metadata, and looking things up in it.
#include "meta/metadata.h"

#include <algorithm>
#include <set>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/json_number.h"
#include "base/names.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

using nlohmann::json;

[[noreturn]] void corrupt(std::string_view why) {
    fail(ErrorKind::MetadataCorrupt, "the metadata of the store does not make sense: {}", why);
}

Uuid uuidFrom(const json& object, const char* key) {
    const auto uuid = Uuid::parse(object.at(key).get<std::string>());
    if (!uuid)
        corrupt(fmt::format("\"{}\" is not a UUID", key));
    return *uuid;
}

std::uint32_t idFrom(const json& object, const char* key) {
    const auto value = numberFrom<std::uint64_t>(object.at(key));
    if (value == 0 || value > std::uint64_t{COWSNAP_ID_MAX} + 1)
        corrupt(fmt::format("\"{}\" is out of range", key));
    return static_cast<std::uint32_t>(value);
}

std::string nameFrom(const json& object, std::string_view what) {
    std::string name = object.at("name").get<std::string>();
    try {
        checkName(what, name);
    } catch (const Error& error) {
        corrupt(error.what());
    }
    return name;
}

json toJson(const OriginRecord& origin) {
    json object = {{"uuid", origin.uuid.dashed()},
                   {"id", origin.id},
                   {"name", origin.name},
                   {"device", cowsnap::toJson(origin.device)},
                   {"mapped_name", origin.mapped_name},
                   {"detaching", origin.detaching}};
    if (origin.method != AttachMethod::Stacked)
        object["method"] = methodName(origin.method);
    if (origin.boot_policy != BootPolicy::FailOpen)
        object["boot_policy"] = policyName(origin.boot_policy);
    if (origin.rollback) {
        object["rollback"] = {
            {"target", origin.rollback->target.dashed()}, {"id", origin.rollback->undo_id},
            {"uuid", origin.rollback->undo.dashed()},     {"name", origin.rollback->undo_name},
            {"scheduled", origin.rollback->scheduled},    {"force", origin.rollback->force}};
        if (origin.rollback->cancelled)
            object["rollback"]["cancelled"] = true;
    }
    if (origin.rolled_back)
        object["rolled_back"] = {{"target", origin.rolled_back->target.dashed()},
                                 {"undo", origin.rolled_back->undo.dashed()}};
    return object;
}

RollbackRecord rollbackFrom(const json& object) {
    RollbackRecord rollback;
    rollback.target = uuidFrom(object, "target");
    rollback.undo_id = idFrom(object, "id");
    rollback.undo = uuidFrom(object, "uuid");
    rollback.undo_name = nameFrom(object, "snapshot");
    rollback.scheduled = object.at("scheduled").get<bool>();
    rollback.force = object.at("force").get<bool>();
    if (object.contains("cancelled"))
        rollback.cancelled = object.at("cancelled").get<bool>();
    return rollback;
}

AttachMethod methodFrom(const json& object) {
    if (!object.contains("method"))
        return AttachMethod::Stacked;
    const std::string name = object.at("method").get<std::string>();
    for (const auto method : {AttachMethod::Stacked, AttachMethod::Interposed})
        if (name == methodName(method))
            return method;
    corrupt("\"method\" is unknown");
}

BootPolicy policyFrom(const json& object) {
    if (!object.contains("boot_policy"))
        return BootPolicy::FailOpen;
    const auto policy = policyNamed(object.at("boot_policy").get<std::string>());
    if (!policy)
        corrupt("\"boot_policy\" is unknown");
    return *policy;
}

json toJson(const SnapshotRecord& snapshot) {
    json object = {{"uuid", snapshot.uuid.dashed()}, {"id", snapshot.id},
                   {"name", snapshot.name},          {"origin", snapshot.origin.dashed()},
                   {"created", snapshot.created},    {"set", snapshot.set},
                   {"writable", snapshot.writable},  {"description", snapshot.description},
                   {"deleting", snapshot.deleting}};
    if (!snapshot.tags.empty())
        object["tags"] = snapshot.tags;
    if (!snapshot.holds.empty())
        object["holds"] = snapshot.holds;
    if (snapshot.expires != 0)
        object["expires"] = snapshot.expires;
    if (snapshot.consistency != Consistency::Unknown)
        object["consistency"] = consistencyName(snapshot.consistency);
    return object;
}

Consistency consistencyFrom(const json& object) {
    if (!object.contains("consistency"))
        return Consistency::Unknown;
    const std::string name = object.at("consistency").get<std::string>();
    for (const auto consistency : {Consistency::Crash, Consistency::FileSystem})
        if (name == consistencyName(consistency))
            return consistency;
    corrupt("\"consistency\" is unknown");
}

/// The names in an array that need not be there.
std::set<std::string> namesFrom(const json& object, const char* key, std::string_view what) {
    std::set<std::string> names;
    if (!object.contains(key))
        return names;
    for (const auto& element : object.at(key)) {
        const auto name = element.get<std::string>();
        try {
            checkName(what, name);
        } catch (const Error& error) {
            corrupt(error.what());
        }
        if (!names.insert(name).second)
            corrupt(fmt::format("\"{}\" has \"{}\" twice", key, name));
    }
    return names;
}

OriginRecord originFrom(const json& object) {
    OriginRecord origin;
    origin.uuid = uuidFrom(object, "uuid");
    origin.id = idFrom(object, "id");
    origin.name = nameFrom(object, "origin");
    origin.device = deviceIdentityFromJson(object.at("device"));
    origin.mapped_name = object.at("mapped_name").get<std::string>();
    if (origin.mapped_name.empty() || origin.mapped_name.size() > 127 ||
        origin.mapped_name.find('/') != std::string::npos)
        corrupt("\"mapped_name\" is no name of a device");
    origin.method = methodFrom(object);
    origin.detaching = object.at("detaching").get<bool>();
    if (object.contains("rollback"))
        origin.rollback = rollbackFrom(object.at("rollback"));
    if (object.contains("rolled_back"))
        origin.rolled_back = {uuidFrom(object.at("rolled_back"), "target"),
                              uuidFrom(object.at("rolled_back"), "undo")};
    origin.boot_policy = policyFrom(object);
    return origin;
}

SnapshotRecord snapshotFrom(const json& object) {
    SnapshotRecord snapshot;
    snapshot.uuid = uuidFrom(object, "uuid");
    snapshot.id = idFrom(object, "id");
    snapshot.name = nameFrom(object, "snapshot");
    snapshot.origin = uuidFrom(object, "origin");
    snapshot.created = numberFrom<std::uint64_t>(object.at("created"));
    snapshot.set = numberFrom<std::uint64_t>(object.at("set"));
    snapshot.writable = object.at("writable").get<bool>();
    snapshot.description = object.at("description").get<std::string>();
    snapshot.tags = namesFrom(object, "tags", "tag");
    snapshot.holds = namesFrom(object, "holds", "hold");
    if (object.contains("expires"))
        snapshot.expires = numberFrom<std::uint64_t>(object.at("expires"));
    snapshot.consistency = consistencyFrom(object);
    snapshot.deleting = object.at("deleting").get<bool>();
    return snapshot;
}

json toJson(const AutoextendRecord& autoextend) {
    json spares = json::array();
    for (const auto& device : autoextend.spares)
        spares.push_back(cowsnap::toJson(device));
    return {{"enabled", autoextend.enabled},
            {"volume_group", autoextend.volume_group},
            {"volume_group_name", autoextend.volume_group_name},
            {"spares", spares},
            {"max_bytes", autoextend.max_bytes}};
}

AutoextendRecord autoextendFrom(const json& object) {
    AutoextendRecord autoextend;
    autoextend.enabled = object.at("enabled").get<bool>();
    autoextend.volume_group = object.at("volume_group").get<std::string>();
    autoextend.volume_group_name = object.at("volume_group_name").get<std::string>();
    for (const auto& device : object.at("spares"))
        autoextend.spares.push_back(deviceIdentityFromJson(device));
    autoextend.max_bytes = numberFrom<std::uint64_t>(object.at("max_bytes"));
    return autoextend;
}

void checkReferences(const Metadata& metadata) {
    std::set<std::uint32_t> origin_ids;
    std::set<Uuid> origins;
    for (const auto& origin : metadata.origins) {
        if (!origin_ids.insert(origin.id).second)
            corrupt(fmt::format("two origins have the id {}", origin.id));
        if (!origins.insert(origin.uuid).second)
            corrupt(fmt::format("two origins are {}", origin.uuid.dashed()));
    }
    std::set<std::uint32_t> snapshot_ids;
    std::set<std::string> names;
    for (const auto& snapshot : metadata.snapshots) {
        if (!snapshot_ids.insert(snapshot.id).second)
            corrupt(fmt::format("two snapshots have the id {}", snapshot.id));
        if (!names.insert(snapshot.name).second)
            corrupt(fmt::format("two snapshots have the name \"{}\"", snapshot.name));
        if (!origins.contains(snapshot.origin))
            corrupt(fmt::format("the snapshot \"{}\" has an unknown origin", snapshot.name));
    }
}

template <typename Records, typename Matches>
auto* findRecord(Records& records, Matches matches) {
    const auto found = std::find_if(records.begin(), records.end(), matches);
    return found == records.end() ? nullptr : &*found;
}

}  // namespace

std::string_view methodName(AttachMethod method) {
    return method == AttachMethod::Interposed ? "interposed" : "stacked";
}

std::string_view policyName(BootPolicy policy) {
    return policy == BootPolicy::FailClosed ? "fail-closed" : "fail-open";
}

std::optional<BootPolicy> policyNamed(std::string_view name) {
    for (const auto policy : {BootPolicy::FailOpen, BootPolicy::FailClosed})
        if (name == policyName(policy))
            return policy;
    return std::nullopt;
}

std::string_view consistencyName(Consistency consistency) {
    switch (consistency) {
        case Consistency::Crash:
            return "crash";
        case Consistency::FileSystem:
            return "file-system";
        case Consistency::Unknown:
            break;
    }
    return {};
}

OriginRecord* Metadata::originWithId(std::uint32_t id) {
    return findRecord(origins, [&](const auto& origin) { return origin.id == id; });
}

const OriginRecord* Metadata::originWithId(std::uint32_t id) const {
    return findRecord(origins, [&](const auto& origin) { return origin.id == id; });
}

OriginRecord* Metadata::origin(const Uuid& uuid) {
    return findRecord(origins, [&](const auto& origin) { return origin.uuid == uuid; });
}

const OriginRecord* Metadata::origin(const Uuid& uuid) const {
    return findRecord(origins, [&](const auto& origin) { return origin.uuid == uuid; });
}

SnapshotRecord* Metadata::snapshotWithId(std::uint32_t id) {
    return findRecord(snapshots, [&](const auto& snapshot) { return snapshot.id == id; });
}

const SnapshotRecord* Metadata::snapshotWithId(std::uint32_t id) const {
    return findRecord(snapshots, [&](const auto& snapshot) { return snapshot.id == id; });
}

SnapshotRecord* Metadata::snapshot(const Uuid& uuid) {
    return findRecord(snapshots, [&](const auto& snapshot) { return snapshot.uuid == uuid; });
}

const SnapshotRecord* Metadata::snapshot(const Uuid& uuid) const {
    return findRecord(snapshots, [&](const auto& snapshot) { return snapshot.uuid == uuid; });
}

bool Metadata::originNameTaken(std::string_view wanted) const {
    return std::any_of(origins.begin(), origins.end(),
                       [&](const auto& origin) { return origin.name == wanted; });
}

bool Metadata::snapshotNameTaken(std::string_view wanted) const {
    return std::any_of(snapshots.begin(), snapshots.end(),
                       [&](const auto& snapshot) { return snapshot.name == wanted; }) ||
           std::any_of(origins.begin(), origins.end(), [&](const auto& origin) {
               return origin.rollback && origin.rollback->undo_name == wanted;
           });
}

json toJson(const DeviceIdentity& identity) {
    json object = {{"path", identity.path},
                   {"id_link", identity.id_link},
                   {"serial", identity.serial},
                   {"partition", identity.partition},
                   {"size_sectors", identity.size_sectors}};
    if (identity.elsewhere)
        object["elsewhere"] = true;
    return object;
}

DeviceIdentity deviceIdentityFromJson(const json& object) {
    DeviceIdentity identity;
    identity.path = object.at("path").get<std::string>();
    identity.id_link = object.at("id_link").get<std::string>();
    identity.serial = object.at("serial").get<std::string>();
    identity.partition = numberFrom<unsigned>(object.at("partition"));
    identity.size_sectors = numberFrom<std::uint64_t>(object.at("size_sectors"));
    if (object.contains("elsewhere"))
        identity.elsewhere = object.at("elsewhere").get<bool>();
    return identity;
}

std::uint32_t metadataSchema(const Metadata& metadata) {
    constexpr std::uint32_t all_stacked = 1;
    constexpr std::uint32_t some_interposed = 2;
    constexpr std::uint32_t some_held = 3;
    const bool closed = std::any_of(
        metadata.origins.begin(), metadata.origins.end(),
        [](const auto& origin) { return origin.boot_policy == BootPolicy::FailClosed; });
    if (closed)
        return kMetadataSchema;
    const bool held = std::any_of(metadata.snapshots.begin(), metadata.snapshots.end(),
                                  [](const auto& snapshot) { return !snapshot.holds.empty(); });
    if (held)
        return some_held;
    const bool interposed =
        std::any_of(metadata.origins.begin(), metadata.origins.end(),
                    [](const auto& origin) { return origin.method == AttachMethod::Interposed; });
    return interposed ? some_interposed : all_stacked;
}

std::string formatMetadata(const Metadata& metadata) {
    json devices = json::array();
    for (const auto& device : metadata.devices)
        devices.push_back(toJson(device));
    json origins = json::array();
    for (const auto& origin : metadata.origins)
        origins.push_back(toJson(origin));
    json snapshots = json::array();
    for (const auto& snapshot : metadata.snapshots)
        snapshots.push_back(toJson(snapshot));
    json document = {{"schema", metadataSchema(metadata)},
                     {"store", metadata.store.dashed()},
                     {"name", metadata.name},
                     {"devices", devices},
                     {"next_origin_id", metadata.next_origin_id},
                     {"next_snapshot_id", metadata.next_snapshot_id},
                     {"origins", origins},
                     {"snapshots", snapshots}};
    if (metadata.full_wait_ms)
        document["full_wait_ms"] = *metadata.full_wait_ms;
    if (metadata.autoextend != AutoextendRecord())
        document["autoextend"] = toJson(metadata.autoextend);
    // Device names and serials come from outside and need not be UTF-8.
    return document.dump(-1, ' ', false, json::error_handler_t::replace);
}

Metadata parseMetadata(std::uint32_t schema, std::string_view text) {
    if (schema > kMetadataSchema)
        fail(
            ErrorKind::NotSupported,
            "the metadata of the store has version {}, this program knows up to {}: update cowsnap",
            schema, kMetadataSchema);
    try {
        const json document = json::parse(text);
        Metadata metadata;
        metadata.store = uuidFrom(document, "store");
        metadata.name = nameFrom(document, "store");
        for (const auto& device : document.at("devices"))
            metadata.devices.push_back(deviceIdentityFromJson(device));
        if (document.contains("full_wait_ms"))
            metadata.full_wait_ms = numberFrom<std::uint64_t>(document.at("full_wait_ms"));
        if (document.contains("autoextend"))
            metadata.autoextend = autoextendFrom(document.at("autoextend"));
        metadata.next_origin_id = idFrom(document, "next_origin_id");
        metadata.next_snapshot_id = idFrom(document, "next_snapshot_id");
        for (const auto& origin : document.at("origins"))
            metadata.origins.push_back(originFrom(origin));
        for (const auto& snapshot : document.at("snapshots"))
            metadata.snapshots.push_back(snapshotFrom(snapshot));
        checkReferences(metadata);
        return metadata;
    } catch (const json::exception& error) {
        corrupt(error.what());
    }
}

}  // namespace cowsnap
