// SPDX-License-Identifier: GPL-2.0-or-later
// Calls in, outcomes out.
#include "bus/service.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>

#include <chrono>
#include <cstring>
#include <set>

#include "base/error.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace asio = boost::asio;

namespace {

/// Numbers such as used bytes change without an event.
constexpr std::chrono::seconds kRefreshInterval{10};

}  // namespace

Service::Service(asio::io_context& loop, asio::thread_pool& worker, Engine& engine,
                 DeviceMapper& mapper)
    : loop_(loop),
      worker_(worker),
      engine_(engine),
      mapper_(mapper),
      bus_(Bus::openSystem()),
      pump_(loop, bus_,
            [this](int error_number) {
                stop(fmt::format("the connection to the bus is lost: {}",
                                 std::strerror(error_number)));
            }),
      event_source_(loop, mapper),
      refresh_timer_(loop) {
    for (const char* const interface :
         {kManagerInterface, kStoreInterface, kOriginInterface, kSnapshotInterface})
        vtables_.emplace(interface, VTable(interface, onCall, onGet));
}

void Service::stop(const std::string& why) {
    failure_ = why;
    loop_.stop();
}

const VTable& Service::vtableOf(const std::string& interface) const {
    return vtables_.at(interface);
}

void Service::start(std::function<void()> on_ready) {
    object_manager_ = bus_.addObjectManager(kRootPath);
    addObject({kRootPath,
               kManagerInterface,
               {{"Version", std::string(COWSNAP_VERSION)}, {"ModuleVersion", std::string()}}},
              false);
    const Work start_engine = [this](Engine& engine) {
        mapper_.armEvents();
        engine.start();
        return std::nullopt;
    };
    run(start_engine, [this, on_ready = std::move(on_ready)](const Outcome& outcome) {
        if (!outcome.error_name.empty()) {
            stop(outcome.error_text);
            return;
        }
        try {
            bus_.requestName(kBusName);
        } catch (const Error& error) {
            stop(error.what());
            return;
        }
        announced_ = true;
        watch();
        scheduleRefresh();
        on_ready();
    });
}

void Service::watch() {
    event_source_.wait([this] { refreshNow([this] { watch(); }); });
}

void Service::scheduleRefresh() {
    refresh_timer_.expires_after(kRefreshInterval);
    refresh_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error)
            refreshNow([this] { scheduleRefresh(); });
    });
}

void Service::refreshNow(std::function<void()> done) {
    const Work refresh = [this](Engine& engine) {
        mapper_.armEvents();
        engine.refresh();
        return std::nullopt;
    };
    run(refresh, [done = std::move(done)](const Outcome& outcome) {
        if (!outcome.error_name.empty())
            spdlog::error("cannot read the state again: {}", outcome.error_text);
        done();
    });
}

Service::Outcome Service::perform(const Work& work) {
    Outcome outcome;
    try {
        outcome.answer = work(engine_);
    } catch (const Error& error) {
        outcome.error_name = error.busName();
        outcome.error_text = error.what();
    } catch (const std::exception& error) {
        outcome.error_name = Error(ErrorKind::Failed, "").busName();
        outcome.error_text = error.what();
        spdlog::error("an operation ended in an unexpected way: {}", error.what());
    }
    outcome.objects = publish(engine_);
    outcome.events = engine_.takeEvents();
    outcome.space = engine_.takeSpaceWarnings();
    outcome.dropped = engine_.takeDropped();
    try {
        if (const auto version = mapper_.targetVersion(COWSNAP_TARGET_STORE))
            outcome.module_version =
                fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
    } catch (const Error& error) {
        spdlog::error("{}", error.what());
    }
    return outcome;
}

void Service::run(Work work, std::function<void(const Outcome&)> done) {
    asio::post(worker_, [this, work = std::move(work), done = std::move(done)] {
        asio::post(loop_, [this, outcome = perform(work), done] {
            takeIn(outcome);
            done(outcome);
            pump_.process();
        });
    });
}

void Service::addObject(const PublishedObject& published, bool announce) {
    auto object = std::make_unique<Object>();
    object->service = this;
    object->state = published;
    object->slot = bus_.addObjectVTable(published.path, published.interface,
                                        vtableOf(published.interface).get(), object.get());
    objects_.insert_or_assign(published.path, std::move(object));
    if (announce)
        bus_.emitObjectAdded(published.path);
}

void Service::update(Object& object, const PublishedObject& now) {
    std::vector<std::string> changed;
    for (const auto& [name, value] : now.properties) {
        const auto before = object.state.properties.find(name);
        if (before == object.state.properties.end() || before->second != value)
            changed.push_back(name);
    }
    object.state = now;
    if (!changed.empty() && announced_)
        bus_.emitPropertiesChanged(now.path, now.interface, changed);
}

