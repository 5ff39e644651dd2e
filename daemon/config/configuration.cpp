// SPDX-License-Identifier: GPL-2.0-or-later
// One entry for each key: its name, and how its value is checked and taken.
#include "config/configuration.h"

#include <algorithm>
#include <functional>

#include <nlohmann/json.hpp>

#include "base/durable_file.h"
#include "base/error.h"
#include "config/key_lines.h"

namespace cowsnap {

namespace {

using nlohmann::json;

/// What is expected of a value that is something else.
struct Expected {
    std::string text;
};

std::uint64_t numberIn(const json& value, std::uint64_t least, std::uint64_t most) {
    if (value.is_number_unsigned())
        if (const auto number = value.get<std::uint64_t>(); number >= least && number <= most)
            return number;
    throw Expected{fmt::format("a whole number from {} to {}", least, most)};
}

constexpr std::uint64_t kDaySeconds = 24 * 60 * 60;
constexpr std::uint64_t kMostKept = 10000;

struct Key {
    const char* name;
    std::function<void(Configuration&, const json&)> take;
};

const std::vector<Key>& keys() {
    static const std::vector<Key> all{
        {"log_level",
         [](Configuration& to, const json& value) {
             const auto& known = logLevels();
             if (!value.is_string() ||
                 std::find(known.begin(), known.end(), value.get<std::string>()) == known.end())
                 throw Expected{fmt::format("one of: {}", fmt::join(known, ", "))};
             to.log_level = value.get<std::string>();
         }},
        {"space_warnings_percent",
         [](Configuration& to, const json& value) {
             const Expected expected{
                 "a list of whole numbers from 1 to 100, each more than the "
                 "one before it"};
             if (!value.is_array())
                 throw expected;
             to.space_warnings_percent.clear();
             for (const auto& element : value) {
                 const auto& before = to.space_warnings_percent;
                 if (!element.is_number_unsigned() || element < 1u || element > 100u ||
                     (!before.empty() && element <= before.back()))
                     throw expected;
                 to.space_warnings_percent.push_back(element.get<unsigned>());
             }
         }},
        {"autoextend",
         [](Configuration& to, const json& value) {
             if (!value.is_boolean())
                 throw Expected{"true or false"};
             to.autoextend = value.get<bool>();
         }},
        {"autoextend_at_percent",
         [](Configuration& to, const json& value) {
             to.autoextend_at_percent = static_cast<unsigned>(numberIn(value, 1, 100));
         }},
        {"autoextend_by_percent",
         [](Configuration& to, const json& value) {
             to.autoextend_by_percent = static_cast<unsigned>(numberIn(value, 1, 1000));
         }},
        {"refresh_interval_seconds",
         [](Configuration& to, const json& value) {
             to.refresh_interval = std::chrono::seconds(numberIn(value, 1, kDaySeconds));
         }},
        {"event_interval_ms",
         [](Configuration& to, const json& value) {
             to.event_interval = std::chrono::milliseconds(numberIn(value, 0, 60000));
         }},
        {"metadata_backups",
         [](Configuration& to, const json& value) {
             to.metadata_backups = numberIn(value, 0, kMostKept);
         }},
        {"finished_jobs",
         [](Configuration& to, const json& value) {
             to.finished_jobs = numberIn(value, 1, kMostKept);
         }},
        {"finished_jobs_seconds",
         [](Configuration& to, const json& value) {
             to.finished_jobs_age = std::chrono::seconds(numberIn(value, 1, 30 * kDaySeconds));
         }},
        {"request_ids", [](Configuration& to,
                           const json& value) { to.request_ids = numberIn(value, 1, kMostKept); }},
        {"request_ids_seconds",
         [](Configuration& to, const json& value) {
             to.request_ids_age = std::chrono::seconds(numberIn(value, 1, 30 * kDaySeconds));
         }},
    };
    return all;
}

}  // namespace

const std::vector<std::string>& logLevels() {
    static const std::vector<std::string> levels{"debug", "info", "warning", "error"};
    return levels;
}

std::vector<std::string> configurationKeys() {
    std::vector<std::string> names;
    for (const auto& key : keys())
        names.emplace_back(key.name);
    return names;
}

Configuration parseConfiguration(const std::string& text, const std::string& file_name) {
    const auto lines = keyLines(text, file_name);
    const json document = json::parse(text, nullptr, true, true);
    Configuration configuration;
    for (const auto& [name, value] : document.items()) {
        const auto key = std::find_if(keys().begin(), keys().end(),
                                      [&](const Key& known) { return known.name == name; });
        if (key == keys().end())
            fail(ErrorKind::InvalidArgument, "{}:{}: there is no key \"{}\"; there are: {}",
                 file_name, lines.at(name), name, fmt::join(configurationKeys(), ", "));
        try {
            key->take(configuration, value);
        } catch (const Expected& expected) {
            fail(ErrorKind::InvalidArgument, "{}:{}: \"{}\" is {}, expected {}", file_name,
                 lines.at(name), name, value.dump(-1, ' ', false, json::error_handler_t::replace),
                 expected.text);
        }
    }
    return configuration;
}

Configuration readConfiguration(const ConfigurationSource& source) {
    Configuration configuration;
    if (!source.file.empty())
        if (const auto text = readIfThere(source.file))
            configuration = parseConfiguration(*text, source.file.string());
    if (!source.log_level.empty())
        configuration.log_level = source.log_level;
    return configuration;
}

}  // namespace cowsnap
