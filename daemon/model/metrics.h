// SPDX-License-Identifier: GPL-2.0-or-later
// The state in numbers, as Prometheus reads them. Knows no bus.
#ifndef COWSNAP_MODEL_METRICS_H
#define COWSNAP_MODEL_METRICS_H

#include <cstdint>
#include <map>
#include <string>

#include "base/uuid.h"
#include "model/store_state.h"

namespace cowsnap {

/// All stores and origins in the text format 0.0.4. Snapshots are counted, not listed: each would
/// be a time series of its own.
std::string metricsText(const std::map<Uuid, StoreState>& stores);

/// How many jobs there are, by the name of their state.
struct JobCounts {
    std::map<std::string, std::uint64_t> unfinished{};
    std::map<std::string, std::uint64_t> ended{};
};

/// The same of jobs, which are of the daemon and of no store.
std::string jobMetricsText(const JobCounts& counts);

}  // namespace cowsnap

#endif
