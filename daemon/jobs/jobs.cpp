// SPDX-License-Identifier: GPL-2.0-or-later
#include "jobs/jobs.h"

#include <algorithm>

#include "base/error.h"

namespace cowsnap {

namespace {

double secondsBetween(Job::Time from, Job::Time to) {
    return std::chrono::duration<double>(to - from).count();
}

}  // namespace

double Job::progress() const {
    if (state == JobState::Done)
        return 1;
    if (amount.total == 0)
        return -1;
    return static_cast<double>(std::min(amount.done, amount.total)) /
           static_cast<double>(amount.total);
}

std::uint64_t Job::rate() const {
    if (!amount.is_bytes || !began || !reported)
        return 0;
    const double seconds = secondsBetween(*began, *reported);
    if (seconds <= 0 || amount.done < done_before)
        return 0;
    return static_cast<std::uint64_t>(static_cast<double>(amount.done - done_before) / seconds);
}

std::optional<Job::Time> Job::expectedEnd() const {
    if (over() || !began || !reported || amount.done <= done_before || amount.total == 0)
        return std::nullopt;
    const double all = static_cast<double>(std::max(amount.total, amount.done) - done_before);
    const double seconds =
        secondsBetween(*began, *reported) * all / static_cast<double>(amount.done - done_before);
    return *began + std::chrono::duration_cast<Time::Span>(std::chrono::duration<double>(seconds));
}

const Job& Jobs::add(JobRequest request, Time now) {
    Job job;
    job.number = ++last_number_;
    job.request = std::move(request);
    job.requested = now;
    return jobs_.emplace(job.number, std::move(job)).first->second;
}

const Job& Jobs::begin(std::uint64_t number, Time now, const Amount& amount) {
    Job& job = jobs_.at(number);
    if (job.state == JobState::Queued) {
        job.state = JobState::Running;
        job.can_cancel = false;
        job.began = now;
        job.amount = amount;
        job.done_before = amount.done;
    }
    return job;
}

const Job& Jobs::report(std::uint64_t number, const Amount& amount, bool can_cancel, Time now) {
    Job& job = jobs_.at(number);
    job.amount = amount;
    job.can_cancel = can_cancel;
    job.reported = now;
    return job;
}

const Job& Jobs::end(std::uint64_t number, const JobError& error, std::vector<ObjectPath> results,
                     Time now) {
    Job& job = jobs_.at(number);
    const bool cancelled =
        error.cancelled || error.name == Error(ErrorKind::Cancelled, "").busName();
    const JobState unsuccessful = cancelled ? JobState::Cancelled : JobState::Failed;
    job.state = error.name.empty() ? JobState::Done : unsuccessful;
    ++ended_[job.state];
    job.can_cancel = false;
    job.ended = now;
    job.error = error;
    job.results = std::move(results);
    return job;
}

const Job* Jobs::find(std::uint64_t number) const {
    const auto found = jobs_.find(number);
    return found == jobs_.end() ? nullptr : &found->second;
}

std::vector<std::uint64_t> Jobs::forgetOld(const Limits& limits, Time now) {
    std::vector<const Job*> over;
    for (const auto& [number, job] : jobs_)
        if (job.over())
            over.push_back(&job);
    std::stable_sort(over.begin(), over.end(), [](const Job* one, const Job* other) {
        return one->ended->steady < other->ended->steady;
    });
    std::vector<std::uint64_t> forgotten;
    for (std::size_t i = 0; i < over.size(); ++i)
        if (over.size() - i > limits.count || now - *over[i]->ended >= limits.age)
            forgotten.push_back(over[i]->number);
    for (const std::uint64_t number : forgotten)
        jobs_.erase(number);
    return forgotten;
}

std::string jobStateName(JobState state) {
    switch (state) {
        case JobState::Queued:
            return "queued";
        case JobState::Running:
            return "running";
        case JobState::Done:
            return "done";
        case JobState::Cancelled:
            return "cancelled";
        case JobState::Failed:
            break;
    }
    return "failed";
}

}  // namespace cowsnap
