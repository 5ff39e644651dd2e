// SPDX-License-Identifier: GPL-2.0-or-later
// Calls in, outcomes out.
#include "bus/service.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>

#include <chrono>
#include <cstring>
#include <memory>

#include "base/error.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace asio = boost::asio;

namespace {

/// Numbers such as used bytes change without an event.
constexpr std::chrono::seconds kRefreshInterval{10};

}  // namespace

Service::Service(asio::io_context& loop, WorkQueue& queue, Engine& engine, DeviceMapper& mapper)
    : loop_(loop),
      queue_(queue),
      engine_(engine),
      mapper_(mapper),
      bus_(Bus::openSystem()),
      objects_(bus_, [this](Message call) { handle(std::move(call)); }),
      pump_(loop, bus_,
            [this](int error_number) {
                stop(fmt::format("the connection to the bus is lost: {}",
                                 std::strerror(error_number)));
            }),
      event_source_(loop, mapper),
      refresh_timer_(loop) {}

void Service::stop(const std::string& why) {
    failure_ = why;
    loop_.stop();
}

void Service::start(std::function<void()> on_ready) {
    objects_.put({kRootPath,
                  kManagerInterface,
                  {{"Version", std::string(COWSNAP_VERSION)}, {"ModuleVersion", std::string()}}});
    const Work start_engine = [this](Engine& engine) {
        mapper_.armEvents();
        engine.start();
        return std::nullopt;
    };
    run({kUnknownStores}, start_engine,
        [this, on_ready = std::move(on_ready)](const Outcome& outcome) {
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
            objects_.announce();
            watch();
            scheduleRefresh();
            on_ready();
        });
}

void Service::watch() {
    event_source_.wait([this] { handleEvents(); });
}

void Service::handleEvents() {
    const Work arm = [this](Engine& engine) {
        mapper_.armEvents();
        engine.recordLosses();
        return std::nullopt;
    };
    run({kNoStore}, arm, [this](const Outcome& outcome) {
        if (!outcome.error_name.empty())
            spdlog::error("{}", outcome.error_text);
        for (const Uuid& store : objects_.stores())
            refreshInTurn(store);
        watch();
    });
}

void Service::refreshInTurn(const Uuid& store) {
    if (const auto [found, is_new] = refreshing_.try_emplace(store, false); !is_new) {
        found->second = true;
        return;
    }
    const Work refresh = [store](Engine& engine) {
        engine.refresh(store);
        return std::nullopt;
    };
    run({store}, refresh, [this, store](const Outcome&) {
        if (const auto done = refreshing_.extract(store); done.mapped())
            refreshInTurn(store);
    });
}

void Service::refreshIdle(const std::function<void()>& done) {
    StoreSet idle;
    for (const Uuid& store : objects_.stores())
        if (!operations_at_.contains(store))
            idle.insert(store);
    // Also if there is none: a module that was loaded meanwhile is noticed.
    idle.insert(kNoStore);
    auto left = std::make_shared<std::size_t>(idle.size());
    for (const Uuid& store : idle) {
        const Work refresh = [store](Engine& engine) {
            engine.refresh(store);
            return std::nullopt;
        };
        run({store}, refresh, [left, done](const Outcome&) {
            if (--*left == 0)
                done();
        });
    }
}

void Service::scheduleRefresh() {
    refresh_timer_.expires_after(kRefreshInterval);
    refresh_timer_.async_wait([this](const boost::system::error_code& error) {
        if (!error)
            refreshIdle([this] { scheduleRefresh(); });
    });
}

