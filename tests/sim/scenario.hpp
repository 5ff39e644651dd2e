// SPDX-License-Identifier: GPL-2.0-or-later
// A random run from its seed: users who do anything, power cuts, restarts, and faults of disks and
// memory. Each step depends on the seed, its number and the state alone, so that steps can be left
// out: what is left of a failing run after that shows the failure best.
#ifndef COWSNAP_TESTS_SIM_SCENARIO_HPP
#define COWSNAP_TESTS_SIM_SCENARIO_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "crash.hpp"
#include "random_run.hpp"

namespace sim {

struct Counts {
    std::uint64_t steps = 0;
    std::uint64_t cuts = 0;
    std::uint64_t recoveries = 0;  // activations after which all was checked
    std::uint64_t faults = 0;      // times that a disk or memory was made to fail
    std::uint64_t damages = 0;     // of idle stores
    std::uint64_t refused = 0;     // stores, for their damage
    Counts& operator+=(const Counts& other);
};

enum class Cuts { some, every_io };

class Scenario {
public:
    Scenario(std::uint64_t seed, Cuts cuts);
    ~Scenario();
    Scenario(const Scenario&) = delete;
    Scenario& operator=(const Scenario&) = delete;

    void step(std::uint64_t number);
    // All that is under way ends; all is right; the store is empty once its snapshots are gone.
    void finish();
    Counts counts() const;

private:
    enum class Fault { store_write, store_read, origin_read, origin_write, memory };

    void start();
    void restart();
    void write_unseen_by_machines();
    void arm(Fault fault);
    void disarm();
    bool allocation_allowed();
    bool rolls_back(std::uint32_t origin) const;

    static Scenario* allocating_;

    std::uint64_t seed_;
    Random random_;
    World world_;
    Crasher crasher_;
    Counts counts_;
    std::vector<Fault> faults_;  // that this seed has
    std::optional<Machine> machine_;
    std::optional<RandomRun> run_;
    std::uint64_t store_writes_left_ = 0;  // until one fails; 0: none does
    bool store_fails_for_good_ = false;
    bool store_failing_ = false;
    bool left_ = false;                               // the last machine has left its origins
    std::optional<std::uint64_t> reads_fail_one_in_;  // in this step
    std::optional<std::uint64_t> memory_fails_one_in_;
    std::optional<std::uint64_t> origin_fails_one_in_;
};

// Runs these steps of the seed; throws Broken when a promise is. Counts in *begun the steps that
// were begun.
Counts run_steps(std::uint64_t seed, const std::vector<std::uint64_t>& steps, Cuts cuts,
                 std::uint64_t* begun = nullptr);
std::vector<std::uint64_t> all_steps(std::uint64_t count);

}  // namespace sim

#endif
