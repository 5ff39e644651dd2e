// SPDX-License-Identifier: GPL-2.0-or-later
// Calls in, outcomes out.
#include "bus/service.h"

#include <spdlog/spdlog.h>
#include <unistd.h>

#include <boost/asio/post.hpp>

#include <chrono>
#include <cstring>
#include <memory>
#include <set>

#include "base/error.h"
#include "base/log_fields.h"
#include "base/names.h"
#include "base/sealed_file.h"
#include "base/size_text.h"
#include "bus/listing.h"
#include "bus/permissions.h"
#include "cowsnap_dm.h"
#include "model/done_so_far.h"
#include "model/metrics.h"

namespace cowsnap {

namespace asio = boost::asio;

namespace {

/// What of it is the engine's affair.
void configureEngine(Engine& engine, const Configuration& configuration) {
    engine.setSpaceWarnings(configuration.space_warnings_percent);
    engine.setMetadataBackups(configuration.metadata_backups);
    engine.setAutoextend({configuration.autoextend, configuration.autoextend_at_percent,
                          configuration.autoextend_by_percent});
}

/// A call is kept, whole, while polkit is asked and its stores are busy. The paths of 15,000
/// snapshots are shorter.
constexpr std::size_t kArgumentsMaxBytes = std::size_t{1} << 20;

void checkLength(Message call) {
    if (call.argumentBytes(kArgumentsMaxBytes) > kArgumentsMaxBytes)
        fail(ErrorKind::InvalidArgument,
             "the arguments of {} are longer than {}: ask for it in several parts", call.member(),
             sizeText(kArgumentsMaxBytes));
}

// What a job says of itself is not longer, whatever it was asked for: the bus ends connections for
// messages that are too long, and one that lists jobs has a hundred of them.
constexpr std::size_t kSubjectMaxBytes = 2048;
constexpr std::size_t kJobObjectsMax = COWSNAP_DELETE_MAX;

/// Whether a call needs no action, whoever makes it.
bool anybodyMay(const Message& call) {
    const auto found = neededActions().find({call.interface(), call.member()});
    return found != neededActions().end() && found->second == kNoAction;
}

/// Of what is no job: who asked for it, and what became of that.
void logAsked(spdlog::level::level_enum level, const Message& call, const Sender& sender,
              std::string_view what) {
    const LogFields fields({{kLogOperation, call.member()},
                            {kLogUserId, std::to_string(sender.user_id)},
                            {kLogSender, call.sender()}});
    spdlog::log(level, "{}, asked for by the user {} ({}), {}", call.member(), sender.user_id,
                call.sender(), what);
}

struct NamedObject {
    std::string name;
};

/// What went wrong; nothing if it was done.
std::optional<Error> errorOf(const Outcome& outcome) {
    if (outcome.error_name.empty())
        return std::nullopt;
    return Error(errorKindFromBusName(outcome.error_name).value_or(ErrorKind::Failed),
                 outcome.error_text);
}

}  // namespace

Service::Service(asio::io_context& loop, WorkQueue& queue, Engine& engine, DeviceMapper& mapper,
                 ConfigurationSource source, AuthoritySettings authority)
    : loop_(loop),
      mapper_(mapper),
      bus_(Bus::openSystem()),
      objects_(bus_, [this](const Message& call) { handle(call); }),
      authority_(bus_, std::move(authority)),
      pump_(loop, bus_,
            [this](int error_number) {
                stop(fmt::format("the connection to the bus is lost: {}",
                                 std::strerror(error_number)));
            }),
      runner_(
          loop, queue, engine, mapper, [this](const Outcome& outcome) { takeIn(outcome); },
          [this] { pump_.process(); }),
      jobs_(loop, objects_, runner_, [this] { pump_.process(); }),
      rollback_jobs_(
          jobs_, [this](const ObjectPath& origin, const Caller& by,
                        const JobObjects::Cancelled& done) { cancelRollback(origin, by, done); }),
      event_source_(loop, mapper),
      event_timer_(loop),
      refresh_timer_(loop),
      start_timer_(loop),
      copying_timer_(loop),
      source_(std::move(source)),
      refreshes_([this](const Uuid& store, auto done) { refresh(store, std::move(done)); }),
      recordings_([this](const Uuid& store, auto done) { recordLosses(store, std::move(done)); }) {
    const Configuration configuration = readConfiguration(source_);
    configureEngine(engine, configuration);
    configure(configuration);
}

void Service::configure(const Configuration& configuration) {
    configuration_ = configuration;
    requests_.setLimits({configuration.request_ids, configuration.request_ids_age});
    jobs_.setLimits({configuration.finished_jobs, configuration.finished_jobs_age});
}

void Service::reload(std::function<void(const std::optional<Error>&)> done) {
    auto read = std::make_shared<Configuration>();
    const Work work = [this, read](Engine& engine) {
        {
            const StepOut out(engine.turns());
            *read = readConfiguration(source_);
        }
        configureEngine(engine, *read);
        return std::nullopt;
    };
    const auto finished = [this, read, done = std::move(done)](const Outcome& outcome) {
        if (const auto error = errorOf(outcome)) {
            done(error);
            return;
        }
        configure(*read);
        setLogLevel(read->log_level);
        jobs_.forgetOld();
        scheduleRefresh();
        done(std::nullopt);
    };
    runner_.run({kNoStore}, {work, finished});
}

void Service::setLogLevel(const std::string& level) {
    spdlog::set_level(spdlog::level::from_str(level));
    setManagerProperty("LogLevel", level);
}

void Service::setManagerProperty(const std::string& name, const std::string& value) {
    PublishedObject manager = *objects_.find(kRootPath);
    manager.properties[name] = value;
    objects_.put(manager);
}

void Service::stop(const std::string& why) {
    failure_ = why;
    loop_.stop();
}

void Service::takeIn(const Outcome& outcome) {
    for (const auto& published : outcome.objects)
        objects_.put(published);
    setManagerProperty("ModuleVersion", outcome.module_version);
    if (is_ready_)
        emitNotices(outcome.notices);
    else
        notices_until_ready_.push_back(outcome.notices);
    for (const auto& path : objects_.goneFrom(outcome.stores, outcome.objects)) {
        rollback_jobs_.forget(path);
        objects_.remove(path);
    }
    for (const auto& published : outcome.objects)
        if (published.interface == kOriginInterface)
            rollback_jobs_.follow(published);
    if (!watches_copying_)
        watchCopying();
    for (const Uuid& store : outcome.extend)
        autoextend(store);
}

void Service::cancelRollback(const ObjectPath& origin, const Caller& by,
                             const JobObjects::Cancelled& done) {
    const Work cancel = [uuid = uuidInPath(origin, "origin")](Engine& engine) {
        engine.cancelRollback(uuid);
        return std::nullopt;
    };
    const auto cancelled = [done](const Outcome& outcome) { done(errorOf(outcome)); };
    Operation operation;
    operation.objects = {origin};
    JobRequest request;
    request.caller = by;
    request.operation = kCancelRollback;
    request.objects = operation.objects;
    if (const auto* const published = objects_.find(origin.path))
        request.subject = std::get<std::string>(published->properties.at("Name"));
    jobs_.start(std::move(request), storesOf(operation), cancel, cancelled);
}

void Service::autoextend(const Uuid& store) {
    if (!extending_.insert(store).second)
        return;
    JobRequest request;
    request.operation = "autoextend";
    // nobody else asked for it
    request.caller = {::geteuid(), ::getpid()};
    request.objects = {storePath(store)};
    if (const auto* const published = objects_.find(request.objects.front().path))
        request.subject = std::get<std::string>(published->properties.at("Name"));
    const Work extend = [store](Engine& engine) {
        engine.autoextend(store);
        return std::nullopt;
    };
    const auto done = [this, store](const Outcome& outcome) {
        extending_.erase(store);
        // It may be full enough already to be extended again.
        if (outcome.extend.contains(store))
            autoextend(store);
    };
    jobs_.start(std::move(request), {store}, extend, done);
}

void Service::dropWaiting() {
    try {
        jobs_.dropWaiting();
        bus_.flush();
    } catch (const Error& error) {
        spdlog::warn("cannot tell who waits for jobs that they are dropped: {}", error.what());
    }
}

void Service::emitNotices(const Notices& notices) {
    const auto emit = [&](const Uuid& store, const char* signal_name, const auto&... values) {
        Message signal = bus_.newSignal(storePath(store).path, kStoreInterface, signal_name);
        (signal.append(Value(values)), ...);
        bus_.send(signal);
    };
    for (const auto& event : notices.events)
        emit(event.store, "Event", event.number, event.event, event.id, event.text);
    for (const auto& warning : notices.space)
        emit(warning.store, "SpaceWarning", std::uint32_t{warning.percent}, warning.free_bytes);
    for (const auto& extended : notices.extended)
        emit(extended.store, "Autoextended", extended.device, extended.size_bytes);
    for (const auto& failed : notices.extend_failed)
        emit(failed.store, "AutoextendFailed", failed.reason);
    for (const auto& dropped : notices.dropped)
        emit(dropped.store, "SnapshotDropped", snapshotPath(dropped.snapshot), dropped.name,
             dropped.reason);
}

void Service::guarded(const Message& call, const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        refuse(call, error.busName(), error.what());
    } catch (const std::exception& error) {
        // Nothing may be thrown through sd-bus, whatever a caller sent.
        const Error failed(ErrorKind::Failed, error.what());
        spdlog::error("{} failed: {}", call.member(), failed.what());
        refuse(call, failed.busName(), failed.what());
    }
}

