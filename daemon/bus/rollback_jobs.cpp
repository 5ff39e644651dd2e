// SPDX-License-Identifier: GPL-2.0-or-later
#include "bus/rollback_jobs.h"

#include <utility>

#include "base/error.h"
#include "bus/methods.h"
#include "cowsnap_dm.h"

namespace cowsnap {

namespace {

/// What a property of an origin has where there is no such snapshot.
const ObjectPath kNoObject{"/"};

JobError asJobError(const Error& error) {
    return {error.busName(), error.what()};
}

}  // namespace

RollbackJobs::RollbackJobs(JobObjects& jobs, Cancel cancel)
    : jobs_(jobs), cancel_(std::move(cancel)) {}

void RollbackJobs::follow(const PublishedObject& origin) {
    const auto text = [&](const char* name) {
        return std::get<std::string>(origin.properties.at(name));
    };
    const auto object = [&](const char* name) {
        return std::get<ObjectPath>(origin.properties.at(name));
    };
    const auto number = [&](const char* name) {
        return std::get<std::uint64_t>(origin.properties.at(name));
    };
    const std::string state = text("Rollback");
    const bool copies = state == COWSNAP_ROLLBACK_RUNNING || state == COWSNAP_ROLLBACK_WAITING;
    const ObjectPath undo = object("RollbackUndo");
    const auto known = copying_.find(origin.path);
    if (known != copying_.end() && (!copies || known->second.undo != undo)) {
        const bool cancelled = copies && undo == kNoObject;
        end(origin.path, cancelled
                             ? asJobError(Error(ErrorKind::Cancelled, "the rollback was cancelled"))
                             : JobError());
    }
    if (!copies)
        return;
    const Amount amount{number("RollbackDoneBytes"), number("SizeBytes"), true};
    const bool can_cancel = undo != kNoObject;
    const auto [found, is_new] = copying_.try_emplace(origin.path);
    Copying& copying = found->second;
    if (!is_new) {
        // Also where nothing was copied since: then it is slower than it was.
        jobs_.reportFollowed(copying.job, amount, can_cancel);
        return;
    }
    JobRequest request;
    // who asked for the rollback, if that was just now
    const ObjectPath path{origin.path};
    const JobRequest* asked = jobs_.runningAt(object("RollbackTarget"), kRollback);
    if (asked == nullptr)
        asked = jobs_.runningAt(path, kCancelRollback);
    if (asked != nullptr)
        request.caller = asked->caller;
    request.operation = kCopyBack;
    request.subject = text("Name");
    request.objects = {path};
    for (const auto& snapshot : {object("RollbackTarget"), undo})
        if (snapshot != kNoObject)
            request.objects.push_back(snapshot);
    copying.undo = undo;
    copying.job = jobs_.follow(std::move(request), amount, can_cancel,
                               [this, path](const Caller& by, JobObjects::Cancelled done) {
                                   cancel_(path, by, std::move(done));
                               });
}

void RollbackJobs::end(const std::string& origin, const JobError& error) {
    const std::uint64_t job = copying_.at(origin).job;
    copying_.erase(origin);
    jobs_.endFollowed(job, error);
}

void RollbackJobs::forget(const std::string& path) {
    if (copying_.contains(path))
        end(path, asJobError(Error(ErrorKind::NotFound, "its origin is gone")));
}

std::vector<std::string> RollbackJobs::origins() const {
    std::vector<std::string> paths;
    for (const auto& copying : copying_)
        paths.push_back(copying.first);
    return paths;
}

}  // namespace cowsnap
