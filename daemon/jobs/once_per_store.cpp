// SPDX-License-Identifier: GPL-2.0-or-later
#include "jobs/once_per_store.h"

#include <utility>

namespace cowsnap {

void OncePerStore::ask(const Uuid& store, const Waiter& waiter) {
    std::vector<Waiter> waiters;
    if (waiter)
        waiters.push_back(waiter);
    const auto found = running_.find(store);
    if (found == running_.end()) {
        start(store, std::move(waiters));
        return;
    }
    Running& running = found->second;
    running.again = true;
    running.waiters_for_next.insert(running.waiters_for_next.end(), waiters.begin(), waiters.end());
}

void OncePerStore::start(const Uuid& store, std::vector<Waiter> waiters) {
    running_[store] = {Clock::now(), false, std::move(waiters), {}};
    begin_(store, [this, store] { ended(store); });
}

void OncePerStore::ended(const Uuid& store) {
    const auto done = running_.extract(store);
    if (done.mapped().again)
        start(store, done.mapped().waiters_for_next);
    for (const Waiter& waiter : done.mapped().waiters)
        (*waiter)();
}

void OncePerStore::forget(const Waiter& waiter) {
    for (auto& [store, running] : running_) {
        std::erase(running.waiters, waiter);
        std::erase(running.waiters_for_next, waiter);
    }
}

std::optional<OncePerStore::Clock::time_point> OncePerStore::since(const Uuid& store) const {
    const auto found = running_.find(store);
    if (found == running_.end())
        return std::nullopt;
    return found->second.since;
}

StoreSet OncePerStore::stores() const {
    StoreSet stores;
    for (const auto& [store, running] : running_)
        stores.insert(store);
    return stores;
}

}  // namespace cowsnap