std::string_view Service::neededAction(const Message& call, const Sender& sender) const {
    const auto found = neededActions().find({call.interface(), call.member()});
    if (found == neededActions().end())
        fail(ErrorKind::NotAuthorized, "nobody may call {}: it is none of the methods of {}",
             call.member(), kBusName);
    if (found->second != kActionCancelJob)
        return found->second;
    const JobRequest* const job = jobs_.requestOf({call.path()});
    if (job != nullptr && job->operation == kCopyBack)
        return neededActions().at({kOriginInterface, "CancelRollback"});
    return job != nullptr && job->caller.user_id == sender.user_id ? kNoAction : found->second;
}

void Service::handle(const Message& call) {
    guarded(call, [&] {
        checkLength(call);
        // The bus is not asked where anybody may call: that would take as long as the call.
        if (anybodyMay(call)) {
            serve(call, std::nullopt);
            return;
        }
        const Sender sender = senderOf(call);
        authority_.check(call, sender, neededAction(call, sender),
                         [this, call, sender](const std::optional<Error>& error) {
                             if (error) {
                                 logAsked(spdlog::level::warn, call, sender,
                                          fmt::format("was refused: {}", error->what()));
                                 refuse(call, error->busName(), error->what());
                             } else {
                                 serve(call, sender);
                             }
                         });
    });
}

