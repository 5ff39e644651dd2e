// SPDX-License-Identifier: GPL-2.0-or-later
// "lvm vgs", "lvm lvs" and "lvm lvcreate".
#include "block/lvm_volume_groups.h"

#include <unistd.h>

#include <algorithm>
#include <sstream>

#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/program.h"

namespace cowsnap {

namespace {

using nlohmann::json;

constexpr std::chrono::seconds kLimit{120};

std::string programPath() {
    for (const char* const path : {"/usr/sbin/lvm", "/sbin/lvm"})
        if (::access(path, X_OK) == 0)
            return path;
    fail(ErrorKind::NotFound, "LVM is not installed (there is no /usr/sbin/lvm)");
}

std::string runLvm(std::vector<std::string> words) {
    words.insert(words.begin(), programPath());
    const ProgramResult result = runProgram(words, kLimit);
    if (result.status == 0)
        return result.output;
    // Its last line says what went wrong, those before how it came to it.
    std::string why = result.errors.substr(0, result.errors.find_last_not_of(" \n") + 1);
    why = why.substr(why.rfind('\n') + 1);
    why.erase(0, why.find_first_not_of(' '));
    fail(ErrorKind::Failed, "lvm {} failed: {}", words[1],
         why.empty() ? fmt::format("it ended with {}", result.status) : why);
}

/// The rows of the only report, each an object of texts.
json rowsOf(const std::string& report, const char* key) {
    json rows = json::parse(report).at("report").at(0).at(key);
    if (!rows.is_array())
        fail(ErrorKind::Failed, "LVM's report has no list of {}", key);
    return rows;
}

std::uint64_t bytesFrom(const json& row, const char* key) {
    return std::stoull(row.at(key).get<std::string>());
}

template <typename Read>
auto readReport(Read read) {
    try {
        return read();
    } catch (const json::exception& error) {
        fail(ErrorKind::Failed, "the report of LVM is not understood: {}", error.what());
    } catch (const std::logic_error&) {  // of stoull()
        fail(ErrorKind::Failed, "the report of LVM has a size that is no number");
    }
}

}  // namespace

std::vector<VolumeGroup> parseGroups(const std::string& report) {
    return readReport([&] {
        std::vector<VolumeGroup> groups;
        for (const auto& row : rowsOf(report, "vg")) {
            VolumeGroup group;
            group.uuid = row.at("vg_uuid").get<std::string>();
            std::erase(group.uuid, '-');
            group.name = row.at("vg_name").get<std::string>();
            group.extent_bytes = bytesFrom(row, "vg_extent_size");
            if (group.extent_bytes == 0)
                fail(ErrorKind::Failed, "LVM's report has a volume group without extents");
            group.free_bytes = bytesFrom(row, "vg_free");
            groups.push_back(std::move(group));
        }
        return groups;
    });
}

std::vector<LogicalVolume> parseVolumes(const std::string& report) {
    return readReport([&] {
        std::vector<LogicalVolume> volumes;
        for (const auto& row : rowsOf(report, "lv")) {
            LogicalVolume volume{
                row.at("lv_name").get<std::string>(), row.at("lv_path").get<std::string>(), {}};
            std::istringstream tags(row.at("lv_tags").get<std::string>());
            for (std::string tag; std::getline(tags, tag, ',');)
                volume.tags.insert(tag);
            volumes.push_back(std::move(volume));
        }
        return volumes;
    });
}

std::vector<std::string> parsePhysicalVolumes(const std::string& report) {
    return readReport([&] {
        std::vector<std::string> paths;
        for (const auto& row : rowsOf(report, "vg"))
            paths.push_back(row.at("pv_name").get<std::string>());
        return paths;
    });
}

namespace {

constexpr const char* kGroupFields = "vg_uuid,vg_name,vg_extent_size,vg_free";

}  // namespace

std::vector<VolumeGroup> LvmVolumeGroups::groups() {
    return parseGroups(
        runLvm({"vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "--select",
                "vg_permissions=writeable && vg_exported=0 && "
                "vg_partial=0",
                "-o", kGroupFields}));
}

std::vector<std::string> LvmVolumeGroups::devicesOf(const VolumeGroup& group) {
    return parsePhysicalVolumes(
        runLvm({"vgs", "--reportformat", "json", "-o", "pv_name", "--", group.name}));
}

std::optional<VolumeGroup> LvmVolumeGroups::findGroup(const std::string& uuid) {
    for (auto& group : parseGroups(runLvm(
             {"vgs", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", kGroupFields})))
        if (group.uuid == uuid)
            return std::move(group);
    return std::nullopt;
}

std::vector<LogicalVolume> LvmVolumeGroups::volumesOf(const VolumeGroup& group) {
    return parseVolumes(runLvm(
        {"lvs", "--reportformat", "json", "-o", "lv_name,lv_path,lv_tags", "--", group.name}));
}

std::string LvmVolumeGroups::createVolume(const VolumeGroup& group, const std::string& name,
                                          std::uint64_t extents, const std::string& tag) {
    // No backup of LVM's metadata: it would be written to /etc/lvm, which may be on an origin that
    // waits for the very room that is made here.
    runLvm({"lvcreate", "--yes", "--autobackup", "n", "--type", "linear", "--wipesignatures", "y",
            "--zero", "y", "--extents", std::to_string(extents), "--addtag", tag, "--name", name,
            "--", group.name});
    return fmt::format("/dev/{}/{}", group.name, name);
}

}  // namespace cowsnap
