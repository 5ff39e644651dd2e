// SPDX-License-Identifier: GPL-2.0-or-later
// Calls with a request id: one that comes again, because its caller does not know
// what became of it, is not done again. Knows nothing of what a call does.
#ifndef COWSNAP_DAEMON_BUS_REQUESTS_H
#define COWSNAP_DAEMON_BUS_REQUESTS_H

#include <sys/types.h>

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bus/message.h"
#include "bus/methods.h"

namespace cowsnap {

class Requests {
public:
    using Clock = std::chrono::steady_clock;
    /// Ids are each user's own.
    using Key = std::pair<uid_t, std::string>;

    /// What is to be done with a call.
    struct Verdict {
        enum class Action {
            Perform,  ///< it is new: perform it, then call finished()
            Wait,     ///< it is being performed: finished() will return it, if it waits
            Answer,   ///< it was performed: this is the answer
        };
        Action action = Action::Perform;
        std::optional<Answer> answer;
    };

    /// How many answers are remembered, and for how long.
    struct Limits {
        std::size_t count = 0;
        std::chrono::seconds age{0};
    };
    void setLimits(const Limits& limits) { limits_ = limits; }

    /// A call with an id has come, and waits for its answer or not. InvalidArgument if the id is
    /// that of another method or object or of other arguments, or is no id.
    Verdict begin(const Key& key, Message call, bool waits, Clock::time_point now);

    /// Whether a call with this id is being performed, or was and is remembered.
    bool knows(const Key& key) const { return requests_.contains(key); }

    /// The call was performed. Returns the calls that wait for the same. Only success is
    /// remembered: after an error the next call with the id tries again.
    std::vector<Message> finished(const Key& key, bool succeeded,
                                  const std::optional<Answer>& answer, Clock::time_point now);

private:
    struct Request {
        std::string what;
        std::size_t arguments = 0;  ///< a hash of them
        std::vector<Message> waiting;
        bool done = false;
        std::optional<Answer> answer;
        Clock::time_point finished;
    };

    void forgetOld(Clock::time_point now);
    /// For one more. Busy if all that are remembered are being performed.
    void makeRoom();

    std::map<Key, Request> requests_;
    Limits limits_;
};

}  // namespace cowsnap

#endif