Sender Service::senderOf(const Message& call) {
    const auto sender = bus_.sender(call);
    if (!sender)
        fail(ErrorKind::NotAuthorized, "it cannot be found out who calls {}", call.member());
    return *sender;
}

void Service::serve(Message call, std::optional<Sender> known_sender) {
    guarded(call, [&] {
        CommonOptions common = Options::commonOf(call);
        // What is only checked is checked anew each time.
        if (common.dry_run)
            common.request_id.reset();
        // Of other calls of this kind nobody needs to know who makes them.
        if (!known_sender)
            known_sender = common.request_id ? senderOf(call) : Sender();
        const Sender& sender = *known_sender;
        if (!common.request_id || !requests_.knows({sender.user_id, *common.request_id}))
            checkIsThere(call.path());
        // Before the id is taken note of: what is refused here can be put right and sent again.
        Operation operation = readCall(call, common.dry_run);
        if (common.background && common.dry_run)
            fail(ErrorKind::InvalidArgument,
                 "with the option \"dry_run\" nothing is done, in the background neither: leave "
                 "\"{}\" out, the answer comes at once",
                 kBackgroundOption);
        if (common.background && operation.job.empty())
            fail(ErrorKind::InvalidArgument,
                 "the option \"{}\" is for jobs, and this call is none: it changes nothing",
                 kBackgroundOption);
        if (common.request_id && operation.work) {
            const auto verdict = requests_.begin({sender.user_id, *common.request_id}, call,
                                                 !common.background, Requests::Clock::now());
            if (verdict.action == Requests::Verdict::Action::Answer)
                answer(call, verdict.answer);
            else if (verdict.action == Requests::Verdict::Action::Wait && common.background)
                answer(call, operation.answer_at_once);
            if (verdict.action != Requests::Verdict::Action::Perform)
                return;
        }
        perform(call, std::move(operation), sender, common);
    });
}

void Service::checkIsThere(const std::string& path) const {
    if (objects_.find(path) == nullptr)
        fail(ErrorKind::NotFound,
             "there is no object {}: it was deleted, detached, closed or forgotten meanwhile, or "
             "never was there",
             path);
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
    // What is not started yet is not waited for: the engine refuses to use it.
    for (const Uuid& store : starting_)
        stores.erase(store);
    // The engine says so if it needs a store that is not known here.
    if (stores.empty())
        stores.insert(kNoStore);
    return stores;
}

Caller Service::callerOf(const Message& call, const Sender& sender) {
    return {sender.user_id, sender.process_id, call.sender()};
}

JobRequest Service::jobRequestOf(const Message& call, const Operation& operation,
                                 const Sender& sender, const CommonOptions& common) const {
    JobRequest request;
    request.caller = callerOf(call, sender);
    request.operation = operation.job;
    request.request_id = common.request_id.value_or("");
    std::set<std::string> seen;
    std::vector<NamedObject> named;
    for (const auto& object : operation.objects) {
        const auto* const published = objects_.find(object.path);
        if (published == nullptr || !seen.insert(object.path).second)
            continue;
        if (request.objects.size() < kJobObjectsMax)
            request.objects.push_back(object);
        named.push_back({std::get<std::string>(published->properties.at("Name"))});
    }
    request.subject =
        shortened(operation.subject.empty() ? namesOf(named) : operation.subject, kSubjectMaxBytes);
    return request;
}

