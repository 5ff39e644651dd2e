// SPDX-License-Identifier: GPL-2.0-or-later
// The log as a list, for tests of what is logged.
#ifndef COWSNAP_TESTS_RECORDED_LOG_H
#define COWSNAP_TESTS_RECORDED_LOG_H

#include <catch2/catch.hpp>

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "base/log_fields.h"

namespace cowsnap::test {

struct Logged {
    std::string text;
    spdlog::level::level_enum level;
    LogFields::Fields fields;

    /// The values of a field.
    std::vector<std::string> all(const std::string& name) const {
        std::vector<std::string> values;
        for (const auto& [field, value] : fields)
            if (field == name)
                values.push_back(value);
        return values;
    }
    std::string one(const std::string& name) const {
        const auto values = all(name);
        CHECK(values.size() <= 1);
        return values.empty() ? std::string() : values.front();
    }
};

class RecordingSink final : public spdlog::sinks::base_sink<std::mutex> {
public:
    std::vector<Logged> take() {
        const std::lock_guard lock(mutex_);
        return std::exchange(logged_, {});
    }

protected:
    void sink_it_(const spdlog::details::log_msg& message) override {
        logged_.push_back({std::string(message.payload.data(), message.payload.size()),
                           message.level, LogFields::current()});
    }
    void flush_() override {}

private:
    std::vector<Logged> logged_;
};

/// The log goes to a list while this exists. Made before any daemon, and gone after it.
class RecordedLog {
public:
    RecordedLog() : before_(spdlog::default_logger()) {
        spdlog::set_default_logger(std::make_shared<spdlog::logger>("recorded", sink_));
        spdlog::set_level(spdlog::level::debug);
    }
    ~RecordedLog() {
        spdlog::set_default_logger(before_);
        spdlog::set_level(spdlog::level::off);
    }
    RecordedLog(const RecordedLog&) = delete;
    RecordedLog& operator=(const RecordedLog&) = delete;

    /// The messages that have this in them.
    std::vector<Logged> with(const std::string& text) {
        for (auto& logged : sink_->take())
            all_.push_back(std::move(logged));
        std::vector<Logged> found;
        for (const auto& logged : all_)
            if (logged.text.find(text) != std::string::npos)
                found.push_back(logged);
        return found;
    }

private:
    std::shared_ptr<RecordingSink> sink_ = std::make_shared<RecordingSink>();
    std::shared_ptr<spdlog::logger> before_;
    std::vector<Logged> all_;
};

}  // namespace cowsnap::test

#endif
