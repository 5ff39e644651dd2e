// SPDX-License-Identifier: GPL-2.0-or-later
// Starting the stores, and looking at them again and again: each for itself, so that one whose
// device does not answer holds up neither the others nor the bus.
#include <spdlog/spdlog.h>

#include <chrono>
#include <memory>

#include "base/error.h"
#include "base/log_fields.h"
#include "bus/service.h"

namespace cowsnap {

namespace asio = boost::asio;

namespace {

/// Who calls meanwhile waits for the name. Most stores are there before.
constexpr std::chrono::seconds kStartPatience{1};
/// How long a store may take to tell its state.
constexpr std::chrono::seconds kRefreshPatience{2};
/// How old a progress of copying back may be that is shown.
constexpr std::chrono::seconds kProgressAge{1};

constexpr std::string_view kSilentText =
    "it has not told its state for some time, and what is known of it is old: one of its devices "
    "may not answer, or something takes long";

}  // namespace

void Service::start(std::function<void()> on_ready) {
    objects_.put({kRootPath,
                  kManagerInterface,
                  {{"Version", std::string(COWSNAP_VERSION)},
                   {"ModuleVersion", std::string()},
                   {"LogLevel", configuration_.log_level}}});
    const Work find = [this](Engine& engine) {
        mapper_.armEvents();
        engine.findStores();
        return std::nullopt;
    };
    const auto found = [this, on_ready = std::move(on_ready)](const Outcome& outcome) {
        if (!outcome.error_name.empty())
            stop(outcome.error_text);
        else
            startStores(on_ready);
    };
    runner_.run({kUnknownStores}, {find, found});
}

void Service::startStores(const std::function<void()>& on_ready) {
    starting_ = objects_.stores();
    if (starting_.empty()) {
        becomeReady(on_ready);
        return;
    }
    start_timer_.expires_after(kStartPatience);
    start_timer_.async_wait([this, on_ready](const boost::system::error_code& error) {
        if (error)
            return;
        becomeReady(on_ready);
        pump_.process();
    });
    for (const Uuid& store : StoreSet(starting_)) {
        const Work start_store = [store](Engine& engine) {
            engine.startStore(store);
            return std::nullopt;
        };
        const auto started = [this, store, on_ready](const Outcome& outcome) {
            if (!outcome.error_name.empty())
                spdlog::error("{}", outcome.error_text);
            starting_.erase(store);
            if (starting_.empty())
                becomeReady(on_ready);
        };
        runner_.run({store}, {start_store, started});
    }
}

void Service::becomeReady(const std::function<void()>& on_ready) {
    if (is_ready_)
        return;
    is_ready_ = true;
    start_timer_.cancel();
    try {
        bus_.requestName(kBusName);
    } catch (const Error& error) {
        stop(error.what());
        return;
    }
    objects_.announce();
    for (const Notices& notices : std::exchange(notices_until_ready_, {}))
        emitNotices(notices);
    for (const Uuid& store : starting_)
        if (const auto* const published = objects_.find(storePath(store).path))
            spdlog::warn("the store {} is still being activated: one of its devices may not answer",
                         std::get<std::string>(published->properties.at("Name")));
    watch();
    scheduleRefresh();
    on_ready();
}

void Service::watch() {
    event_source_.wait([this] { handleEvents(); });
}

void Service::handleEvents() {
    const Work arm = [this](Engine&) {
        mapper_.armEvents();
        return std::nullopt;
    };
    const auto armed = [this](const Outcome& outcome) {
        if (!outcome.error_name.empty())
            spdlog::error("{}", outcome.error_text);
        for (const Uuid& store : objects_.stores()) {
            recordings_.ask(store);
            refreshes_.ask(store);
        }
        event_timer_.expires_after(configuration_.event_interval);
        event_timer_.async_wait([this](const boost::system::error_code& error) {
            if (!error)
                watch();
        });
    };
    runner_.run({kNoStore}, {arm, armed});
}

void Service::recordLosses(const Uuid& store, std::function<void()> done) {
    const Work record = [store](Engine& engine) {
        engine.recordLosses(store);
        return std::nullopt;
    };
    runner_.run({besides(store)}, {record, [done = std::move(done)](const Outcome&) { done(); }});
}

void Service::refresh(const Uuid& store, std::function<void()> done) {
    const Work look = [store](Engine& engine) {
        engine.refresh(store);
        return std::nullopt;
    };
    const auto looked = [this, store, done = std::move(done)](const Outcome&) {
        if (silent_.erase(store) > 0)
            spdlog::info("the store {} tells its state again", store.dashed());
        done();
    };
    runner_.run({store}, {look, looked});
}

StoreSet Service::idleStores() const {
    StoreSet idle;
    for (const Uuid& store : objects_.stores())
        if (!operations_at_.contains(store))
            idle.insert(store);
    // Also if there is none: a module that was loaded meanwhile is noticed.
    idle.insert(kNoStore);
    return idle;
}

void Service::refreshIdle(const std::function<void()>& done) {
    const StoreSet idle = idleStores();
    const auto timer = std::make_shared<asio::steady_timer>(loop_);
    const auto left = std::make_shared<std::size_t>(idle.size());
    const auto waiter = std::make_shared<const std::function<void()>>([timer, left] {
        if (--*left == 0)
            timer->cancel();
    });
    for (const Uuid& store : idle)
        refreshes_.ask(store, waiter);
    timer->expires_after(kRefreshPatience);
    timer->async_wait([this, timer, waiter, done](const boost::system::error_code&) {
        refreshes_.forget(waiter);
        showSilent();
        done();
    });
}

void Service::scheduleRefresh() {
    refresh_timer_.expires_after(configuration_.refresh_interval);
    refresh_timer_.async_wait([this](const boost::system::error_code& error) {
        if (error)
            return;
        scheduleRefresh();
        jobs_.forgetOld();
        showSilent();
        refreshSoon(idleStores());
        pump_.process();
    });
}

void Service::refreshSoon(const StoreSet& idle) {
    for (const Uuid& store : idle)
        if (!refreshes_.since(store))
            refreshes_.ask(store);
}

void Service::watchCopying() {
    watches_copying_ = !rollback_jobs_.origins().empty();
    if (!watches_copying_)
        return;
    copying_timer_.expires_after(kProgressAge);
    copying_timer_.async_wait([this](const boost::system::error_code& error) {
        if (error)
            return;
        StoreSet idle;
        for (const auto& origin : rollback_jobs_.origins())
            if (const auto* const published = objects_.find(origin);
                published && published->store && !operations_at_.contains(*published->store))
                idle.insert(*published->store);
        refreshSoon(idle);
        watchCopying();
    });
}

void Service::showSilent() {
    const auto limit = OncePerStore::Clock::now() - kRefreshPatience;
    for (const Uuid& store : refreshes_.stores()) {
        const auto* const published = objects_.find(storePath(store).path);
        if (published == nullptr || *refreshes_.since(store) > limit ||
            operations_at_.contains(store) || silent_.contains(store))
            continue;
        PublishedObject shown = *published;
        Value& problem = shown.properties.at("Problem");
        const auto& name = std::get<std::string>(shown.properties.at("Name"));
        if (!std::get<std::string>(problem).empty())
            continue;
        silent_.insert(store);
        const LogFields about({{kLogStore, name}, {kLogStoreUuid, store.dashed()}});
        spdlog::warn("the store {}: {}", name, kSilentText);
        problem = std::string(kSilentText);
        objects_.put(shown);
    }
}

}  // namespace cowsnap