bool Service::performHere(const Message& call, const Operation& operation, const Sender& sender) {
    switch (operation.about) {
        case Operation::About::Refresh:
            refreshIdle([this, call] {
                answer(call, std::nullopt);
                pump_.process();
            });
            return true;
        case Operation::About::ListJobs: {
            const auto& id = operation.subject;
            answer(call, jobs_.list(id.empty() ? std::nullopt : std::optional(id)));
            return true;
        }
        case Operation::About::ListSnapshots: {
            Message reply = bus_.newMethodReturn(call);
            reply.append(makeSealedFile("cowsnap-snapshots", snapshotListing(objects_)));
            bus_.send(reply);
            return true;
        }
        case Operation::About::GetMetrics:
            answerMetrics(call);
            return true;
        case Operation::About::Reload:
            reload([this, call, sender](const auto& error) {
                logAsked(spdlog::level::info, call, sender,
                         error ? fmt::format("failed: {}", error->what()) : "is done");
                if (error)
                    refuse(call, error->busName(), error->what());
                else
                    answer(call, std::nullopt);
            });
            return true;
        case Operation::About::SetLogLevel:
            // Before it may be too quiet for that.
            logAsked(spdlog::level::info, call, sender,
                     fmt::format("sets it to {}", operation.subject));
            setLogLevel(operation.subject);
            answer(call, std::nullopt);
            return true;
        case Operation::About::CancelJob:
            jobs_.cancel(operation.objects.front(), callerOf(call, sender),
                         [this, call](const auto& error) {
                             if (error)
                                 refuse(call, error->busName(), error->what());
                             else
                                 answer(call, std::nullopt);
                         });
            return true;
        case Operation::About::Objects:
        case Operation::About::UnknownStores:
        case Operation::About::AllStores:
        case Operation::About::NoStore:
            break;
    }
    return false;
}

void Service::answerMetrics(const Message& call) {
    const Work look = [](Engine& engine) { return metricsText(engine.stores()); };
    const auto looked = [this, call](const Outcome& outcome) {
        if (!outcome.error_name.empty())
            refuse(call, outcome.error_name, outcome.error_text);
        else
            answer(call, std::get<std::string>(std::get<Value>(*outcome.answer)) +
                             jobMetricsText(jobs_.counts()));
    };
    runner_.run({kNoStore}, {look, looked});
}

void Service::perform(const Message& call, Operation operation, const Sender& sender,
                      const CommonOptions& common) {
    if (performHere(call, operation, sender))
        return;
    const StoreSet stores = storesOf(operation);
    if (operation.only_check) {
        onlyCheck(call, operation, stores);
        return;
    }
    operations_at_.insert(stores.begin(), stores.end());
    const auto done = [this, call, stores, common, sender](const Outcome& outcome) {
        for (const Uuid& store : stores)
            operations_at_.extract(store);
        if (!common.background)
            answerWith(call, outcome);
        if (!common.request_id)
            return;
        for (const auto& waiting :
             requests_.finished({sender.user_id, *common.request_id}, outcome.error_name.empty(),
                                outcome.answer, Requests::Clock::now()))
            answerWith(waiting, outcome);
    };
    if (operation.job.empty()) {
        runner_.run(stores, {operation.work, done});
        return;
    }
    jobs_.start(jobRequestOf(call, operation, sender, common), stores, operation.work, done);
    if (common.background)
        answer(call, operation.answer_at_once);
}

void Service::onlyCheck(const Message& call, const Operation& operation, const StoreSet& stores) {
    const auto checked = [this, call, at_once = operation.answer_at_once](const Outcome& outcome) {
        if (outcome.error_name.empty())
            answer(call, at_once);
        else
            answerWith(call, outcome);
    };
    Runner::Task task;
    task.work = operation.work;
    task.done = checked;
    task.only_check = true;
    runner_.run(stores, std::move(task));
}

void Service::answer(const Message& call, const std::optional<Answer>& answer) {
    try {
        Message reply = bus_.newMethodReturn(call);
        if (answer)
            std::visit([&](const auto& value) { reply.append(value); }, *answer);
        bus_.send(reply);
    } catch (const Error& error) {
        spdlog::warn("cannot answer {}: {}", call.sender(), error.what());
    }
}

void Service::refuse(const Message& call, const std::string& error_name,
                     const std::string& error_text) {
    try {
        bus_.replyError(call, error_name, error_text);
    } catch (const Error& error) {
        spdlog::warn("cannot answer {}: {}", call.sender(), error.what());
    }
}

void Service::answerWith(const Message& call, const Outcome& outcome) {
    if (outcome.error_name.empty())
        answer(call, outcome.answer);
    else
        refuse(call, outcome.error_name, outcome.error_text);
}

}  // namespace cowsnap
