// SPDX-License-Identifier: GPL-2.0-or-later
// Runs work for the engine when its stores are free, and hands what came of it to the loop. Knows
// nothing of calls.
#ifndef COWSNAP_DAEMON_JOBS_RUNNER_H
#define COWSNAP_DAEMON_JOBS_RUNNER_H

#include <utility>

#include <boost/asio/io_context.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/log_fields.h"
#include "dm/device_mapper.h"
#include "jobs/work.h"
#include "jobs/work_queue.h"
#include "model/progress.h"
#include "model/published.h"

namespace cowsnap {

/// What came of some work.
struct Outcome {
    StoreSet stores;  ///< whose objects these are, all of them
    std::vector<PublishedObject> objects;
    Notices notices;
    StoreSet extend;  ///< stores that get full and can be extended
    std::string module_version;
    std::optional<Answer> answer;
    std::string error_name;  ///< empty: it was done
    std::string error_text;
    bool cancelled = false;             ///< it stopped because it was to
    std::optional<Uuid> missing_store;  ///< nothing was done: this store is needed too
};

class Runner {
public:
    /// take_in gets each outcome before who asked for the work; then_send is called after both.
    Runner(boost::asio::io_context& loop, WorkQueue& queue, Engine& engine, DeviceMapper& mapper,
           std::function<void(const Outcome&)> take_in, std::function<void()> then_send);

    /// Some work, for who asked for it. Used on the loop only.
    struct Task {
        Work work;
        std::function<void(const Outcome&)> done;
        std::function<void()> begun{};         ///< may be called more than once
        std::shared_ptr<Progress> progress{};  ///< null if nobody looks
        LogFields::Fields log_fields{};        ///< of what is logged meanwhile
        bool only_check = false;               ///< nothing is done once all is checked
        WorkQueue::Ticket ticket = 0;          ///< set by run()
    };
    using Handle = std::shared_ptr<Task>;

    Handle run(const StoreSet& stores, Task task);
    /// Whether the work had not begun, and now never will; then done is not called.
    bool withdraw(const Handle& task) { return queue_.withdraw(task->ticket); }

private:
    void enqueue(const StoreSet& stores, const Handle& task);
    Outcome perform(const StoreSet& stores, const Task& task);

    boost::asio::io_context& loop_;
    WorkQueue& queue_;
    Engine& engine_;
    DeviceMapper& mapper_;
    std::function<void(const Outcome&)> take_in_;
    std::function<void()> then_send_;
};

}  // namespace cowsnap

#endif
