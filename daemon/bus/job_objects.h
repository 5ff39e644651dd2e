// SPDX-License-Identifier: GPL-2.0-or-later
// Jobs on the bus: begun, shown, cancelled, and forgotten a while after they ended. Runs on the
// loop's thread. Knows nothing of how calls are answered.
#ifndef COWSNAP_DAEMON_BUS_JOB_OBJECTS_H
#define COWSNAP_DAEMON_BUS_JOB_OBJECTS_H

#include <utility>

#include <boost/asio/io_context.hpp>

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bus/objects.h"
#include "jobs/jobs.h"
#include "jobs/runner.h"
#include "model/metrics.h"

namespace cowsnap {

class JobObjects {
public:
    /// What becomes of a wish to cancel; nothing: the job was cancelled.
    using Cancelled = std::function<void(const std::optional<Error>&)>;
    /// Does what cancels a job, for somebody.
    using Cancel = std::function<void(const Caller& by, Cancelled)>;

    JobObjects(boost::asio::io_context& loop, Objects& objects, Runner& runner,
               std::function<void()> then_send);
    JobObjects(const JobObjects&) = delete;
    JobObjects& operator=(const JobObjects&) = delete;

    /// A job that does work when these stores are free. done is called when it is over, also if it
    /// was cancelled.
    void start(JobRequest request, const StoreSet& stores, Work work,
               std::function<void(const Outcome&)> done);
    /// A job that the kernel does, and goes on with whoever is there, until endFollowed().
    /// amount: what was done of it before. cancel is called when somebody wants it cancelled.
    std::uint64_t follow(JobRequest request, const Amount& amount, bool can_cancel, Cancel cancel);
    void reportFollowed(std::uint64_t number, const Amount& amount, bool can_cancel);
    /// An error with no name: it was done.
    void endFollowed(std::uint64_t number, const JobError& error);

    /// Calls on_cancelled at once, or when the job is over. NotFound, Busy or Failed if the job
    /// cannot be cancelled.
    void cancel(const ObjectPath& job, const Caller& by, Cancelled on_cancelled);
    /// What was asked for, and by whom; null if there is no such job.
    const JobRequest* requestOf(const ObjectPath& job) const;
    /// The first running one that does this with, or for, an object; null if there is none.
    const JobRequest* runningAt(const ObjectPath& object, std::string_view operation) const;
    /// Of all users; with an id, those of requests that have it.
    std::vector<ObjectPath> list(const std::optional<std::string>& request_id) const;
    JobCounts counts() const;
    /// How many that are over are kept, and for how long.
    void setLimits(const Jobs::Limits& limits) { limits_ = limits; }
    /// Takes those off the bus that ended long ago.
    void forgetOld();

    /// Those that have not begun and never will are over, as cancelled. Their callers are not
    /// answered: they see the daemon go, and may ask the next one for the same.
    void dropWaiting();

private:
    struct Running {
        Runner::Handle task;  ///< null: it is followed
        Cancel cancel;
        std::function<void(const Outcome&)> done;
        std::vector<Cancelled> cancelling;
    };

    void show(const Job& job);
    /// It is over: shown, signalled and logged.
    void tellEnd(const Job& job);
    void showEnd(const Job& job);
    /// Null if it is not there.
    const Job* find(const ObjectPath& job) const;
    void end(std::uint64_t number, const Outcome& outcome);

    boost::asio::io_context& loop_;
    Objects& objects_;
    Runner& runner_;
    std::function<void()> then_send_;
    Jobs jobs_;
    std::map<std::uint64_t, Running> running_;
    Jobs::Limits limits_;
};

}  // namespace cowsnap

#endif
