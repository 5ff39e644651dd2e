// SPDX-License-Identifier: GPL-2.0-or-later
#include "jobs/runner.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>

#include "base/error.h"
#include "base/names.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace asio = boost::asio;

namespace {

/// Beyond it an error is for nobody, and with a hundred jobs too much for the bus.
constexpr std::size_t kErrorMaxBytes = std::size_t{64} << 10;

/// What cannot be told is no reason to end: the work is done, and the loop goes on.
void tell(const std::function<void()>& work) {
    try {
        work();
    } catch (const std::exception& error) {
        spdlog::error("cannot tell what came of an operation: {}", error.what());
    }
}

}  // namespace

Runner::Runner(asio::io_context& loop, WorkQueue& queue, Engine& engine, DeviceMapper& mapper,
               std::function<void(const Outcome&)> take_in, std::function<void()> then_send)
    : loop_(loop),
      queue_(queue),
      engine_(engine),
      mapper_(mapper),
      take_in_(std::move(take_in)),
      then_send_(std::move(then_send)) {}

Runner::Handle Runner::run(const StoreSet& stores, Task task) {
    auto handle = std::make_shared<Task>(std::move(task));
    enqueue(stores, handle);
    return handle;
}

void Runner::enqueue(const StoreSet& stores, const Handle& task) {
    // The work goes to the loop with its outcome, and is let go of there: it holds messages of the
    // bus, which count their users for one thread only.
    task->ticket = queue_.add(stores, [this, stores, task = Handle(task)]() mutable {
        if (task->begun)
            asio::post(loop_, [this, task] {
                tell(task->begun);
                tell(then_send_);
            });
        // Posted before the stores are free again: what comes after is taken in after.
        // Shared: it may have thousands of objects, and a handler may be copied.
        const auto outcome = std::make_shared<const Outcome>(perform(stores, *task));
        asio::post(loop_, [this, outcome, task = std::move(task)] {
            tell([&] { take_in_(*outcome); });
            if (outcome->missing_store) {
                StoreSet more = outcome->stores;
                more.insert(*outcome->missing_store);
                enqueue(more, task);
            } else {
                tell([&] { task->done(*outcome); });
            }
            tell(then_send_);
        });
    });
}

Outcome Runner::perform(const StoreSet& stores, const Task& task) {
    Outcome outcome;
    const LogFields fields(task.log_fields);
    Turn turn(engine_.turns(), stores, task.progress.get());
    if (task.only_check)
        turn.onlyCheck();
    try {
        outcome.answer = task.work(engine_);
    } catch (const OutOfTurn& missing) {
        outcome.missing_store = missing.store();
    } catch (const OnlyChecked&) {
        outcome.answer.reset();
    } catch (const Error& error) {
        outcome.error_name = error.busName();
        outcome.error_text = shortened(error.what(), kErrorMaxBytes);
    } catch (const std::exception& error) {
        outcome.error_name = Error(ErrorKind::Failed, "").busName();
        outcome.error_text = error.what();
        spdlog::error("an operation ended in an unexpected way: {}", error.what());
    }
    outcome.cancelled = task.progress && task.progress->stopped();
    outcome.stores = turn.stores();
    outcome.objects = publish(engine_, outcome.stores);
    for (const Uuid& store : outcome.stores)
        if (engine_.wantsExtension(store))
            outcome.extend.insert(store);
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

}  // namespace cowsnap
