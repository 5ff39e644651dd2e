// SPDX-License-Identifier: GPL-2.0-or-later
// org.cowsnap1 on the bus: asking who may call, handing calls to the work queue, and announcing
// what changed before answering. Owns the bus; runs on the loop's thread. Knows the engine only as
// something that work is done with.
#ifndef COWSNAP_DAEMON_BUS_SERVICE_H
#define COWSNAP_DAEMON_BUS_SERVICE_H

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "bus/authority.h"
#include "bus/bus.h"
#include "bus/job_objects.h"
#include "bus/methods.h"
#include "bus/objects.h"
#include "bus/options.h"
#include "bus/pump.h"
#include "bus/requests.h"
#include "bus/rollback_jobs.h"
#include "config/configuration.h"
#include "dm/event_source.h"
#include "jobs/once_per_store.h"
#include "jobs/runner.h"
#include "jobs/work_queue.h"
#include "model/engine.h"
#include "model/published.h"

namespace cowsnap {

class Service {
public:
    /// engine and mapper are used on the threads of queue.
    /// Throws Error if the configuration is wrong.
    Service(boost::asio::io_context& loop, WorkQueue& queue, Engine& engine, DeviceMapper& mapper,
            ConfigurationSource source, AuthoritySettings authority);
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// Lets the engine start, takes the bus name when all stores are there, or those that are not
    /// take long, and then calls on_ready.
    void start(std::function<void()> on_ready);

    /// Reads the configuration again and then calls done, with what is wrong in it: then all stays
    /// as it was.
    void reload(std::function<void(const std::optional<Error>&)> done);

    /// After the loop has stopped and the queue was closed: tells of the jobs that did not begin
    /// and never will.
    void dropWaiting();

    /// Why the loop was stopped; empty if nothing went wrong.
    const std::string& failure() const { return failure_; }

private:
    /// Serves a call as soon as it is known that its caller may make it.
    void handle(const Message& call);
    /// The action that a call needs, of this caller.
    std::string_view neededAction(const Message& call, const Sender& sender) const;
    /// Who makes a call. NotAuthorized if that cannot be found out. Asks the bus.
    Sender senderOf(const Message& call);
    /// A call that its caller may make; without a sender where anybody may.
    void serve(Message call, std::optional<Sender> known_sender);
    /// Does something for a call; what goes wrong is answered.
    void guarded(const Message& call, const std::function<void()>& work);
    void perform(const Message& call, Operation operation, const Sender& sender,
                 const CommonOptions& common);
    /// The same for what is no work for the engine; false if it is.
    bool performHere(const Message& call, const Operation& operation, const Sender& sender);
    void answerMetrics(const Message& call);
    /// By whom something is asked for.
    static Caller callerOf(const Message& call, const Sender& sender);
    JobRequest jobRequestOf(const Message& call, const Operation& operation, const Sender& sender,
                            const CommonOptions& common) const;
    /// A call that is answered when all is checked, and not done.
    void onlyCheck(const Message& call, const Operation& operation, const StoreSet& stores);
    /// NotFound if there is no such object.
    void checkIsThere(const std::string& path) const;
    /// The stores that an operation is about, as far as is known before it begins.
    StoreSet storesOf(const Operation& operation) const;
    void takeIn(const Outcome& outcome);
    void emitNotices(const Notices& notices);
    void answer(const Message& call, const std::optional<Answer>& answer);
    void refuse(const Message& call, const std::string& error_name, const std::string& error_text);
    /// Whatever came of it.
    void answerWith(const Message& call, const Outcome& outcome);

    // service_stores.cpp
    void startStores(const std::function<void()>& on_ready);
    void becomeReady(const std::function<void()>& on_ready);
    void watch();
    void handleEvents();
    /// Begins to read a store again when its turn comes, for refreshes_.
    void refresh(const Uuid& store, std::function<void()> done);
    /// Begins to write down what it lost, for recordings_.
    void recordLosses(const Uuid& store, std::function<void()> done);
    /// The stores that refreshing is to be asked for at: not those at which operations work, or
    /// wait for their turn: these are read by them.
    StoreSet idleStores() const;
    /// Reads the idle stores again. Then calls done; but soon, even if some do not answer.
    void refreshIdle(const std::function<void()>& done);
    void scheduleRefresh();
    /// Those of these idle stores that are not being read anyway are to be read again.
    void refreshSoon(const StoreSet& idle);
    /// Reads stores more often while something is copied back, until nothing is.
    void watchCopying();
    /// Says of stores that do not answer that they do not.
    void showSilent();

    /// For who wants a job of rollback_jobs_ cancelled.
    void cancelRollback(const ObjectPath& origin, const Caller& by,
                        const JobObjects::Cancelled& done);
    /// Extends a store that gets full, unless that is being done.
    void autoextend(const Uuid& store);
    /// What of it is this object's and its parts' affair.
    void configure(const Configuration& configuration);
    void setLogLevel(const std::string& level);
    void setManagerProperty(const std::string& name, const std::string& value);
    void stop(const std::string& why);

    boost::asio::io_context& loop_;
    DeviceMapper& mapper_;
    Bus bus_;
    Objects objects_;
    Authority authority_;
    BusPump pump_;
    Runner runner_;
    JobObjects jobs_;
    RollbackJobs rollback_jobs_;
    EventSource event_source_;
    Requests requests_;
    boost::asio::steady_timer event_timer_;
    boost::asio::steady_timer refresh_timer_;
    boost::asio::steady_timer start_timer_;
    boost::asio::steady_timer copying_timer_;
    bool watches_copying_ = false;
    ConfigurationSource source_;
    Configuration configuration_;
    std::multiset<Uuid> operations_at_;  ///< the stores of operations that are not done
    StoreSet starting_;
    bool is_ready_ = false;
    std::vector<Notices> notices_until_ready_;
    OncePerStore refreshes_;
    OncePerStore recordings_;
    StoreSet silent_;     ///< those that showSilent() has shown
    StoreSet extending_;  ///< the stores that autoextend() is at
    std::string failure_;
};

}  // namespace cowsnap

#endif