void Service::takeIn(const Outcome& outcome) {
    std::set<std::string> present{kRootPath};
    for (const auto& published : outcome.objects) {
        present.insert(published.path);
        const auto found = objects_.find(published.path);
        if (found == objects_.end())
            addObject(published, announced_);
        else
            update(*found->second, published);
    }
    Object& manager = *objects_.at(kRootPath);
    PublishedObject manager_now = manager.state;
    manager_now.properties["ModuleVersion"] = outcome.module_version;
    update(manager, manager_now);
    if (announced_)
        emitNotices(outcome);
    for (auto object = objects_.begin(); object != objects_.end();) {
        if (present.contains(object->first)) {
            ++object;
            continue;
        }
        if (announced_)
            bus_.emitObjectRemoved(object->first);
        object = objects_.erase(object);
    }
}

void Service::emitNotices(const Outcome& outcome) {
    for (const auto& event : outcome.events) {
        Message signal = bus_.newSignal(storePath(event.store).path, kStoreInterface, "Event");
        signal.append(Value(event.number));
        signal.append(Value(event.event));
        signal.append(Value(event.id));
        signal.append(Value(event.text));
        bus_.send(signal);
    }
    for (const auto& warning : outcome.space) {
        Message signal =
            bus_.newSignal(storePath(warning.store).path, kStoreInterface, "SpaceWarning");
        signal.append(Value(std::uint32_t{warning.percent}));
        signal.append(Value(warning.free_bytes));
        bus_.send(signal);
    }
    for (const auto& dropped : outcome.dropped) {
        Message signal =
            bus_.newSignal(storePath(dropped.store).path, kStoreInterface, "SnapshotDropped");
        signal.append(Value(snapshotPath(dropped.snapshot)));
        signal.append(Value(dropped.name));
        signal.append(Value(dropped.reason));
        bus_.send(signal);
    }
}

uid_t Service::authorize(const Message& call) {
    const auto user_id = bus_.senderUserId(call);
    if (!user_id || (*user_id != 0 && !onlyReads(call)))
        fail(ErrorKind::NotAuthorized, "only root may call {}: try again with sudo", call.member());
    return *user_id;
}

void Service::handle(Message call) {
    try {
        const uid_t user_id = authorize(call);
        std::optional<Requests::Key> request;
        if (auto id = requestIdOf(call))
            request.emplace(user_id, std::move(*id));
        // Before the id is taken note of: what is refused here can be put right and sent again.
        Work work = readCall(call);
        if (request) {
            const auto verdict = requests_.begin(*request, call, Requests::Clock::now());
            if (verdict.action == Requests::Verdict::Action::Answer) {
                Outcome before;
                before.answer = verdict.answer;
                answer(call, before);
            }
            if (verdict.action != Requests::Verdict::Action::Perform)
                return;
        }
        perform(call, std::move(work), std::move(request));
    } catch (const Error& error) {
        Outcome refused;
        refused.error_name = error.busName();
        refused.error_text = error.what();
        answer(call, refused);
    }
}

void Service::perform(const Message& call, Work work, std::optional<Requests::Key> request) {
    run(std::move(work), [this, call, request = std::move(request)](const Outcome& outcome) {
        answer(call, outcome);
        if (!request)
            return;
        for (const auto& waiting : requests_.finished(*request, outcome.error_name.empty(),
                                                      outcome.answer, Requests::Clock::now()))
            answer(waiting, outcome);
    });
}

void Service::answer(const Message& call, const Outcome& outcome) {
    try {
        if (!outcome.error_name.empty()) {
            bus_.replyError(call, outcome.error_name, outcome.error_text);
            return;
        }
        Message reply = bus_.newMethodReturn(call);
        if (outcome.answer)
            std::visit([&](const auto& answer) { reply.append(answer); }, *outcome.answer);
        bus_.send(reply);
    } catch (const Error& error) {
        spdlog::warn("cannot answer {}: {}", call.sender(), error.what());
    }
}

int Service::onCall(sd_bus_message* message, void* userdata, sd_bus_error* /*error*/) {
    static_cast<Object*>(userdata)->service->handle(Message::share(message));
    return 1;
}

int Service::onGet(sd_bus* /*bus*/, const char* /*path*/, const char* /*interface*/,
                   const char* property, sd_bus_message* reply, void* userdata,
                   sd_bus_error* error) {
    try {
        Message::share(reply).append(static_cast<Object*>(userdata)->state.properties.at(property));
        return 1;
    } catch (const std::exception& exception) {
        return sd_bus_error_set(error, SD_BUS_ERROR_FAILED, exception.what());
    }
}

}  // namespace cowsnap
