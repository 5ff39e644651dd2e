// SPDX-License-Identifier: GPL-2.0-or-later
// Runs in processes, see workers.hpp.
#include "workers.hpp"

#include <sys/mman.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <new>
#include <system_error>

namespace sim {

namespace {

// What a worker tells its parent; shared memory outlives the worker.
struct Report {
    Counts counts;
    std::uint64_t seed;  // under way, or the last one
    std::uint64_t steps_run;
    bool failed;
    char failure[200];
};

class Reports {
public:
    explicit Reports(std::size_t count) : bytes_(count * sizeof(Report)) {
        memory_ =
            ::mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        if (memory_ == MAP_FAILED) {
            throw std::system_error(errno, std::generic_category(), "mmap");
        }
    }
    ~Reports() { ::munmap(memory_, bytes_); }
    Reports(const Reports&) = delete;
    Reports& operator=(const Reports&) = delete;

    Report& operator[](std::size_t i) { return static_cast<Report*>(memory_)[i]; }

private:
    std::size_t bytes_;
    void* memory_;
};

template <typename Work>
pid_t start(Work work) {
    std::fflush(nullptr);
    const pid_t pid = ::fork();
    if (pid < 0) {
        throw std::system_error(errno, std::generic_category(), "fork");
    }
    if (pid == 0) {
        work();
        std::fflush(nullptr);
        ::_exit(EXIT_SUCCESS);
    }
    return pid;
}

// A run that does not end is killed (by SIGVTALRM), long after any other has ended.
void limit_cpu_time(int seconds) {
    const itimerval limit = {{0, 0}, {seconds, 0}};
    ::setitimer(ITIMER_VIRTUAL, &limit, nullptr);
}

// One run; true when it kept all promises.
bool run(std::uint64_t seed, const std::function<Counts(std::uint64_t)>& how, Report& report) {
    report.seed = seed;
    try {
        report.counts += how(seed);
        return true;
    } catch (const std::exception& error) {
        report.failed = true;
        std::strncpy(report.failure, error.what(), sizeof(report.failure) - 1);
        return false;
    }
}

std::string cause_of(int status) {
    return WIFSIGNALED(status) ? std::string("killed by ") + ::strsignal(WTERMSIG(status))
                               : "exit status " + std::to_string(WEXITSTATUS(status));
}

void print_failure(std::uint64_t seed, const std::string& cause, const Sweep& what) {
    std::printf("seed %llu fails: %s\n  sim --seed %llu %s\n",
                static_cast<unsigned long long>(seed), cause.c_str(),
                static_cast<unsigned long long>(seed), what.again.c_str());
    std::fflush(stdout);
}

}  // namespace

Outcome try_steps(std::uint64_t seed, const std::vector<std::uint64_t>& steps, Cuts cuts) {
    Reports reports(1);
    Report& report = reports[0];
    const pid_t pid = start([&] {
        // Assertions of many tries would fill the screen.
        if (!std::freopen("/dev/null", "w", stderr)) {
            ::_exit(EXIT_FAILURE);
        }
        limit_cpu_time(5);
        run(
            seed, [&](std::uint64_t) { return run_steps(seed, steps, cuts, &report.steps_run); },
            report);
    });
    int status = 0;
    ::waitpid(pid, &status, 0);
    if (report.failed) {
        return {report.failure, report.steps_run};
    }
    return {status ? cause_of(status) : std::string(), report.steps_run};
}

SweepResult sweep(const Sweep& what) {
    Reports reports(what.jobs);
    SweepResult result;
    const std::uint64_t end = what.first_seed + what.seeds;
    const auto work = [&](Report& report, std::uint64_t seed) {
        return start([&, seed] {
            for (std::uint64_t s = seed; s < end; s += what.jobs) {
                limit_cpu_time(300);
                if (!run(s, what.run, report)) {
                    return;
                }
            }
        });
    };
    std::vector<pid_t> workers;
    for (unsigned job = 0; job < what.jobs; ++job) {
        workers.push_back(work(reports[job], what.first_seed + job));
    }
    // A worker ends at its first failure; another one goes on behind it.
    for (std::size_t running = workers.size(); running;) {
        int status = 0;
        const pid_t pid = ::wait(&status);
        const auto found = std::find(workers.begin(), workers.end(), pid);
        if (found == workers.end()) {
            continue;
        }
        Report& report = reports[static_cast<std::size_t>(found - workers.begin())];
        if (!report.failed && !status) {
            --running;
            continue;
        }
        result.failed.push_back(report.seed);
        print_failure(report.seed, report.failed ? report.failure : cause_of(status), what);
        report.failed = false;
        *found = work(report, report.seed + what.jobs);
    }
    for (unsigned job = 0; job < what.jobs; ++job) {
        result.counts += reports[job].counts;
    }
    return result;
}

}  // namespace sim
