// SPDX-License-Identifier: GPL-2.0-or-later
// Delta debugging of the steps of a run, see shrink.hpp.
#include "shrink.hpp"

#include <algorithm>
#include <charconv>
#include <utility>

namespace sim {

namespace {

Steps without(const Steps& steps, std::size_t from, std::size_t count) {
    Steps rest(steps.begin(), steps.begin() + static_cast<std::ptrdiff_t>(from));
    rest.insert(rest.end(),
                steps.begin() + static_cast<std::ptrdiff_t>(std::min(from + count, steps.size())),
                steps.end());
    return rest;
}

// From the end on, since what comes last depends on most. True when something went.
bool drop_parts(Steps& steps, std::size_t size, const std::function<bool(const Steps&)>& fails) {
    bool dropped = false;
    for (std::size_t parts = (steps.size() + size - 1) / size; parts-- > 0;) {
        const Steps rest = without(steps, parts * size, size);
        if (fails(rest)) {
            steps = rest;
            dropped = true;
        }
    }
    return dropped;
}

std::string without_numbers(std::string text) {
    std::erase_if(text, [](char c) { return c >= '0' && c <= '9'; });
    return text;
}

}  // namespace

Steps shrink(Steps steps, const std::function<bool(const Steps&)>& fails) {
    for (std::size_t size = std::max<std::size_t>(steps.size() / 2, 1); size > 1; size /= 2) {
        drop_parts(steps, size, fails);
    }
    while (!steps.empty() && drop_parts(steps, 1, fails)) {
    }
    return steps;
}

Shrunk shrink_run(const Steps& steps, const std::function<Outcome(const Steps&)>& run,
                  std::chrono::steady_clock::duration limit) {
    const auto end = std::chrono::steady_clock::now() + limit;
    const Outcome first = run(steps);
    Shrunk shrunk{steps, first.failure};
    if (first.failure.empty()) {
        return shrunk;
    }
    const std::string cause = without_numbers(first.failure);
    shrunk.steps.resize(std::min<std::size_t>(steps.size(), first.steps_run));
    shrunk.steps = shrink(std::move(shrunk.steps), [&](const Steps& fewer) {
        if (std::chrono::steady_clock::now() >= end) {
            return false;
        }
        const Outcome outcome = run(fewer);
        const bool same = without_numbers(outcome.failure) == cause;
        if (same) {
            shrunk.failure = outcome.failure;
        }
        return same;
    });
    return shrunk;
}

std::string list_of_steps(const Steps& steps) {
    std::string list;
    for (std::size_t i = 0; i < steps.size();) {
        std::size_t last = i;
        while (last + 1 < steps.size() && steps[last + 1] == steps[last] + 1) {
            ++last;
        }
        list += (list.empty() ? "" : ",") + std::to_string(steps[i]);
        if (last > i) {
            list += "-" + std::to_string(steps[last]);
        }
        i = last + 1;
    }
    return list;
}

bool parse_steps(const std::string& list, Steps& steps) {
    const char* at = list.data();
    const char* const end = at + list.size();
    while (at != end) {
        std::uint64_t first = 0;
        auto [next, error] = std::from_chars(at, end, first);
        std::uint64_t last = first;
        if (error == std::errc() && next != end && *next == '-') {
            const auto range = std::from_chars(next + 1, end, last);
            next = range.ptr;
            error = range.ec;
        }
        constexpr std::uint64_t most = 1000000;
        if (error != std::errc() || last < first || last > most || (next != end && *next != ',')) {
            return false;
        }
        for (std::uint64_t step = first; step <= last; ++step) {
            steps.push_back(step);
        }
        at = next == end ? end : next + 1;
    }
    return true;
}

}  // namespace sim
