// SPDX-License-Identifier: GPL-2.0-or-later
// What the kernel copies back for rollbacks, as jobs: they begin, go on and end as the origins say
// that they do, also when a daemon finds them so at its start. Runs on the loop's thread.
#ifndef COWSNAP_DAEMON_BUS_ROLLBACK_JOBS_H
#define COWSNAP_DAEMON_BUS_ROLLBACK_JOBS_H

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "bus/job_objects.h"
#include "model/published.h"

namespace cowsnap {

/// The operation of these jobs.
inline constexpr std::string_view kCopyBack = "copy-back";

class RollbackJobs {
public:
    /// Cancels the rollback of an origin, for somebody.
    using Cancel =
        std::function<void(const ObjectPath& origin, const Caller& by, JobObjects::Cancelled)>;

    RollbackJobs(JobObjects& jobs, Cancel cancel);
    RollbackJobs(const RollbackJobs&) = delete;
    RollbackJobs& operator=(const RollbackJobs&) = delete;

    /// An origin is as this says.
    void follow(const PublishedObject& origin);
    /// An object is not there any more.
    void forget(const std::string& path);
    /// The paths of the origins at which something is copied back.
    std::vector<std::string> origins() const;

private:
    struct Copying {
        std::uint64_t job = 0;
        ObjectPath undo;
    };

    void end(const std::string& origin, const JobError& error);

    JobObjects& jobs_;
    Cancel cancel_;
    std::map<std::string, Copying> copying_;  ///< by the path of the origin
};

}  // namespace cowsnap

#endif
