// SPDX-License-Identifier: GPL-2.0-or-later
// sim --seed N --steps M: a random run with a power cut after every I/O; the same seed gives the
// same run.
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "checks.hpp"
#include "crash.hpp"
#include "random_run.hpp"
#include "worlds.hpp"

namespace {

int run(std::uint64_t seed, std::uint64_t steps) {
    try {
        const std::uint64_t cuts = sim::random_scenario(seed, steps);
        std::printf("seed %llu: %llu steps, %llu power cuts\n",
                    static_cast<unsigned long long>(seed), static_cast<unsigned long long>(steps),
                    static_cast<unsigned long long>(cuts));
        return EXIT_SUCCESS;
    } catch (const std::exception& error) {
        std::fprintf(stderr, "seed %llu steps %llu: %s\n", static_cast<unsigned long long>(seed),
                     static_cast<unsigned long long>(steps), error.what());
        return EXIT_FAILURE;
    }
}

}  // namespace

int main(int argc, char** argv) {
    std::uint64_t seed = 1, steps = 200, seeds = 1;
    for (int i = 1; i + 1 < argc; i += 2) {
        const std::string option = argv[i];
        const std::uint64_t value = std::strtoull(argv[i + 1], nullptr, 10);
        if (option == "--seed") {
            seed = value;
        } else if (option == "--steps") {
            steps = value;
        } else if (option == "--seeds") {
            seeds = value;
        } else {
            std::fprintf(stderr, "usage: sim [--seed N] [--steps M] [--seeds K]\n");
            return 2;
        }
    }
    int failed = 0;
    for (std::uint64_t i = 0; i < seeds; ++i) {
        failed |= run(seed + i, steps);
    }
    return failed;
}
