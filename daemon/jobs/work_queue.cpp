// SPDX-License-Identifier: GPL-2.0-or-later
#include "jobs/work_queue.h"

#include <algorithm>

namespace cowsnap {

namespace {

bool apart(const StoreSet& one, const StoreSet& other) {
    return std::none_of(one.begin(), one.end(),
                        [&](const Uuid& store) { return other.contains(store); });
}

}  // namespace

WorkQueue::Ticket WorkQueue::add(StoreSet stores, std::function<void()> work) {
    const std::lock_guard lock(mutex_);
    waiting_.push_back({++last_ticket_, std::move(stores), std::move(work)});
    beginWhatCan();
    return last_ticket_;
}

bool WorkQueue::withdraw(Ticket ticket) {
    const std::lock_guard lock(mutex_);
    const bool withdrawn =
        std::erase_if(waiting_, [&](const Item& item) { return item.ticket == ticket; }) > 0;
    // Others may have waited for it.
    beginWhatCan();
    return withdrawn;
}

void WorkQueue::close() {
    {
        const std::lock_guard lock(mutex_);
        stopped_ = true;
    }
    changed_.notify_all();
}

void WorkQueue::stop() {
    close();
    std::vector<std::thread> threads;
    {
        const std::lock_guard lock(mutex_);
        waiting_.clear();
        threads.swap(threads_);
    }
    for (auto& thread : threads)
        thread.join();
}

/// With mutex_ held.
void WorkQueue::beginWhatCan() {
    if (stopped_)
        return;
    StoreSet wanted = busy_;  // and by what came before
    for (auto item = waiting_.begin(); item != waiting_.end();) {
        const auto next = std::next(item);
        const bool can = apart(item->stores, wanted);
        wanted.insert(item->stores.begin(), item->stores.end());
        if (can) {
            busy_.insert(item->stores.begin(), item->stores.end());
            ready_.splice(ready_.end(), waiting_, item);
        }
        item = next;
    }
    while (ready_.size() > free_threads_) {
        threads_.emplace_back([this] { serve(); });
        ++free_threads_;
    }
    if (!ready_.empty())
        changed_.notify_all();
}

void WorkQueue::serve() {
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [this] { return !ready_.empty() || stopped_; });
        if (ready_.empty())
            return;
        const Item item = std::move(ready_.front());
        ready_.pop_front();
        --free_threads_;
        lock.unlock();
        item.work();
        lock.lock();
        ++free_threads_;
        for (const Uuid& store : item.stores)
            busy_.erase(store);
        beginWhatCan();
    }
}

}  // namespace cowsnap
