// SPDX-License-Identifier: GPL-2.0-or-later
// fuzz-calls: the long form of the random calls, with as many as one likes and from a seed of one's
// choice.
#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <random>

#include <fmt/format.h>

#include "call_fuzzer.h"

int main(int argc, char** argv) {
    CLI::App app("fuzz-calls: random D-Bus calls of the daemon, on a private bus");
    std::uint64_t calls = 100000;
    std::uint64_t seed = std::random_device()();
    app.add_option("--calls", calls, "How many")->capture_default_str();
    app.add_option("--seed", seed, "Of all random choices; else a new one");
    CLI11_PARSE(app, argc, argv);
    fmt::print("seed {}\n", seed);
    std::fflush(stdout);
    try {
        const auto began = std::chrono::steady_clock::now();
        cowsnap::test::CallFuzzer fuzzer(seed);
        const auto figures = fuzzer.run(calls);
        const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
        fmt::print(
            "{} messages in {:.0f} s: {} answered with success, {} that nobody waited for, {} that "
            "cannot be made, {} connections closed by the bus; all compared {} times, at most {} "
            "snapshots\n",
            figures.calls, took.count(), figures.succeeded, figures.unheard, figures.unmakeable,
            figures.hung_up, figures.checks, figures.most_snapshots);
        for (const auto& [name, count] : figures.errors)
            fmt::print("{:8} {}\n", count, name);
    } catch (const std::exception& error) {
        fmt::print(stderr, "fuzz-calls: seed {}: {}\n", seed, error.what());
        return EXIT_FAILURE;
    }
    return EXIT_SUCCESS;
}
