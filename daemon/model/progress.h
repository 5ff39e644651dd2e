// SPDX-License-Identifier: GPL-2.0-or-later
// How far an operation is, said by the engine while it works, and whether it is to stop, said by
// others. May be used from several threads. Knows nothing of what the steps are.
#ifndef COWSNAP_MODEL_PROGRESS_H
#define COWSNAP_MODEL_PROGRESS_H

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "base/error.h"

namespace cowsnap {

/// Steps, or bytes.
struct Amount {
    std::uint64_t done = 0;
    std::uint64_t total = 0;
    bool is_bytes = false;
};

class Progress {
public:
    /// can_stop: another step() will come, so that stop() has an effect.
    using Report = std::function<void(const Amount& amount, bool can_stop)>;

    explicit Progress(Report report) : report_(std::move(report)) {}

    /// Before each step, also the first one. Cancelled if the operation is to stop.
    void step(const Amount& amount) {
        if (stop_) {
            stopped_ = true;
            fail(ErrorKind::Cancelled, "it was cancelled when {} of {} steps were done",
                 amount.done, amount.total);
        }
        report_(amount, amount.done + 1 < amount.total);
    }
    /// Before the next step.
    void stop() { stop_ = true; }
    /// Whether it did.
    bool stopped() const { return stopped_; }

private:
    Report report_;
    std::atomic<bool> stop_{false};
    std::atomic<bool> stopped_{false};
};

}  // namespace cowsnap

#endif
