// SPDX-License-Identifier: GPL-2.0-or-later
// Sends the log to systemd's journal, with fields: what the thread works at (LogFields), the
// priority, and who says it. See systemd.journal-fields(7).
#ifndef COWSNAP_DAEMON_LOG_JOURNAL_SINK_H
#define COWSNAP_DAEMON_LOG_JOURNAL_SINK_H

#include <spdlog/sinks/base_sink.h>

#include <mutex>
#include <string>
#include <vector>

namespace cowsnap {

/// Whether standard error is what systemd connected with the journal ($JOURNAL_STREAM).
bool errorsGoToJournal();

class JournalSink final : public spdlog::sinks::base_sink<std::mutex> {
public:
    /// identifier: the name of the program.
    explicit JournalSink(std::string identifier) : identifier_(std::move(identifier)) {}

protected:
    /// What the journal does not take goes to standard error.
    void sink_it_(const spdlog::details::log_msg& message) override;
    void flush_() override {}

private:
    std::string identifier_;
};

}  // namespace cowsnap

#endif
