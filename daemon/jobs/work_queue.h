// SPDX-License-Identifier: GPL-2.0-or-later
// Work that waits for its turn: what is about the same store runs one after the other, in the order
// in which it came; what is about different stores runs at the same time, each on a thread of its
// own. Knows nothing of what the work is.
#ifndef COWSNAP_DAEMON_JOBS_WORK_QUEUE_H
#define COWSNAP_DAEMON_JOBS_WORK_QUEUE_H

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <thread>
#include <vector>

#include "model/turns.h"

namespace cowsnap {

class WorkQueue {
public:
    using Ticket = std::uint64_t;

    WorkQueue() = default;
    /// As stop().
    ~WorkQueue() { stop(); }
    WorkQueue(const WorkQueue&) = delete;
    WorkQueue& operator=(const WorkQueue&) = delete;

    /// Runs work on some thread as soon as no work that came before it is about one of these
    /// stores. There are never more threads than there is work about different stores at a time,
    /// so work must be about one at least. It must not throw.
    Ticket add(StoreSet stores, std::function<void()> work);
    /// Whether the work had not begun, and now never will.
    bool withdraw(Ticket ticket);
    /// Nothing begins any more, whatever ends; what waits can still be withdrawn.
    void close();
    /// Waits for what has begun; what has not, and what comes after this, never will.
    void stop();

private:
    struct Item {
        Ticket ticket = 0;
        StoreSet stores;
        std::function<void()> work;
    };

    void beginWhatCan();
    void serve();

    std::mutex mutex_;
    std::condition_variable changed_;
    std::list<Item> waiting_;
    std::list<Item> ready_;  ///< may begin, for the next thread that is free
    StoreSet busy_;          ///< of what is ready or running
    std::vector<std::thread> threads_;
    std::size_t free_threads_ = 0;
    Ticket last_ticket_ = 0;
    bool stopped_ = false;
};

}  // namespace cowsnap

#endif
