// SPDX-License-Identifier: GPL-2.0-or-later
// WATCHDOG=1, twice in the time that systemd allows.
#include "watchdog.h"

#include <systemd/sd-daemon.h>

#include <cstdint>

namespace cowsnap {

Watchdog::Watchdog(boost::asio::io_context& loop) : timer_(loop) {
    std::uint64_t limit_us = 0;
    if (sd_watchdog_enabled(0, &limit_us) <= 0)
        return;
    interval_ = std::chrono::microseconds(limit_us / 2);
    tell();
}

void Watchdog::tell() {
    sd_notify(0, "WATCHDOG=1");
    timer_.expires_after(interval_);
    timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error)
            tell();
    });
}

}  // namespace cowsnap
