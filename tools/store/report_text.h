// SPDX-License-Identifier: GPL-2.0-or-later
// A report for people and for programs.
#ifndef COWSNAP_STORE_REPORT_TEXT_H
#define COWSNAP_STORE_REPORT_TEXT_H

#include <string>

#include <nlohmann/json_fwd.hpp>

#include "store/blocks.h"
#include "store/check.h"
#include "store/repair.h"

namespace cowsnap::store {

/// Version of the JSON of both functions below.
inline constexpr int kReportVersion = 1;

std::string reportText(const Report& report, const DeviceBlocks& devices);
nlohmann::ordered_json reportJson(const Report& report, const DeviceBlocks& devices);

std::string planText(const RepairPlan& plan);
/// What is to be done to a store that is on these devices, and whether it has been done.
nlohmann::ordered_json planJson(const RepairPlan& plan, const DeviceBlocks& devices, bool repaired);

}  // namespace cowsnap::store

#endif
