// SPDX-License-Identifier: GPL-2.0-or-later
// watch: how full the stores are, when they will be, and what is being done, again and again.
#include <unistd.h>

#include <chrono>
#include <ctime>
#include <iostream>
#include <memory>
#include <thread>

#include <fmt/format.h>

#include "base/size_text.h"
#include "cli/progress.h"
#include "cli/verbs.h"

namespace cowsnap::cli {

namespace {

using Json = nlohmann::ordered_json;

struct Arguments {
    unsigned interval_s = 2;
    std::uint64_t count = 0;  ///< 0: until it is stopped
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
        Json state = {{"schema", kJsonSchema},
                      {"stores", Json::array()},
                      {"rollbacks", Json::array()},
                      {"jobs", Json::array()}};
        for (const auto& store : objects.stores)
            state["stores"].push_back(lookAt(store));
        for (const auto& origin : objects.origins)
            if (origin.text("Rollback") != "none")
                state["rollbacks"].push_back({{"origin", origin.text("Name")},
                                              {"state", origin.text("Rollback")},
                                              {"to", objects.nameOf(origin.text("RollbackTarget"))},
                                              {"done_bytes", origin.number("RollbackDoneBytes")},
                                              {"size_bytes", origin.number("SizeBytes")}});
        for (const auto& job : objects.jobs)
            if (!isOver(job)) {
                Json line = progressOf(job);
                line["subject"] = job.text("Subject");
                state["jobs"].push_back(std::move(line));
            }
        if (session_.output.json)
            std::cout << state.dump() << std::endl;
        else
            print(state, objects);
    }

private:
    /// How fast it fills, and when it is full, is what the daemon has seen in the last minutes.
    static Json lookAt(const Object& store) {
        const auto free_bytes = store.number("FreeBytes");
        Json json = {{"name", store.text("Name")},
                     {"state", store.text("State")},
                     {"used_bytes", store.number("UsedBytes")},
                     {"size_bytes", store.number("SizeBytes")},
                     {"free_bytes", free_bytes},
                     {"bytes_per_second", nullptr},
                     {"full_in_seconds", nullptr}};
        const auto now = static_cast<std::uint64_t>(std::time(nullptr));
        if (const auto full = store.number("ExpectedFull"); full > now) {
            json["bytes_per_second"] = free_bytes / (full - now);
            json["full_in_seconds"] = full - now;
        }
        return json;
    }

    void print(const Json& state, const Objects& objects) const {
        if (::isatty(STDOUT_FILENO) != 0)
            std::cout << "\033[H\033[J";
        if (state.at("stores").empty())
            std::cout << "There is no store (\"snapd-cli store create\" makes one).\n";
        for (const auto& store : state.at("stores"))
            std::cout << storeText(store) << '\n';
        for (const auto& rollback : state.at("rollbacks"))
            std::cout << fmt::format("{} goes back to {}: {}, {} of {}\n",
                                     textOf(rollback, "origin"), textOf(rollback, "to"),
                                     textOf(rollback, "state"), size(rollback.at("done_bytes")),
                                     size(rollback.at("size_bytes")));
        for (const auto& job : objects.jobs)
            if (!isOver(job))
                std::cout << jobText(job) << '\n';
        std::cout << std::flush;
    }

    std::string size(const Json& bytes) const {
        const auto number = bytes.get<std::uint64_t>();
        return session_.output.bytes ? std::to_string(number) : sizeText(number);
    }

    static std::string textOf(const Json& object, const char* key) {
        return printable(object.at(key).get<std::string>());
    }

    std::string jobText(const Object& job) const {
        std::string text =
            printable(fmt::format("job {}: {} {}, {}", job.number("Number"), job.text("Operation"),
                                  job.text("Subject"), job.text("State")));
        if (const std::string progress = progressText(job, session_.output.bytes);
            !progress.empty())
            text += ", " + progress;
        return text;
    }

    std::string storeText(const Json& store) const {
        const auto used = store.at("used_bytes").get<std::uint64_t>();
        const auto all = store.at("size_bytes").get<std::uint64_t>();
        std::string text = fmt::format(
            "{}: {}, {} of {} used ({} %), {} free", textOf(store, "name"), textOf(store, "state"),
            size(store.at("used_bytes")), size(store.at("size_bytes")),
            all == 0 ? 0 : used * 100 / all, size(store.at("free_bytes")));
        if (store.at("full_in_seconds").is_number())
            text +=
                fmt::format(", {} a second more: full in {}", size(store.at("bytes_per_second")),
                            durationText(store.at("full_in_seconds").get<double>()));
        return text;
    }

    Session& session_;
};

/// Looks every so often; goes on when a daemon that was there is back.
void watch(Session& session, const Arguments& arguments) {
    Watch watch(session);
    bool is_there = true;
    for (std::uint64_t looks = 0; arguments.count == 0 || looks < arguments.count;) {
        if (looks != 0)
            std::this_thread::sleep_for(std::chrono::seconds(arguments.interval_s));
        try {
            watch.look();
        } catch (const Failure& failure) {
            if (looks == 0 || failure.code() != ExitCode::NoDaemon)
                throw;
            if (is_there)
                printWarning("cowsnapd is gone; waiting until it is back");
            is_there = false;
            continue;
        }
        if (!is_there)
            printWarning("cowsnapd is back");
        is_there = true;
        ++looks;
    }
}

}  // namespace

void addWatch(CLI::App& app, Run& run) {
    auto arguments = std::make_shared<Arguments>();
    CLI::App* const verb =
        app.add_subcommand("watch", "Show how full stores are and what is done, again and again");
    verb->add_option("--interval", arguments->interval_s, "Seconds between two looks (2)")
        ->check(unsignedNumber())
        ->check(CLI::Range(1U, 86400U));
    verb->add_option("--count", arguments->count, "End after so many looks")
        ->check(unsignedNumber());
    verb->callback(
        [&run, arguments] { run = [arguments](Session& session) { watch(session, *arguments); }; });
}

}  // namespace cowsnap::cli
