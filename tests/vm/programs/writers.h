// SPDX-License-Identifier: GPL-2.0-or-later
// Threads that write to devices all the time, and a record of what they did and when. Knows no
// snapshots.
#ifndef COWSNAP_VM_WRITERS_H
#define COWSNAP_VM_WRITERS_H

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "device.h"
#include "stamps.h"

namespace vmtest {

/// Numbers for events in the order in which they happened, across all threads.
class Clock {
public:
    explicit Clock(std::uint64_t last) : next_(last + 1) {}
    std::uint64_t tick() { return next_.fetch_add(1); }

private:
    std::atomic<std::uint64_t> next_;
};

/// A write that has ended. It happened after the instant `issued` and before `ended`.
struct Write {
    std::uint64_t first = 0;
    Image contents;  ///< of its sectors afterwards
    std::uint64_t issued = 0;
    std::uint64_t ended = 0;
};

struct WriterOptions {
    unsigned writers = 2;
    bool discards = true;  ///< discard and write zeros, too
    std::uint64_t seed = 1;
    std::uint32_t alignment = 1;  ///< sectors that all writes are multiples of
};

/// Writers share all sectors among them, so that each knows what its own hold; blocks at the
/// borders are shared.
class Writers {
public:
    Writers(Devices& devices, Clock& clock, const WriterOptions& options);
    ~Writers();
    Writers(const Writers&) = delete;
    Writers& operator=(const Writers&) = delete;

    /// They may write without a limit, or only what they are allowed.
    void setFree(bool free);
    /// They may do so many writes more.
    void allow(std::uint64_t writes);
    /// Until they have used what they were allowed; throws what a write has failed with.
    void waitUntilSpent();
    /// For each writer its writes issued before @instant, in order, once they all have ended, those
    /// taken before left out.
    std::vector<std::vector<Write>> take(std::uint64_t instant);

private:
    struct Writer {
        std::mt19937_64 random;
        bool second_half = false;  ///< where the last write went
        std::deque<Write> done;
        std::uint64_t busy_since = 0;  ///< instant of issue of the write under way, 0: none
        std::thread thread;
    };
    void run(std::size_t index);
    Write choose(Writer& writer, std::size_t index);
    void perform(Writer& writer, Write& write);
    bool waitForPermission(Writer& writer, Write& write);
    void throwFailure();

    Devices& devices_;
    Clock& clock_;
    WriterOptions options_;
    std::mutex mutex_;  // all below
    std::condition_variable changed_;
    std::uint64_t allowed_ = 0;
    bool free_ = false;
    bool stopping_ = false;
    std::exception_ptr failure_;
    std::vector<std::unique_ptr<Writer>> writers_;
};

}  // namespace vmtest

#endif
