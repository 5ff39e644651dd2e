// SPDX-License-Identifier: GPL-2.0-or-later
// Progress and questions on a terminal.
#include "store/terminal.h"

#include <unistd.h>

#include <iostream>

#include <fmt/format.h>

namespace cowsnap::store {

ProgressBar::ProgressBar(std::string what)
    : what_(std::move(what)), on_terminal_(::isatty(STDERR_FILENO) == 1) {}

ProgressBar::~ProgressBar() {
    if (shown_)
        std::cerr << "\r\x1b[K" << std::flush;
}

void ProgressBar::show(std::uint64_t done, std::uint64_t total) {
    constexpr std::chrono::milliseconds interval{100};
    constexpr std::uint64_t width = 40;
    const auto now = std::chrono::steady_clock::now();
    if (!on_terminal_ || total == 0 || (shown_ && now - last_ < interval && done < total))
        return;
    shown_ = true;
    last_ = now;
    const std::uint64_t filled = width * done / total;
    std::cerr << fmt::format("\r{} [{:<{}}] {:3}%", what_, std::string(filled, '#'), width,
                             100 * done / total)
              << std::flush;
}

bool canAsk() {
    return ::isatty(STDIN_FILENO) == 1 && ::isatty(STDERR_FILENO) == 1;
}

bool ask(const std::string& question) {
    std::cerr << question << " [y/N] " << std::flush;
    std::string answer;
    std::getline(std::cin, answer);
    return answer == "y" || answer == "yes" || answer == "Y" || answer == "YES";
}

}  // namespace cowsnap::store
