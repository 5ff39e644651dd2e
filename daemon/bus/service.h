// SPDX-License-Identifier: GPL-2.0-or-later
// The objects of org.cowsnap1 on the bus: who may call, handing calls to the
// worker, and announcing what changed before answering. Owns the bus; runs on the
// loop's thread. Knows the engine only as something that work is done with.
#ifndef COWSNAP_DAEMON_BUS_SERVICE_H
#define COWSNAP_DAEMON_BUS_SERVICE_H

#include <utility>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/thread_pool.hpp>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bus/bus.h"
#include "bus/methods.h"
#include "bus/pump.h"
#include "bus/requests.h"
#include "bus/vtables.h"
#include "dm/event_source.h"
#include "model/engine.h"
#include "model/published.h"

namespace cowsnap {

class Service {
public:
    /// engine and mapper are used on the one thread of worker only.
    Service(boost::asio::io_context& loop, boost::asio::thread_pool& worker, Engine& engine,
            DeviceMapper& mapper);
    Service(const Service&) = delete;
    Service& operator=(const Service&) = delete;

    /// Lets the engine start on the worker, then takes the bus name and calls on_ready.
    void start(std::function<void()> on_ready);

    /// Why the loop was stopped; empty if nothing went wrong.
    const std::string& failure() const { return failure_; }

private:
    struct Object {
        Service* service = nullptr;
        PublishedObject state;
        Slot slot;
    };

    /// What the worker hands back: what is to be announced and what to be answered.
    struct Outcome {
        std::vector<PublishedObject> objects;
        std::vector<EventNotice> events;
        std::vector<SpaceNotice> space;
        std::vector<DroppedNotice> dropped;
        std::string module_version;
        std::optional<Answer> answer;
        std::string error_name;
        std::string error_text;
    };

    static int onCall(sd_bus_message* message, void* userdata, sd_bus_error* error);
    static int onGet(sd_bus* bus, const char* path, const char* interface, const char* property,
                     sd_bus_message* reply, void* userdata, sd_bus_error* error);

    void handle(Message call);
    /// Who calls. NotAuthorized if they may not.
    uid_t authorize(const Message& call);
    void perform(const Message& call, Work work, std::optional<Requests::Key> request);
    /// Runs work on the worker and then, on the loop, takes in the outcome and calls done.
    void run(Work work, std::function<void(const Outcome&)> done);
    Outcome perform(const Work& work);
    void takeIn(const Outcome& outcome);
    void update(Object& object, const PublishedObject& now);
    void addObject(const PublishedObject& object, bool announce);
    void emitNotices(const Outcome& outcome);
    void answer(const Message& call, const Outcome& outcome);
    void watch();
    void refreshNow(std::function<void()> done);
    void scheduleRefresh();
    void stop(const std::string& why);
    const VTable& vtableOf(const std::string& interface) const;

    boost::asio::io_context& loop_;
    boost::asio::thread_pool& worker_;
    Engine& engine_;
    DeviceMapper& mapper_;
    Bus bus_;
    std::map<std::string, VTable> vtables_;
    std::map<std::string, std::unique_ptr<Object>> objects_;
    Slot object_manager_;
    BusPump pump_;
    EventSource event_source_;
    Requests requests_;
    boost::asio::steady_timer refresh_timer_;
    bool announced_ = false;
    std::string failure_;
};

}  // namespace cowsnap

#endif
