// SPDX-License-Identifier: GPL-2.0-or-later
// The list of jobs: states, progress, rate, expected end, and how long they are kept.
#include <catch2/catch.hpp>

#include "base/error.h"
#include "jobs/jobs.h"

using namespace cowsnap;

namespace {

const Job::Time kNow{std::chrono::system_clock::time_point(std::chrono::seconds(1'700'000'000)),
                     std::chrono::steady_clock::time_point(std::chrono::hours(1))};

/// As much later, on a machine whose clock has been set back meanwhile.
Job::Time laterSetBack(std::chrono::seconds seconds) {
    return {kNow.wall - std::chrono::hours(24), kNow.steady + seconds};
}

JobError cancelled() {
    return {Error(ErrorKind::Cancelled, "").busName(), "it was cancelled"};
}

}  // namespace

TEST_CASE("a job says how far it is, how fast, and when it will be done") {
    using std::chrono::seconds;
    Jobs jobs;
    const auto number = jobs.add({"rollback", {}, "one"}, kNow).number;
    const Job& job = *jobs.find(number);
    CHECK(job.state == JobState::Queued);
    CHECK(job.can_cancel);
    CHECK(job.progress() == -1);
    CHECK_FALSE(job.expectedEnd());
    jobs.begin(number, kNow + seconds(5));
    CHECK(job.state == JobState::Running);
    CHECK_FALSE(job.can_cancel);
    CHECK(job.began == kNow + seconds(5));
    jobs.report(number, {0, 1000, true}, true, kNow + seconds(5));
    CHECK(job.progress() == 0);
    CHECK(job.rate() == 0);
    CHECK_FALSE(job.expectedEnd());
    jobs.report(number, {250, 1000, true}, true, kNow + seconds(15));
    CHECK(job.can_cancel);
    CHECK(job.progress() == 0.25);
    CHECK(job.rate() == 25);
    CHECK(job.expectedEnd() == kNow + seconds(45));
    jobs.report(number, {1, 2, false}, false, kNow + seconds(15));
    CHECK(job.rate() == 0);  // steps are no bytes
    CHECK(job.expectedEnd() == kNow + seconds(25));
    jobs.end(number, {}, {{"/made"}}, kNow + seconds(20));
    CHECK(job.state == JobState::Done);
    CHECK(job.progress() == 1);
    CHECK_FALSE(job.can_cancel);
    CHECK_FALSE(job.expectedEnd());
    CHECK(job.results == std::vector<ObjectPath>{{"/made"}});
}

TEST_CASE("a job that did not succeed failed or was cancelled") {
    Jobs jobs;
    const auto failed = jobs.add({"create", {}, "a"}, kNow).number;
    const auto given_up = jobs.add({"create", {}, "b"}, kNow).number;
    CHECK(jobs.end(failed, {"org.cowsnap1.Error.Busy", "why"}, {}, kNow).state == JobState::Failed);
    CHECK(jobs.find(failed)->error.message == "why");
    CHECK(jobs.end(given_up, cancelled(), {}, kNow).state == JobState::Cancelled);
}

TEST_CASE("jobs that are over are forgotten, the oldest first, and no others") {
    using std::chrono::seconds;
    Jobs jobs;
    for (int i = 0; i < 6; ++i)
        jobs.add({"create", {}, ""}, kNow);
    // In another order than they were asked for; 3 and 6 are not over.
    jobs.end(5, {}, {}, kNow + seconds(1));
    jobs.end(1, {}, {}, kNow + seconds(2));
    jobs.end(4, {}, {}, kNow + seconds(3));
    jobs.end(2, {}, {}, kNow + seconds(4));
    Jobs::Limits limits;
    limits.count = 3;
    limits.age = seconds(100);
    CHECK(jobs.forgetOld(limits, kNow + seconds(5)) == std::vector<std::uint64_t>{5});
    CHECK(jobs.forgetOld(limits, kNow + seconds(5)).empty());
    CHECK(jobs.forgetOld(limits, kNow + seconds(103)) == std::vector<std::uint64_t>{1, 4});
    CHECK(jobs.find(2) != nullptr);
    CHECK(jobs.forgetOld(limits, kNow + seconds(1000)) == std::vector<std::uint64_t>{2});
    CHECK(jobs.all().size() == 2);
    // Numbers are not used again.
    CHECK(jobs.add({"create", {}, ""}, kNow).number == 7);
}

TEST_CASE("a clock that is set changes what is shown, not how long something takes") {
    using std::chrono::seconds;
    Jobs jobs;
    const auto number = jobs.add({"rollback", {}, "one"}, kNow).number;
    jobs.begin(number, kNow);
    jobs.report(number, {250, 1000, true}, true, laterSetBack(seconds(10)));
    const Job& job = *jobs.find(number);
    CHECK(job.rate() == 25);
    CHECK(job.expectedEnd() == kNow + seconds(40));
    jobs.end(number, {}, {}, laterSetBack(seconds(20)));
    const Jobs::Limits limits{10, seconds(100)};
    CHECK(jobs.forgetOld(limits, kNow + seconds(119)).empty());
    CHECK(jobs.forgetOld(limits, kNow + seconds(120)) == std::vector<std::uint64_t>{number});
}
