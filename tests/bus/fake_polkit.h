// SPDX-License-Identifier: GPL-2.0-or-later
// What takes the place of polkit on the private bus: it grants what a test says, when and as the
// test says, on a thread of its own.
#ifndef COWSNAP_TESTS_FAKE_POLKIT_H
#define COWSNAP_TESTS_FAKE_POLKIT_H

#include <systemd/sd-bus.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "bus/bus.h"

namespace cowsnap::test {

/// What it was asked.
struct PolkitQuestion {
    std::string caller;  ///< unique name on the bus
    std::string action;
    std::string cancellation_id;
    bool interactive = false;
};

class FakePolkit {
public:
    enum class Answer {
        Grants,     ///< whether the action is granted
        Challenge,  ///< the user would have to be asked
        Dismissed,  ///< the user did not want to be asked
        Error,
        WrongTypes,
        Later,  ///< as Grants, when answerNow() is called
    };

    FakePolkit();
    /// Leaves the bus.
    ~FakePolkit();
    FakePolkit(const FakePolkit&) = delete;
    FakePolkit& operator=(const FakePolkit&) = delete;

    void grant(const std::set<std::string>& actions);
    void setAnswer(Answer answer);
    /// Decides for each question; it is asked on this object's thread.
    void setAnswers(std::function<Answer()> next_answer);
    /// Gives the answers that were put off.
    void answerNow() { answer_now_ = true; }

    std::vector<PolkitQuestion> questions() const;
    /// Ids of checks.
    std::vector<std::string> cancelled() const;
    /// False if there are not so many after some seconds.
    bool waitForQuestions(std::size_t count) const;
    bool waitForCancelled(std::size_t count) const;

private:
    static int onCall(sd_bus_message* message, void* userdata, sd_bus_error* error);
    void check(Message question);
    void cancel(Message call);
    void serve();
    void give(const Message& question, const std::string& action, Answer answer);

    struct PutOff {
        Message question;
        std::string action;
    };

    Bus bus_;
    Slot slot_;
    std::vector<PutOff> put_off_;  ///< of the thread

    mutable std::mutex mutex_;
    std::set<std::string> granted_;
    std::function<Answer()> next_answer_;
    std::vector<PolkitQuestion> questions_;
    std::vector<std::string> cancelled_;

    std::atomic<bool> answer_now_{false};
    std::atomic<bool> stopped_{false};
    std::thread thread_;
};

}  // namespace cowsnap::test

#endif
