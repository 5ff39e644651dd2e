// SPDX-License-Identifier: GPL-2.0-or-later
#include "log/journal_sink.h"

#include <sys/stat.h>
#include <sys/uio.h>
// The place in the source is not told: it would be that of this file.
#define SD_JOURNAL_SUPPRESS_LOCATION
#include <systemd/sd-journal.h>

#include <fmt/format.h>

#include <cstdlib>
#include <string_view>

#include "base/log_fields.h"

namespace cowsnap {

namespace {

/// As of syslog(3).
int priorityOf(spdlog::level::level_enum level) {
    switch (level) {
        case spdlog::level::critical:
            return LOG_CRIT;
        case spdlog::level::err:
            return LOG_ERR;
        case spdlog::level::warn:
            return LOG_WARNING;
        case spdlog::level::info:
            return LOG_INFO;
        default:
            return LOG_DEBUG;
    }
}

}  // namespace

bool errorsGoToJournal() {
    const char* const stream = std::getenv("JOURNAL_STREAM");
    struct stat status {};
    return stream != nullptr && ::fstat(STDERR_FILENO, &status) == 0 &&
           fmt::format("{}:{}", status.st_dev, status.st_ino) == stream;
}

void JournalSink::sink_it_(const spdlog::details::log_msg& message) {
    const std::string_view text(message.payload.data(), message.payload.size());
    std::vector<std::string> fields{
        fmt::format("MESSAGE={}", text), fmt::format("PRIORITY={}", priorityOf(message.level)),
        fmt::format("SYSLOG_IDENTIFIER={}", identifier_), fmt::format("TID={}", message.thread_id)};
    for (const auto& [name, value] : LogFields::current())
        fields.push_back(fmt::format("{}={}", name, value));
    std::vector<iovec> vectors;
    vectors.reserve(fields.size());
    for (auto& field : fields)
        vectors.push_back({field.data(), field.size()});
    if (::sd_journal_sendv(vectors.data(), static_cast<int>(vectors.size())) < 0)
        fmt::print(stderr, "<{}>{}\n", priorityOf(message.level), text);
}

}  // namespace cowsnap
