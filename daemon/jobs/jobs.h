// SPDX-License-Identifier: GPL-2.0-or-later
// The jobs that wait and run, and those that ended not long ago. A list: what a job does, and how
// it is shown, is not known here.
#ifndef COWSNAP_DAEMON_JOBS_JOBS_H
#define COWSNAP_DAEMON_JOBS_JOBS_H

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "bus/value.h"
#include "model/progress.h"

namespace cowsnap {

/// Of what was asked for before the daemon was started.
inline constexpr uid_t kUnknownUser = static_cast<uid_t>(-1);

/// Who asks for something.
struct Caller {
    uid_t user_id = kUnknownUser;
    pid_t process_id = 0;    ///< 0 if it is not known
    std::string bus_name{};  ///< the unique name on the bus
};

/// What is asked for, and by whom.
struct JobRequest {
    std::string operation;
    std::vector<ObjectPath> objects;  ///< what it is about
    std::string subject;              ///< the same in words
    std::string request_id{};         ///< empty if there is none
    Caller caller{};
};

enum class JobState { Queued, Running, Done, Failed, Cancelled };

struct JobError {
    std::string name;
    std::string message;
    bool cancelled = false;  ///< it ended so because it was to, whatever it had done until then
};

/// An instant by two clocks: the wall's, which is shown, and one that nobody sets, by which spans
/// are measured.
struct Moment {
    using Span = std::chrono::steady_clock::duration;

    std::chrono::system_clock::time_point wall;
    std::chrono::steady_clock::time_point steady;

    static Moment now() {
        return {std::chrono::system_clock::now(), std::chrono::steady_clock::now()};
    }
    Moment operator+(Span span) const {
        return {wall + std::chrono::duration_cast<std::chrono::system_clock::duration>(span),
                steady + span};
    }
    Span operator-(const Moment& earlier) const { return steady - earlier.steady; }
    bool operator==(const Moment& other) const = default;
};

struct Job {
    using Time = Moment;

    std::uint64_t number = 0;
    JobRequest request;
    JobState state = JobState::Queued;
    bool can_cancel = true;
    Amount amount;                  ///< a total of 0: not known
    std::uint64_t done_before = 0;  ///< of the amount, when it began
    Time requested;
    std::optional<Time> began;
    std::optional<Time> reported;  ///< when amount was
    std::optional<Time> ended;
    JobError error;
    std::vector<ObjectPath> results;  ///< objects that it made

    bool over() const { return ended.has_value(); }
    /// From 0 to 1; -1 if it is not known.
    double progress() const;
    /// Bytes a second until now; 0 if it moves none, or if it is not known.
    std::uint64_t rate() const;
    /// As things go; nothing if it is not known.
    std::optional<Time> expectedEnd() const;
};

class Jobs {
public:
    using Time = Job::Time;

    /// How many that are over are kept, and for how long.
    struct Limits {
        std::size_t count = 0;
        std::chrono::seconds age{0};
    };

    /// These must exist.
    const Job& add(JobRequest request, Time now);
    /// amount: what was done of it before.
    const Job& begin(std::uint64_t number, Time now, const Amount& amount = {});
    const Job& report(std::uint64_t number, const Amount& amount, bool can_cancel, Time now);
    /// An error with no name: it was done.
    const Job& end(std::uint64_t number, const JobError& error, std::vector<ObjectPath> results,
                   Time now);

    /// Null if it is not there.
    const Job* find(std::uint64_t number) const;
    const std::map<std::uint64_t, Job>& all() const { return jobs_; }
    /// How many ended in each of the states of jobs that are over, also of those that are
    /// forgotten.
    const std::map<JobState, std::uint64_t>& ended() const { return ended_; }
    /// Forgets what is beyond the limits, oldest first. Returns the numbers.
    std::vector<std::uint64_t> forgetOld(const Limits& limits, Time now);

private:
    std::map<std::uint64_t, Job> jobs_;
    std::map<JobState, std::uint64_t> ended_{
        {JobState::Done, 0}, {JobState::Failed, 0}, {JobState::Cancelled, 0}};
    std::uint64_t last_number_ = 0;
};

/// "queued", "running", "done", "failed", "cancelled".
std::string jobStateName(JobState state);

}  // namespace cowsnap

#endif
