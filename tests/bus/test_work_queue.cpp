// SPDX-License-Identifier: GPL-2.0-or-later
// The work queue: what runs at the same time, and what one after the other.
#include <catch2/catch.hpp>

#include <chrono>
#include <condition_variable>
#include <mutex>
#include <string>
#include <vector>

#include "jobs/work_queue.h"

using namespace cowsnap;

namespace {

const Uuid kOne{Uuid::Bytes{1}};
const Uuid kTwo{Uuid::Bytes{2}};
const Uuid kThree{Uuid::Bytes{3}};

/// Notes what work does, and keeps some of it from ending.
class Notebook {
public:
    void note(const std::string& text) {
        const std::lock_guard lock(mutex_);
        notes_.push_back(text);
        changed_.notify_all();
    }
    /// Waits until something was noted; false if that takes too long.
    bool waitFor(const std::string& text) {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, std::chrono::seconds(10), [&] {
            return std::find(notes_.begin(), notes_.end(), text) != notes_.end();
        });
    }
    std::vector<std::string> notes() {
        const std::lock_guard lock(mutex_);
        return notes_;
    }
    /// Work that notes its name, and then waits until something else was noted, if it is told what.
    std::function<void()> work(const std::string& name, const std::string& until = {}) {
        return [this, name, until] {
            note(name);
            if (!until.empty())
                waitFor(until);
        };
    }

private:
    std::mutex mutex_;
    std::condition_variable changed_;
    std::vector<std::string> notes_;
};

}  // namespace

TEST_CASE("work about one store waits for each other, in order; about another one it does not") {
    Notebook notebook;
    WorkQueue queue;
    queue.add({kOne}, notebook.work("first", "go"));
    queue.add({kOne}, notebook.work("second"));
    queue.add({kTwo}, notebook.work("other"));
    CHECK(notebook.waitFor("other"));
    CHECK(notebook.waitFor("first"));
    CHECK_FALSE(notebook.notes().size() > 2);
    queue.add({kOne}, notebook.work("third"));
    notebook.note("go");
    CHECK(notebook.waitFor("third"));
    const auto notes = notebook.notes();
    CHECK(std::vector<std::string>(notes.end() - 3, notes.end()) ==
          std::vector<std::string>{"go", "second", "third"});
}

TEST_CASE("work about several stores waits for all of them and is not overtaken") {
    Notebook notebook;
    WorkQueue queue;
    queue.add({kOne}, notebook.work("first", "go"));
    queue.add({kOne, kTwo}, notebook.work("both"));
    queue.add({kTwo, kThree}, notebook.work("after both"));
    queue.add({kThree}, notebook.work("last"));
    CHECK(notebook.waitFor("first"));
    CHECK(notebook.notes() == std::vector<std::string>{"first"});
    notebook.note("go");
    CHECK(notebook.waitFor("last"));
    CHECK(notebook.notes() ==
          std::vector<std::string>{"first", "go", "both", "after both", "last"});
}

TEST_CASE("work is withdrawn until it begins") {
    Notebook notebook;
    WorkQueue queue;
    const auto first = queue.add({kOne}, notebook.work("first", "go"));
    const auto both = queue.add({kOne, kTwo}, notebook.work("both"));
    queue.add({kTwo}, notebook.work("two"));
    CHECK(notebook.waitFor("first"));
    CHECK_FALSE(queue.withdraw(first));
    CHECK(queue.withdraw(both));
    CHECK_FALSE(queue.withdraw(both));
    CHECK(notebook.waitFor("two"));  // it waited for what was withdrawn
    notebook.note("go");
    queue.stop();
    CHECK(notebook.notes() == std::vector<std::string>{"first", "two", "go"});
}

TEST_CASE("a queue that is stopped finishes what has begun, and nothing else") {
    Notebook notebook;
    WorkQueue queue;
    bool finished = false;
    queue.add({kOne}, [&] {
        notebook.work("first", "go")();
        finished = true;
    });
    queue.add({kOne}, notebook.work("second"));
    CHECK(notebook.waitFor("first"));
    notebook.note("go");
    // The second may have begun or not; what comes after has not.
    queue.stop();
    CHECK(finished);
    const auto count = notebook.notes().size();
    queue.add({kTwo}, notebook.work("late"));
    queue.stop();
    CHECK(notebook.notes().size() == count);
}
