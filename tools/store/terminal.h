// SPDX-License-Identifier: GPL-2.0-or-later
// Talking to whoever sits at the terminal: a progress bar, and a question. Without a terminal
// there is neither.
#ifndef COWSNAP_STORE_TERMINAL_H
#define COWSNAP_STORE_TERMINAL_H

#include <chrono>
#include <cstdint>
#include <string>

namespace cowsnap::store {

/// A bar on standard error; erased at its end.
class ProgressBar {
public:
    explicit ProgressBar(std::string what);
    ~ProgressBar();
    ProgressBar(const ProgressBar&) = delete;
    ProgressBar& operator=(const ProgressBar&) = delete;

    void show(std::uint64_t done, std::uint64_t total);

private:
    std::string what_;
    bool on_terminal_;
    bool shown_ = false;
    std::chrono::steady_clock::time_point last_{};
};

/// Whether there is someone to be asked.
bool canAsk();
/// Asks on standard error; true if the answer is "yes" or "y".
bool ask(const std::string& question);

}  // namespace cowsnap::store

#endif
