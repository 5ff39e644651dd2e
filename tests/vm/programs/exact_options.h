// SPDX-License-Identifier: GPL-2.0-or-later
// What exact-snapshots is told; exact_snapshots.cpp says what the options mean.
#ifndef COWSNAP_VM_EXACT_OPTIONS_H
#define COWSNAP_VM_EXACT_OPTIONS_H

#include <cstdint>
#include <string>
#include <vector>

#include "writers.h"

namespace vmtest {

struct Origin {
    std::string name;  ///< of its mapped device
    std::uint32_t id = 0;
    std::string device;  ///< what is written to
};

struct Options {
    std::string store;
    std::vector<Origin> origins;
    std::string journal;
    bool crash = false;
    bool overlay = true;
    bool no_wait = false;
    std::uint64_t writes = 40;  ///< to the origins during each step
    std::size_t most = 16;      ///< snapshots, for steps
    WriterOptions writers;
    std::vector<std::string> actions;
};

/// Throws std::runtime_error with what is wrong.
Options parseOptions(const std::vector<std::string>& words);

}  // namespace vmtest

#endif
