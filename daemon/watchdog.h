// SPDX-License-Identifier: GPL-2.0-or-later
// Tells systemd again and again that the loop turns, if it wants to know (WatchdogSec= of the
// unit). Knows nothing of what the loop does.
#ifndef COWSNAP_DAEMON_WATCHDOG_H
#define COWSNAP_DAEMON_WATCHDOG_H

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <chrono>

namespace cowsnap {

class Watchdog {
public:
    /// Does nothing without systemd. The loop must not turn any more when this goes.
    explicit Watchdog(boost::asio::io_context& loop);
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;

private:
    void tell();

    boost::asio::steady_timer timer_;
    std::chrono::microseconds interval_{0};
};

}  // namespace cowsnap

#endif
