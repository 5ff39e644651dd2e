// SPDX-License-Identifier: GPL-2.0-or-later
// org.cowsnap1 on the bus: who may call, handing calls to the work queue, and announcing what
// changed before answering. Owns the bus; runs on the loop's thread. Knows the engine only as
// something that work is done with.
#ifndef COWSNAP_DAEMON_BUS_SERVICE_H
#define COWSNAP_DAEMON_BUS_SERVICE_H

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "bus/bus.h"
#include "bus/methods.h"
#include "bus/objects.h"
#include "bus/pump.h"
#include "bus/requests.h"
#include "dm/event_source.h"
#include "jobs/work_queue.h"
#include "model/engine.h"
#include "model/published.h"

namespace cowsnap {

class Service {
public:
    /// engine and mapper are used on the threads of queue.
    Service(boost::asio::io_context& loop, WorkQueue& queue, Engine& engine, DeviceMapper& mapper);
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// Lets the engine start, then takes the bus name and calls on_ready.
    void start(std::function<void()> on_ready);

    /// Why the loop was stopped; empty if nothing went wrong.
    const std::string& failure() const { return failure_; }

private:
    /// What work hands back: what is to be announced and what to be answered.
    struct Outcome {
        StoreSet stores;  ///< whose objects these are, all of them
        std::vector<PublishedObject> objects;
        Notices notices;
        std::string module_version;
        std::optional<Answer> answer;
        std::string error_name;
        std::string error_text;
        std::optional<Uuid> missing_store;  ///< the work needs a turn at this store too
    };
    using Done = std::function<void(const Outcome&)>;

    void handle(Message call);
    /// Who calls. NotAuthorized if they may not.
    uid_t authorize(const Message& call);
    void perform(const Message& call, Operation operation, std::optional<Requests::Key> request);
    /// The stores that an operation is about, as far as is known before it begins.
    StoreSet storesOf(const Operation& operation) const;
    /// Runs work when these stores are free and then, on the loop, takes in the outcome and calls
    /// done.
    void run(const StoreSet& stores, const Work& work, const Done& done);
    Outcome perform(const StoreSet& stores, const Work& work);
    void takeIn(const Outcome& outcome);
    void emitNotices(const Notices& notices);
    void answer(const Message& call, const Outcome& outcome);
    void watch();
    void handleEvents();
    /// Reads a store again when its turn comes; once, however often it is asked for until then.
    void refreshInTurn(const Uuid& store);
    /// Reads all stores again but those at which operations work, or wait for their turn: these are
    /// read by them. Then calls done.
    void refreshIdle(const std::function<void()>& done);
    void scheduleRefresh();
    void stop(const std::string& why);

    boost::asio::io_context& loop_;
    WorkQueue& queue_;
    Engine& engine_;
    DeviceMapper& mapper_;
    Bus bus_;
    Objects objects_;
    BusPump pump_;
    EventSource event_source_;
    Requests requests_;
    boost::asio::steady_timer refresh_timer_;
    std::multiset<Uuid> operations_at_;  ///< the stores of operations that are not done
    /// The stores that refreshInTurn() is at; true if that was asked for again since.
    std::map<Uuid, bool> refreshing_;
    std::string failure_;
};

}  // namespace cowsnap

#endif
