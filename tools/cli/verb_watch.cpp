// SPDX-License-Identifier: GPL-2.0-or-later
// watch: how full the stores are, when they will be, and what is being done, again and again.
#include <unistd.h>

#include <chrono>
#include <deque>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <thread>

#include <fmt/format.h>

#include "base/size_text.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

/// What a store has used is compared with that of so long ago.
constexpr std::chrono::seconds kWindow{60};

struct Arguments {
    unsigned interval_s = 2;
    std::uint64_t count = 0;  ///< 0: until it is stopped
};

/// How fast something grows.
class Growth {
public:
    void add(std::uint64_t value, Clock::time_point now) {
        samples_.push_back({now, value});
        while (samples_.size() > 2 && now - samples_[1].when >= kWindow)
            samples_.pop_front();
    }

    /// A second; nothing until there are two values.
    std::optional<double> rate() const {
        if (samples_.size() < 2)
            return std::nullopt;
        const std::chrono::duration<double> time = samples_.back().when - samples_.front().when;
        const double grown = static_cast<double>(samples_.back().value) -
                             static_cast<double>(samples_.front().value);
        return time.count() > 0 ? std::optional(grown / time.count()) : std::nullopt;
    }

private:
    struct Sample {
        Clock::time_point when;
        std::uint64_t value;
    };
    std::deque<Sample> samples_;
};

std::string durationText(double seconds) {
    constexpr double minute = 60;
    constexpr double hour = 60 * minute;
    constexpr double day = 24 * hour;
    if (seconds < 2 * minute)
        return fmt::format("{:.0f} s", seconds);
    if (seconds < 2 * hour)
        return fmt::format("{:.0f} min", seconds / minute);
    if (seconds < 2 * day)
        return fmt::format("{:.0f} h", seconds / hour);
    return fmt::format("{:.0f} days", seconds / day);
}

class Watch {
public:
    explicit Watch(Session& session) : session_(session) {}

    void look() {
        if (::geteuid() == 0)
            session_.client.refresh();
        const Objects objects = session_.client.objects();
        const auto now = Clock::now();
        Json state = {{"schema", kJsonSchema},
                      {"stores", Json::array()},
                      {"rollbacks", Json::array()},
                      {"jobs", Json::array()}};
        for (const auto& store : objects.stores)
            state["stores"].push_back(lookAt(store, now));
        for (const auto& origin : objects.origins)
            if (origin.text("Rollback") != "none")
                state["rollbacks"].push_back({{"origin", origin.text("Name")},
                                              {"state", origin.text("Rollback")},
                                              {"to", objects.nameOf(origin.text("RollbackTarget"))},
                                              {"done_bytes", origin.number("RollbackDoneBytes")},
                                              {"bytes", origin.number("SizeBytes")}});
        for (const auto& job : objects.jobs)
            if (!isOver(job))
                state["jobs"].push_back({{"number", job.number("Number")},
                                         {"operation", job.text("Operation")},
                                         {"state", job.text("State")},
                                         {"subject", job.text("Subject")}});
        if (session_.output.json)
            std::cout << state.dump() << std::endl;
        else
            print(state);
    }

private:
    Json lookAt(const Object& store, Clock::time_point now) {
        Growth& growth = growths_[store.path];
        growth.add(store.number("UsedBytes"), now);
        const auto rate = growth.rate();
        const auto free_bytes = store.number("FreeBytes");
        Json json = {{"name", store.text("Name")},
                     {"state", store.text("State")},
                     {"used", store.number("UsedBytes")},
                     {"size", store.number("SizeBytes")},
                     {"free", free_bytes},
                     {"bytes_per_second", nullptr},
                     {"full_in_seconds", nullptr}};
        if (rate)
            json["bytes_per_second"] = *rate;
        if (rate && *rate > 0)
            json["full_in_seconds"] = static_cast<double>(free_bytes) / *rate;
        return json;
    }

    void print(const Json& state) const {
        if (::isatty(STDOUT_FILENO) != 0)
            std::cout << "\033[H\033[J";
        for (const auto& store : state.at("stores"))
            std::cout << storeText(store) << '\n';
        for (const auto& rollback : state.at("rollbacks"))
            std::cout << fmt::format(
                "{} goes back to {}: {}, {} of {}\n", rollback.at("origin").get<std::string>(),
                rollback.at("to").get<std::string>(), rollback.at("state").get<std::string>(),
                sizeText(rollback.at("done_bytes").get<std::uint64_t>()),
                sizeText(rollback.at("bytes").get<std::uint64_t>()));
        for (const auto& job : state.at("jobs"))
            std::cout << fmt::format("job {}: {} {}, {}\n", job.at("number").get<std::uint64_t>(),
                                     job.at("operation").get<std::string>(),
                                     job.at("subject").get<std::string>(),
                                     job.at("state").get<std::string>());
        std::cout << std::flush;
    }

    static std::string storeText(const Json& store) {
        const auto used = store.at("used").get<std::uint64_t>();
        const auto size = store.at("size").get<std::uint64_t>();
        std::string text = fmt::format(
            "{}: {}, {} of {} used ({} %), {} free", store.at("name").get<std::string>(),
            store.at("state").get<std::string>(), sizeText(used), sizeText(size),
            size == 0 ? 0 : used * 100 / size, sizeText(store.at("free").get<std::uint64_t>()));
        if (store.at("full_in_seconds").is_number())
            text += fmt::format(
                ", {} a second more: full in {}",
                sizeText(static_cast<std::uint64_t>(store.at("bytes_per_second").get<double>())),
                durationText(store.at("full_in_seconds").get<double>()));
        return text;
    }

    Session& session_;
    std::map<std::string, Growth> growths_;  ///< by the store's path
};

void watch(Session& session, const Arguments& arguments) {
    Watch watch(session);
    for (std::uint64_t i = 0; arguments.count == 0 || i < arguments.count; ++i) {
        if (i != 0)
            std::this_thread::sleep_for(std::chrono::seconds(arguments.interval_s));
        watch.look();
    }
}

}  // namespace

void addWatch(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb =
        app.add_subcommand("watch", "Show how full stores are and what is done, again and again");
    verb->add_option("--interval", arguments->interval_s, "Seconds between two looks (2)")
        ->check(CLI::Range(1U, 86400U));
    verb->add_option("--count", arguments->count, "End after so many looks");
    verb->callback(
        [&run, arguments] { run = [arguments](Session& session) { watch(session, *arguments); }; });
}

}  // namespace cowsnap::cli
