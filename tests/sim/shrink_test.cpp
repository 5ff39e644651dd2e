// SPDX-License-Identifier: GPL-2.0-or-later
// A failing run is made short, and what is left fails in the same way.
#include <algorithm>
#include <catch2/catch.hpp>
#include <numeric>

#include "scenario.hpp"
#include "shrink.hpp"

using sim::Outcome;
using sim::Steps;

namespace {

constexpr std::chrono::hours kLong{1};

bool has(const Steps& steps, std::uint64_t step) {
    return std::find(steps.begin(), steps.end(), step) != steps.end();
}

// None of them can be left out.
bool is_least(const Steps& steps, const std::function<bool(const Steps&)>& fails) {
    for (std::size_t i = 0; i < steps.size(); ++i) {
        Steps fewer = steps;
        fewer.erase(fewer.begin() + static_cast<std::ptrdiff_t>(i));
        if (fails(fewer)) {
            return false;
        }
    }
    return fails(steps);
}

}  // namespace

TEST_CASE("shrinking leaves what a failure needs") {
    const Steps all = sim::all_steps(300);
    SECTION("steps that are needed together") {
        REQUIRE(sim::shrink(all, [](const Steps& steps) {
                    return has(steps, 3) && has(steps, 170) && has(steps, 299);
                }) == Steps{3, 170, 299});
    }
    SECTION("one of many that do") {
        const auto fails = [](const Steps& steps) {
            return std::accumulate(steps.begin(), steps.end(), std::uint64_t{0}) >= 1000;
        };
        REQUIRE(is_least(sim::shrink(all, fails), fails));
    }
    SECTION("a step that is needed only because of another") {
        // 20 leaves something wrong behind for 30, unless 25 is done and 24 is not
        const auto fails = [](const Steps& steps) {
            return has(steps, 20) && has(steps, 30) && (!has(steps, 25) || has(steps, 24));
        };
        REQUIRE(sim::shrink(all, fails) == Steps{20, 30});
    }
    SECTION("none, when it fails without any") {
        REQUIRE(sim::shrink(all, [](const Steps&) { return true; }).empty());
    }
}

TEST_CASE("a run that is shrunk fails for the same cause") {
    // the cause of the whole run needs 5 and 9; 5 alone is another one
    const auto run = [](const Steps& steps) {
        if (has(steps, 5) && has(steps, 9)) {
            const auto at = std::find(steps.begin(), steps.end(), 9) - steps.begin();
            return Outcome{"block " + std::to_string(steps.size()) + " is wrong",
                           static_cast<std::uint64_t>(at) + 1};
        }
        return Outcome{has(steps, 5) ? "block 5 is leaked" : "", steps.size()};
    };
    SECTION("but for numbers") {
        const sim::Shrunk shrunk = sim::shrink_run(sim::all_steps(100), run, kLong);
        REQUIRE(shrunk.steps == Steps{5, 9});
        REQUIRE(shrunk.failure == "block 2 is wrong");
    }
    SECTION("when there is no time, too") {
        const sim::Shrunk shrunk =
            sim::shrink_run(sim::all_steps(100), run, std::chrono::seconds(0));
        // what comes behind its failure is left out all the same
        REQUIRE(shrunk.steps == sim::all_steps(10));
        REQUIRE(run(shrunk.steps).failure == "block 10 is wrong");
    }
    SECTION("and one that does not fail is told") {
        REQUIRE(sim::shrink_run({1, 2, 3}, run, kLong).failure.empty());
    }
}

TEST_CASE("a seed's run is shrunk to steps that do the same alone") {
    // as if a second power cut were a failure
    const auto run = [](const Steps& steps) {
        const sim::Counts counts = sim::run_steps(7, steps, sim::Cuts::some);
        return Outcome{
            counts.cuts >= 2 ? "there were " + std::to_string(counts.cuts) + " cuts" : "",
            steps.size()};
    };
    const auto fails = [&](const Steps& steps) { return !run(steps).failure.empty(); };
    REQUIRE(fails(sim::all_steps(150)));
    const sim::Shrunk shrunk = sim::shrink_run(sim::all_steps(150), run, kLong);
    REQUIRE(shrunk.steps.size() < 20);
    REQUIRE(is_least(shrunk.steps, fails));
    Steps again;
    REQUIRE(sim::parse_steps(sim::list_of_steps(shrunk.steps), again));
    REQUIRE(run(again).failure == shrunk.failure);
}

TEST_CASE("what is said of steps is understood again") {
    REQUIRE(sim::list_of_steps({3, 7, 10, 11, 12}) == "3,7,10-12");
    for (const Steps& steps : {Steps{0}, Steps{3, 7, 10, 11, 12}, Steps{1, 2, 3}, Steps{}}) {
        Steps again;
        REQUIRE(sim::parse_steps(sim::list_of_steps(steps), again));
        REQUIRE(again == steps);
    }
    for (const char* list : {"x", "3-", "-3", "5-3", "1;2", "0-99999999"}) {
        Steps steps;
        REQUIRE_FALSE(sim::parse_steps(list, steps));
    }
}
