// SPDX-License-Identifier: GPL-2.0-or-later
// Work at stores that is asked for again and again: at each store it is done once at a time, and
// once more if it was asked for since it began, however often. A store where it takes for ever
// holds up no other one. Used on the loop only. Knows nothing of what the work is.
#ifndef COWSNAP_DAEMON_JOBS_ONCE_PER_STORE_H
#define COWSNAP_DAEMON_JOBS_ONCE_PER_STORE_H

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "base/uuid.h"
#include "model/turns.h"

namespace cowsnap {

class OncePerStore {
public:
    using Clock = std::chrono::steady_clock;
    /// Shared by who asks at several stores, and then called once for each.
    using Waiter = std::shared_ptr<const std::function<void()>>;

    /// begin has the work done at a store and then calls done.
    explicit OncePerStore(std::function<void(const Uuid& store, std::function<void()> done)> begin)
        : begin_(std::move(begin)) {}
    OncePerStore(const OncePerStore&) = delete;
    OncePerStore& operator=(const OncePerStore&) = delete;

    /// The waiter, if there is one, is called when work that began after this is done.
    void ask(const Uuid& store, const Waiter& waiter = {});
    /// It is not called any more.
    void forget(const Waiter& waiter);
    /// Since when it is being done, or waits for its turn; nothing if it is not.
    std::optional<Clock::time_point> since(const Uuid& store) const;
    /// The stores that it is being done at.
    StoreSet stores() const;

private:
    struct Running {
        Clock::time_point since;
        bool again = false;
        std::vector<Waiter> waiters;
        std::vector<Waiter> waiters_for_next;
    };

    void start(const Uuid& store, std::vector<Waiter> waiters);
    void ended(const Uuid& store);

    std::function<void(const Uuid&, std::function<void()>)> begin_;
    std::map<Uuid, Running> running_;
};

}  // namespace cowsnap

#endif
