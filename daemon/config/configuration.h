// SPDX-License-Identifier: GPL-2.0-or-later
// What an administrator can set, with its defaults, and reading it from a file: JSON in which
// comments may stand. Knows nothing of who uses it. packaging/cowsnapd.conf describes each key.
#ifndef COWSNAP_DAEMON_CONFIG_CONFIGURATION_H
#define COWSNAP_DAEMON_CONFIG_CONFIGURATION_H

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "meta/backups.h"

namespace cowsnap {

inline constexpr std::string_view kDefaultConfigurationFile = "/etc/cowsnap/cowsnapd.conf";

struct Configuration {
    std::string log_level = "info";
    /// Ascending; a store that is used to one of them is warned of.
    std::vector<unsigned> space_warnings_percent{80, 90, 95};
    /// Whether stores are extended that get full, when, and by how much of what they have.
    bool autoextend = true;
    unsigned autoextend_at_percent = 70;
    unsigned autoextend_by_percent = 20;
    std::chrono::seconds refresh_interval{10};
    /// Between two readings because of events.
    std::chrono::milliseconds event_interval{100};
    /// Of each store, in the state directory.
    std::size_t metadata_backups = kMetadataBackupsKept;
    std::size_t finished_jobs = 100;
    std::chrono::seconds finished_jobs_age{3600};
    std::size_t request_ids = 1000;
    std::chrono::seconds request_ids_age{3600};

    bool operator==(const Configuration&) const = default;
};

/// Where the configuration comes from.
struct ConfigurationSource {
    std::filesystem::path file{};  ///< empty: there is none
    std::string log_level{};       ///< goes before that of the file; empty: does not
};

/// The names of levels of the log: debug, info, warning, error.
const std::vector<std::string>& logLevels();

/// The names of all keys.
std::vector<std::string> configurationKeys();

/// The configuration that text describes; what it does not name is as by default. InvalidArgument,
/// with file, line and key, if there is anything wrong.
Configuration parseConfiguration(const std::string& text, const std::string& file_name);

/// The same of a file; the defaults if there is none.
Configuration readConfiguration(const ConfigurationSource& source);

}  // namespace cowsnap

#endif
