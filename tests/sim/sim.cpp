// SPDX-License-Identifier: GPL-2.0-or-later
// Random runs of the engine, each from its seed:
//
//   sim [--seed N] [--seeds K] [--steps M] [--jobs J]
//       K runs from seed N on, in J processes; of the first that fails it leaves out what that does
//       not need, unless --no-shrink says otherwise
//   sim --seed N --steps M --shrink
//       leaves out of a failing run what it does not need
//   sim --seed N --only LIST [--trace]
//       these steps of the run only, and prints what happens in them
//   sim [--seed N] [--seeds K] --damages M [--jobs J]
//       K idle stores, each damaged M times, in one bit or one sector
//
// --cuts every-io: the power fails after every I/O instead of at random moments.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "damage.hpp"
#include "scenario.hpp"
#include "shrink.hpp"
#include "trace.hpp"
#include "workers.hpp"

namespace {

using sim::Cuts;
using sim::Steps;

constexpr std::chrono::seconds kShrinkLimit{3600};
constexpr std::chrono::seconds kSweepShrinkLimit{120};

struct Arguments {
    std::uint64_t seed = 1, seeds = 1, steps = 200, damages = 0;
    unsigned jobs = 1;
    Cuts cuts = Cuts::some;
    bool shrink = false;
    bool no_shrink = false;
    bool only = false;
    Steps only_steps;
};

bool parse_number(const char* word, std::uint64_t& number) {
    char* end = nullptr;
    number = std::strtoull(word, &end, 10);
    return *word >= '0' && *word <= '9' && !*end;
}

bool parse(int argc, char** argv, Arguments& arguments) {
    for (int i = 1; i < argc; ++i) {
        const std::string option = argv[i];
        if (option == "--trace") {
            sim::tracing = true;
            continue;
        }
        if (option == "--shrink") {
            arguments.shrink = true;
            continue;
        }
        if (option == "--no-shrink") {
            arguments.no_shrink = true;
            continue;
        }
        if (++i == argc) {
            return false;
        }
        const std::string value = argv[i];
        std::uint64_t number = 0;
        if (option == "--cuts") {
            arguments.cuts = value == "every-io" ? Cuts::every_io : Cuts::some;
            if (value != "every-io" && value != "some") {
                return false;
            }
        } else if (option == "--only") {
            arguments.only = true;
            if (!sim::parse_steps(value, arguments.only_steps)) {
                return false;
            }
        } else if (!parse_number(argv[i], number)) {
            return false;
        } else if (option == "--seed") {
            arguments.seed = number;
        } else if (option == "--seeds") {
            arguments.seeds = number;
        } else if (option == "--steps") {
            arguments.steps = number;
        } else if (option == "--damages") {
            arguments.damages = number;
        } else if (option == "--jobs" && number >= 1 && number <= 256) {
            arguments.jobs = static_cast<unsigned>(number);
        } else {
            return false;
        }
    }
    return true;
}

int run_only(const Arguments& arguments) {
    const sim::Counts counts = sim::run_steps(arguments.seed, arguments.only_steps, arguments.cuts);
    std::printf("seed %llu, %llu steps of it: all promises kept\n",
                static_cast<unsigned long long>(arguments.seed),
                static_cast<unsigned long long>(counts.steps));
    return EXIT_SUCCESS;
}

// What a failing run needs of its steps, as a command. True when it does fail.
bool print_shrunk(std::uint64_t seed, const Steps& steps, Cuts cuts, std::chrono::seconds limit) {
    const auto number = static_cast<unsigned long long>(seed);
    const sim::Shrunk shrunk = sim::shrink_run(
        steps, [&](const Steps& some) { return sim::try_steps(seed, some, cuts); }, limit);
    if (shrunk.failure.empty()) {
        std::printf("seed %llu does not fail: nothing to shrink\n", number);
        return false;
    }
    std::printf("seed %llu fails in %zu steps: %s\n  sim --seed %llu%s --only %s\n", number,
                shrunk.steps.size(), shrunk.failure.c_str(), number,
                cuts == Cuts::every_io ? " --cuts every-io" : "",
                sim::list_of_steps(shrunk.steps).c_str());
    std::fflush(stdout);
    return true;
}

int shrink(const Arguments& arguments) {
    const Steps steps = arguments.only ? arguments.only_steps : sim::all_steps(arguments.steps);
    return print_shrunk(arguments.seed, steps, arguments.cuts, kShrinkLimit) ? EXIT_FAILURE
                                                                             : EXIT_SUCCESS;
}

// Runs all seeds; how many failed.
std::size_t run_seeds(const Arguments& arguments, sim::Counts& counts) {
    sim::Sweep sweep{arguments.seed, arguments.seeds, arguments.jobs, {}, {}};
    if (arguments.damages) {
        sweep.run = [&](std::uint64_t seed) {
            return sim::damage_at_random(seed, arguments.damages);
        };
        sweep.again = "--damages " + std::to_string(arguments.damages);
    } else {
        const Steps steps = sim::all_steps(arguments.steps);
        sweep.run = [&arguments, steps](std::uint64_t seed) {
            return sim::run_steps(seed, steps, arguments.cuts);
        };
        sweep.again = "--steps " + std::to_string(arguments.steps) +
                      (arguments.cuts == Cuts::every_io ? " --cuts every-io" : "");
    }
    const sim::SweepResult result = sim::sweep(sweep);
    counts = result.counts;
    if (!result.failed.empty() && !arguments.damages && !arguments.no_shrink) {
        print_shrunk(*std::min_element(result.failed.begin(), result.failed.end()),
                     sim::all_steps(arguments.steps), arguments.cuts, kSweepShrinkLimit);
    }
    return result.failed.size();
}

int report_seeds(const Arguments& arguments) {
    const auto began = std::chrono::steady_clock::now();
    sim::Counts counts;
    const std::size_t failed = run_seeds(arguments, counts);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - began;
    const auto number = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    if (arguments.damages) {
        std::printf("%llu stores, %llu damages, %llu times the store was refused, in %.0f s: ",
                    number(arguments.seeds), number(counts.damages), number(counts.refused),
                    seconds.count());
    } else {
        std::printf(
            "%llu seeds, %llu steps, %llu power cuts, %llu recoveries, %llu faults in %.0f s: ",
            number(arguments.seeds), number(counts.steps), number(counts.cuts),
            number(counts.recoveries), number(counts.faults), seconds.count());
    }
    std::printf("%zu failed\n", failed);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    if (!parse(argc, argv, arguments)) {
        std::fprintf(stderr,
                     "usage: sim [--seed N] [--seeds K] [--steps M] [--jobs J] [--cuts "
                     "some|every-io] [--no-shrink]\n       sim --seed N [--steps M] [--only LIST] "
                     "[--trace] [--shrink]\n"
                     "       sim [--seed N] [--seeds K] --damages M [--jobs J]\n");
        return 2;
    }
    try {
        if (arguments.shrink) {
            return shrink(arguments);
        }
        return arguments.only ? run_only(arguments) : report_seeds(arguments);
    } catch (const std::exception& error) {
        std::fprintf(stderr, "seed %llu: %s\n", static_cast<unsigned long long>(arguments.seed),
                     error.what());
        return EXIT_FAILURE;
    }
}
