// SPDX-License-Identifier: GPL-2.0-or-later
// Reports as lines and as JSON.
#include "store/report_text.h"

#include <algorithm>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

namespace cowsnap::store {

namespace {

using Json = nlohmann::ordered_json;

std::string nameOf(const SnapshotFact& snapshot) {
    return snapshot.name.empty() ? std::to_string(snapshot.id)
                                 : fmt::format("{} (\"{}\")", snapshot.id, snapshot.name);
}

std::string nameOf(const Report& report, std::uint32_t id) {
    for (const auto& snapshot : report.snapshots)
        if (snapshot.id == id)
            return nameOf(snapshot);
    return std::to_string(id);
}

std::string touchesText(const Report& report, const Finding& finding) {
    if (finding.snapshots.empty())
        return {};
    std::string text =
        finding.snapshots.size() == 1 ? "; touches snapshot " : "; touches snapshots ";
    for (std::size_t i = 0; i < finding.snapshots.size(); ++i)
        text += (i == 0 ? "" : ", ") + nameOf(report, finding.snapshots[i]);
    return text;
}

}  // namespace

std::string reportText(const Report& report, const DeviceBlocks& devices) {
    std::string text;
    if (report.segments != 0)
        text += fmt::format(
            "store {}: {} origins, {} snapshots, {} segments of {} KiB{}\n", report.uuid.dashed(),
            report.origins, report.snapshots.size(), report.segments, report.segment_blocks * 4,
            report.activates ? fmt::format(", {} of them free", report.free_segments)
                             : std::string());
    for (const auto& rollback : report.rollbacks)
        text +=
            rollback.scheduled
                ? fmt::format("a rollback of origin {} to snapshot {} is scheduled\n",
                              rollback.origin, nameOf(report, rollback.target))
                : fmt::format(
                      "origin {} is being rolled back to snapshot {}: {} of {} blocks are done\n",
                      rollback.origin, nameOf(report, rollback.target), rollback.done_blocks,
                      rollback.blocks);
    for (const auto& finding : report.findings) {
        const Place place = devices.place(finding.block);
        text += fmt::format("{}: {}: block {}: {}: {}{}\n", finding.damage ? "damage" : "notice",
                            place.device, place.block, finding.structure, finding.what,
                            touchesText(report, finding));
    }
    if (report.data_checked)
        text += fmt::format("{} blocks of data were compared with their checksums\n",
                            report.data_blocks);
    if (!report.activates)
        text += fmt::format("the store cannot be activated: {}\n", report.refusal);
    if (report.passed())
        text += report.findings.empty() ? "no damage was found\n"
                                        : "no damage was found; what is noticed loses nothing\n";
    else
        text +=
            fmt::format("{} damages were found; \"cowsnap-store repair\" says what can be kept\n",
                        report.damages());
    return text;
}

Json reportJson(const Report& report, const DeviceBlocks& devices) {
    Json snapshots = Json::array();
    for (const auto& snapshot : report.snapshots)
        snapshots.push_back({{"id", snapshot.id},
                             {"origin", snapshot.origin},
                             {"name", snapshot.name},
                             {"lost", snapshot.lost},
                             {"stale", snapshot.stale}});
    Json rollbacks = Json::array();
    for (const auto& rollback : report.rollbacks)
        rollbacks.push_back({{"origin", rollback.origin},
                             {"target", rollback.target},
                             {"scheduled", rollback.scheduled},
                             {"done_blocks", rollback.done_blocks},
                             {"blocks", rollback.blocks}});
    Json findings = Json::array();
    for (const auto& finding : report.findings) {
        const Place place = devices.place(finding.block);
        findings.push_back({{"severity", finding.damage ? "damage" : "notice"},
                            {"structure", finding.structure},
                            {"device", place.device},
                            {"block", place.block},
                            {"what", finding.what},
                            {"snapshots", finding.snapshots}});
    }
    Json json = {{"version", kReportVersion},
                 {"store", report.uuid == Uuid() ? Json() : Json(report.uuid.dashed())},
                 {"passed", report.passed()},
                 {"activates", report.activates},
                 {"refusal", report.refusal},
                 {"damages", report.damages()},
                 {"origins", report.origins},
                 {"segments", report.segments},
                 {"free_segments", report.free_segments},
                 {"snapshots", snapshots},
                 {"rollbacks", rollbacks},
                 {"findings", findings}};
    if (report.data_checked)
        json["data_blocks"] = report.data_blocks;
    return json;
}

std::string planText(const RepairPlan& plan) {
    std::string text;
    for (const auto& step : plan.steps)
        text += fmt::format("to do: {}\n", step);
    for (const auto& dropped : plan.dropped)
        text += fmt::format("to drop: snapshot {}: {}\n", nameOf(dropped.snapshot), dropped.reason);
    for (const auto& snapshot : plan.after.snapshots)
        text += fmt::format("stays: snapshot {}\n", nameOf(snapshot));
    return text;
}

Json planJson(const RepairPlan& plan, const DeviceBlocks& devices, bool repaired) {
    Json dropped = Json::array();
    for (const auto& item : plan.dropped)
        dropped.push_back(
            {{"id", item.snapshot.id}, {"name", item.snapshot.name}, {"reason", item.reason}});
    return {{"version", kReportVersion},
            {"needed", plan.needed()},
            {"repaired", repaired},
            {"steps", plan.steps},
            {"dropped", dropped},
            {"before", reportJson(plan.before, devices)},
            {"after", reportJson(plan.after, devices)}};
}

}  // namespace cowsnap::store
