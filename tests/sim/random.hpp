// SPDX-License-Identifier: GPL-2.0-or-later
// Reproducible random numbers: the same seed gives the same run everywhere.
#ifndef COWSNAP_TESTS_SIM_RANDOM_HPP
#define COWSNAP_TESTS_SIM_RANDOM_HPP

#include <cstdint>

namespace sim {

class Random {
public:
    explicit Random(std::uint64_t seed) : state_(seed) {}

    std::uint64_t next() {
        std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
        z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
        z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
        return z ^ (z >> 31);
    }

    // 0 to bound - 1.
    std::uint64_t below(std::uint64_t bound) { return next() % bound; }

    bool one_in(std::uint64_t n) { return below(n) == 0; }

private:
    std::uint64_t state_;
};

// The seed of one part of a run: parts can be left out, and the others stay as they are.
inline std::uint64_t seed_of(std::uint64_t seed, std::uint64_t part) {
    return Random(seed ^ (part + 1) * 0xd6e8feb86659fd93u).next();
}

}  // namespace sim

#endif
