// SPDX-License-Identifier: GPL-2.0-or-later
// How fast something grows, from what it was in the last minutes. Pure; knows no clock.
#ifndef COWSNAP_MODEL_GROWTH_H
#define COWSNAP_MODEL_GROWTH_H

#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>

namespace cowsnap {

class Growth {
public:
    using Time = std::chrono::steady_clock::time_point;

    /// What it is now. Times go forward.
    void add(std::uint64_t value, Time now) {
        // Looks that come close together would only make the times uncertain.
        if (samples_.size() > 1 && now - samples_[samples_.size() - 2].when < kBetween)
            samples_.pop_back();
        samples_.push_back({now, value});
        while (samples_.size() > 2 && now - samples_[1].when >= kWindow)
            samples_.pop_front();
    }

    /// How long until it has grown by so much, as it did until now; nothing if it does not grow, or
    /// that is not known yet.
    std::optional<std::chrono::seconds> until(std::uint64_t more) const {
        if (samples_.size() < 2 || samples_.back().value <= samples_.front().value)
            return std::nullopt;
        const std::chrono::duration<double> time = samples_.back().when - samples_.front().when;
        const auto grown = static_cast<double>(samples_.back().value - samples_.front().value);
        if (time < kBetween)
            return std::nullopt;
        constexpr double longest = 10 * 365.0 * 24 * 3600;  // beyond, it is as good as never
        const double seconds = static_cast<double>(more) * time.count() / grown;
        if (seconds > longest)
            return std::nullopt;
        return std::chrono::seconds(static_cast<std::int64_t>(seconds));
    }

private:
    static constexpr std::chrono::seconds kBetween{5};
    static constexpr std::chrono::seconds kWindow{300};

    struct Sample {
        Time when;
        std::uint64_t value;
    };
    std::deque<Sample> samples_;
};

}  // namespace cowsnap

#endif
