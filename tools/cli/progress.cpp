// SPDX-License-Identifier: GPL-2.0-or-later
#include "cli/progress.h"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <iostream>
#include <memory>
#include <vector>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include "base/size_text.h"
#include "cli/output.h"

namespace cowsnap::cli {

namespace {

using Clock = std::chrono::steady_clock;

/// A line each time that something is new.
class Lines {
public:
    void show(const Object& job) {
        const std::string line = lineOf(job);
        if (line != last_)
            std::cerr << line << std::endl;
        last_ = line;
    }

private:
    static std::string lineOf(const Object& job) {
        nlohmann::ordered_json line = {{"schema", kJsonSchema}};
        line.update(progressOf(job));
        return line.dump();
    }

    std::string last_;
};

/// What is over soon shows no bar.
class Bar {
public:
    explicit Bar(bool bytes) : bytes_(bytes) {}

    void show(const Object& job) {
        constexpr std::chrono::seconds soon{1};
        const bool over = isOver(job);
        if (over || Clock::now() - began_ < soon) {
            if (over && shown_)
                std::cerr << "\r\033[K" << std::flush;
            return;
        }
        shown_ = true;
        std::cerr << "\r\033[K" << textOf(job) << std::flush;
    }

private:
    std::string textOf(const Object& job) const {
        const double share = job.real("Progress");
        if (share < 0)
            return fmt::format("{}: {}", job.text("Operation"), job.text("State"));
        constexpr int width = 30;
        const auto full = static_cast<std::size_t>(std::clamp(share, 0.0, 1.0) * width);
        return fmt::format("{} [{:<{}}] {}", job.text("Operation"), std::string(full, '#'), width,
                           progressText(job, bytes_));
    }

    bool bytes_;
    Clock::time_point began_ = Clock::now();
    bool shown_ = false;
};

}  // namespace

nlohmann::ordered_json progressOf(const Object& job) {
    nlohmann::ordered_json progress = {{"job", job.number("Number")},
                                       {"operation", job.text("Operation")},
                                       {"state", job.text("State")},
                                       {"progress", nullptr},
                                       {"done_bytes", job.number("Bytes")},
                                       {"bytes_per_second", job.number("Rate")},
                                       {"expected_end", nullptr}};
    if (job.real("Progress") >= 0)
        progress["progress"] = job.real("Progress");
    if (const auto end = job.number("ExpectedEndTime"); end != 0)
        progress["expected_end"] = end;
    return progress;
}

std::string progressText(const Object& job, bool bytes) {
    std::vector<std::string> known;
    if (const double share = job.real("Progress"); share >= 0)
        known.push_back(fmt::format("{:.0f} %", share * 100));
    if (const auto rate = job.number("Rate"); rate != 0)
        known.push_back(fmt::format("{} a second", bytes ? std::to_string(rate) : sizeText(rate)));
    const auto now = static_cast<std::uint64_t>(std::time(nullptr));
    if (const auto end = job.number("ExpectedEndTime"); end > now)
        known.push_back(fmt::format("{} s left", end - now));
    return fmt::format("{}", fmt::join(known, ", "));
}

std::function<void(const Object& job)> progressShower(const std::string& how, bool json,
                                                      bool bytes) {
    if (how == "json") {
        auto lines = std::make_shared<Lines>();
        return [lines](const Object& job) { lines->show(job); };
    }
    if (how == "none" || json || ::isatty(STDERR_FILENO) == 0)
        return nullptr;
    auto bar = std::make_shared<Bar>(bytes);
    return [bar](const Object& job) { bar->show(job); };
}

}  // namespace cowsnap::cli
