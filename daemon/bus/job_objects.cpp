// SPDX-License-Identifier: GPL-2.0-or-later
#include "bus/job_objects.h"

#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>

#include <algorithm>

#include "base/error.h"
#include "base/log_fields.h"
#include "base/names.h"

namespace cowsnap {

namespace asio = boost::asio;

namespace {

std::uint64_t secondsOf(const std::optional<Job::Time>& time) {
    if (!time)
        return 0;
    return static_cast<std::uint64_t>(std::chrono::system_clock::to_time_t(time->wall));
}

ObjectPath jobPath(std::uint64_t number) {
    return {fmt::format("{}/job/{}", kRootPath, number)};
}

PublishedObject publishJob(const Job& job) {
    return {jobPath(job.number).path,
            kJobInterface,
            {
                {"Operation", job.request.operation},
                {"Subject", job.request.subject},
                {"Objects", job.request.objects},
                {"State", jobStateName(job.state)},
                {"CanCancel", job.can_cancel},
                {"Progress", job.progress()},
                {"Bytes", job.amount.is_bytes ? job.amount.done : std::uint64_t{0}},
                {"Rate", job.rate()},
                {"Requested", secondsOf(job.requested)},
                {"Began", secondsOf(job.began)},
                {"ExpectedEndTime", secondsOf(job.expectedEnd())},
                {"Ended", secondsOf(job.ended)},
                {"UserId", std::uint32_t{job.request.caller.user_id}},
                {"ProcessId", static_cast<std::uint32_t>(job.request.caller.process_id)},
                {"Sender", job.request.caller.bus_name},
                {"RequestId", job.request.request_id},
                {"Results", job.results},
                {"ErrorName", job.error.name},
                {"ErrorMessage", job.error.message},
            }};
}

LogFields::Fields logFieldsOf(const Job& job) {
    LogFields::Fields fields{{kLogJob, std::to_string(job.number)},
                             {kLogOperation, job.request.operation}};
    if (job.request.caller.user_id != kUnknownUser)
        fields.emplace_back(kLogUserId, std::to_string(job.request.caller.user_id));
    if (!job.request.caller.bus_name.empty())
        fields.emplace_back(kLogSender, job.request.caller.bus_name);
    return fields;
}

/// What a caller sent stays in its line of the log.
std::string inOneLine(std::string text) {
    std::replace_if(text.begin(), text.end(), isControl, '?');
    return text;
}

void logEnd(const Job& job, spdlog::level::level_enum level_if_not_done = spdlog::level::info) {
    const LogFields fields(logFieldsOf(job));
    const std::string what = fmt::format("job {}: {}{}{}: {}", job.number, job.request.operation,
                                         job.request.subject.empty() ? "" : " ",
                                         job.request.subject, jobStateName(job.state));
    if (job.state == JobState::Done)
        spdlog::debug("{}", inOneLine(what));
    else
        spdlog::log(level_if_not_done, "{}",
                    inOneLine(fmt::format("{}: {}", what, job.error.message)));
}

/// The objects that a method answers.
std::vector<ObjectPath> objectsIn(const std::optional<Answer>& answer) {
    const auto* const value = answer ? std::get_if<Value>(&*answer) : nullptr;
    if (value == nullptr)
        return {};
    if (const auto* const object = std::get_if<ObjectPath>(value))
        return {*object};
    const auto* const objects = std::get_if<std::vector<ObjectPath>>(value);
    return objects != nullptr ? *objects : std::vector<ObjectPath>();
}

/// With what a job ends. One that answers what became of each thing, as Prune does, has failed
/// where one of them has: whoever waits for the job does not see the answer.
JobError errorIn(const Outcome& outcome) {
    if (!outcome.error_name.empty())
        return {outcome.error_name, outcome.error_text, outcome.cancelled};
    const auto* const rows =
        outcome.answer ? std::get_if<std::vector<Dictionary>>(&*outcome.answer) : nullptr;
    if (rows == nullptr)
        return {};
    const auto text = [](const Dictionary& row, const char* key) {
        const auto found = row.find(key);
        const auto* const value =
            found == row.end() ? nullptr : std::get_if<std::string>(&found->second);
        return value == nullptr ? std::string() : *value;
    };
    std::vector<std::string> failed;
    for (const auto& row : *rows)
        if (text(row, "Action") == "failed")
            failed.push_back(fmt::format("{} ({})", text(row, "Name"), text(row, "Reason")));
    if (failed.empty())
        return {};
    const Error error(ErrorKind::PartlyDone,
                      fmt::format("not deleted: {}", fmt::join(failed, "; ")));
    return {error.busName(), error.what()};
}

}  // namespace

JobObjects::JobObjects(asio::io_context& loop, Objects& objects, Runner& runner,
                       std::function<void()> then_send)
    : loop_(loop), objects_(objects), runner_(runner), then_send_(std::move(then_send)) {}

void JobObjects::show(const Job& job) {
    objects_.put(publishJob(job));
}

void JobObjects::tellEnd(const Job& job) {
    show(job);
    objects_.emit(jobPath(job.number).path, "Completed",
                  {jobStateName(job.state), job.error.name, job.error.message});
}

void JobObjects::showEnd(const Job& job) {
    tellEnd(job);
    logEnd(job);
}

void JobObjects::start(JobRequest request, const StoreSet& stores, Work work,
                       std::function<void(const Outcome&)> done) {
    const Job& job = jobs_.add(std::move(request), Job::Time::now());
    const std::uint64_t number = job.number;
    show(job);
    const auto report = [this, number](const Amount& amount, bool can_stop) {
        asio::post(loop_, [this, number, amount, can_stop] {
            show(jobs_.report(number, amount, can_stop, Job::Time::now()));
            then_send_();
        });
    };
    Runner::Task task;
    task.work = std::move(work);
    task.begun = [this, number] { show(jobs_.begin(number, Job::Time::now())); };
    task.done = [this, number](const Outcome& outcome) { end(number, outcome); };
    task.progress = std::make_shared<Progress>(report);
    task.log_fields = logFieldsOf(job);
    Running& running = running_[number];
    running.done = std::move(done);
    running.task = runner_.run(stores, std::move(task));
}

void JobObjects::end(std::uint64_t number, const Outcome& outcome) {
    const auto running = running_.extract(number);
    const Job& job =
        jobs_.end(number, errorIn(outcome), objectsIn(outcome.answer), Job::Time::now());
    showEnd(job);
    const std::string state = jobStateName(job.state);
    const bool cancelled = job.state == JobState::Cancelled;
    forgetOld();
    running.mapped().done(outcome);
    for (const auto& on_cancelled : running.mapped().cancelling) {
        if (cancelled)
            on_cancelled(std::nullopt);
        else
            on_cancelled(Error(ErrorKind::Failed,
                               fmt::format("the job {} was over before it could be cancelled: {}",
                                           number, state)));
    }
}

const Job* JobObjects::find(const ObjectPath& path) const {
    for (const auto& [number, job] : jobs_.all())
        if (jobPath(number) == path)
            return &job;
    return nullptr;
}

const JobRequest* JobObjects::requestOf(const ObjectPath& path) const {
    const Job* const job = find(path);
    return job == nullptr ? nullptr : &job->request;
}

const JobRequest* JobObjects::runningAt(const ObjectPath& object,
                                        std::string_view operation) const {
    for (const auto& [number, running] : running_) {
        const JobRequest& request = jobs_.find(number)->request;
        const auto& objects = request.objects;
        if (request.operation == operation &&
            std::find(objects.begin(), objects.end(), object) != objects.end())
            return &request;
    }
    return nullptr;
}

std::uint64_t JobObjects::follow(JobRequest request, const Amount& amount, bool can_cancel,
                                 Cancel cancel) {
    const auto now = Job::Time::now();
    const std::uint64_t number = jobs_.add(std::move(request), now).number;
    jobs_.begin(number, now, amount);
    running_[number].cancel = std::move(cancel);
    show(jobs_.report(number, amount, can_cancel, now));
    return number;
}

void JobObjects::reportFollowed(std::uint64_t number, const Amount& amount, bool can_cancel) {
    show(jobs_.report(number, amount, can_cancel, Job::Time::now()));
}

void JobObjects::endFollowed(std::uint64_t number, const JobError& error) {
    running_.erase(number);
    const Job& job = jobs_.end(number, error, {}, Job::Time::now());
    showEnd(job);
    forgetOld();
}

void JobObjects::cancel(const ObjectPath& path, const Caller& by, Cancelled on_cancelled) {
    const Job* const job = find(path);
    if (job == nullptr)
        fail(ErrorKind::NotFound, "there is no job {}", path.path);
    if (job->over())
        fail(ErrorKind::Failed, "the job {} is over already: {}", job->number,
             jobStateName(job->state));
    Running& running = running_.at(job->number);
    if (running.cancel) {
        if (!job->can_cancel)
            fail(ErrorKind::Busy, "the job {} ({}) cannot be cancelled: it will be finished",
                 job->number, job->request.operation);
        running.cancel(by, std::move(on_cancelled));
        return;
    }
    if (runner_.withdraw(running.task)) {
        running.cancelling.push_back(std::move(on_cancelled));
        const Error cancelled(ErrorKind::Cancelled, "it was cancelled before it began");
        Outcome outcome;
        outcome.error_name = cancelled.busName();
        outcome.error_text = cancelled.what();
        end(job->number, outcome);
        return;
    }
    if (!job->can_cancel)
        fail(ErrorKind::Busy,
             "the job {} ({}) has begun and cannot be cancelled any more: it will be finished",
             job->number, job->request.operation);
    running.cancelling.push_back(std::move(on_cancelled));
    running.task->progress->stop();
}

void JobObjects::dropWaiting() {
    const Error dropped(ErrorKind::Cancelled,
                        "cowsnapd was stopped before it began: ask for it again");
    std::vector<const Job*> dropped_jobs;
    for (const auto& [number, running] : running_) {
        if (!running.task || !runner_.withdraw(running.task))
            continue;
        const Job& job =
            jobs_.end(number, {dropped.busName(), dropped.what()}, {}, Job::Time::now());
        logEnd(job, spdlog::level::warn);
        dropped_jobs.push_back(&job);
    }
    // Last, as the bus may be gone.
    for (const Job* const job : dropped_jobs)
        tellEnd(*job);
}

std::vector<ObjectPath> JobObjects::list(const std::optional<std::string>& request_id) const {
    std::vector<ObjectPath> paths;
    for (const auto& [number, job] : jobs_.all())
        if (!request_id || job.request.request_id == *request_id)
            paths.push_back(jobPath(number));
    return paths;
}

JobCounts JobObjects::counts() const {
    JobCounts counts;
    for (const JobState state : {JobState::Queued, JobState::Running})
        counts.unfinished[jobStateName(state)] = 0;
    for (const auto& [number, running] : running_)
        ++counts.unfinished[jobStateName(jobs_.find(number)->state)];
    for (const auto& [state, count] : jobs_.ended())
        counts.ended[jobStateName(state)] = count;
    return counts;
}

void JobObjects::forgetOld() {
    for (const std::uint64_t number : jobs_.forgetOld(limits_, Job::Time::now()))
        objects_.remove(jobPath(number).path);
}

}  // namespace cowsnap