Service::Outcome Service::perform(const StoreSet& stores, const Work& work) {
    Outcome outcome;
    const Turn turn(engine_.turns(), stores);
    try {
        outcome.answer = work(engine_);
    } catch (const OutOfTurn& missing) {
        outcome.missing_store = missing.store();
    } catch (const Error& error) {
        outcome.error_name = error.busName();
        outcome.error_text = error.what();
    } catch (const std::exception& error) {
        outcome.error_name = Error(ErrorKind::Failed, "").busName();
        outcome.error_text = error.what();
        spdlog::error("an operation ended in an unexpected way: {}", error.what());
    }
    outcome.stores = turn.stores();
    outcome.objects = publish(engine_, outcome.stores);
    outcome.notices = engine_.takeNotices(outcome.stores);
    try {
        if (const auto version = mapper_.targetVersion(COWSNAP_TARGET_STORE))
            outcome.module_version =
                fmt::format("{}.{}.{}", version->major, version->minor, version->patch);
    } catch (const Error& error) {
        spdlog::error("{}", error.what());
    }
    return outcome;
}

void Service::run(const StoreSet& stores, const Work& work, const Done& done) {
    queue_.add(stores, [this, stores, work, done] {
        // Posted before the stores are free again: what comes after is taken in after.
        asio::post(loop_, [this, outcome = perform(stores, work), work, done] {
            takeIn(outcome);
            if (outcome.missing_store) {
                StoreSet more = outcome.stores;
                more.insert(*outcome.missing_store);
                run(more, work, done);
            } else {
                done(outcome);
            }
            pump_.process();
        });
    });
}

void Service::takeIn(const Outcome& outcome) {
    for (const auto& published : outcome.objects)
        objects_.put(published);
    PublishedObject manager = *objects_.find(kRootPath);
    manager.properties["ModuleVersion"] = outcome.module_version;
    objects_.put(manager);
    emitNotices(outcome.notices);
    for (const auto& path : objects_.goneFrom(outcome.stores, outcome.objects))
        objects_.remove(path);
}

void Service::emitNotices(const Notices& notices) {
    for (const auto& event : notices.events) {
        Message signal = bus_.newSignal(storePath(event.store).path, kStoreInterface, "Event");
        signal.append(Value(event.number));
        signal.append(Value(event.event));
        signal.append(Value(event.id));
        signal.append(Value(event.text));
        bus_.send(signal);
    }
    for (const auto& warning : notices.space) {
        Message signal =
            bus_.newSignal(storePath(warning.store).path, kStoreInterface, "SpaceWarning");
        signal.append(Value(std::uint32_t{warning.percent}));
        signal.append(Value(warning.free_bytes));
        bus_.send(signal);
    }
    for (const auto& dropped : notices.dropped) {
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
        Operation operation = readCall(call);
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
        perform(call, std::move(operation), std::move(request));
    } catch (const Error& error) {
        Outcome refused;
        refused.error_name = error.busName();
        refused.error_text = error.what();
        answer(call, refused);
    }
}

StoreSet Service::storesOf(const Operation& operation) const {
    StoreSet stores;
    if (operation.about == Operation::About::UnknownStores)
        stores.insert(kUnknownStores);
    if (operation.about == Operation::About::AllStores)
        stores = objects_.stores();
    for (const auto& object : operation.objects)
        if (const auto* const published = objects_.find(object.path);
            published != nullptr && published->store)
            stores.insert(*published->store);
    // The engine says so if it needs a store that is not known here.
    if (stores.empty())
        stores.insert(kNoStore);
    return stores;
}

void Service::perform(const Message& call, Operation operation,
                      std::optional<Requests::Key> request) {
    const auto finish = [this, call, request = std::move(request)](const Outcome& outcome) {
        answer(call, outcome);
        if (!request)
            return;
        for (const auto& waiting : requests_.finished(*request, outcome.error_name.empty(),
                                                      outcome.answer, Requests::Clock::now()))
            answer(waiting, outcome);
    };
    if (operation.about == Operation::About::Refresh) {
        refreshIdle([finish] { finish({}); });
        return;
    }
    const StoreSet stores = storesOf(operation);
    operations_at_.insert(stores.begin(), stores.end());
    run(stores, operation.work, [this, stores, finish](const Outcome& outcome) {
        for (const Uuid& store : stores)
            operations_at_.extract(store);
        finish(outcome);
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

}  // namespace cowsnap
