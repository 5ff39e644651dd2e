// SPDX-License-Identifier: GPL-2.0-or-later
// Remembering answers for a while.
#include "bus/requests.h"

#include <algorithm>
#include <functional>

#include "base/error.h"
#include "base/names.h"
#include "bus/options.h"

namespace cowsnap {

Requests::Verdict Requests::begin(const Key& key, Message call, bool waits, Clock::time_point now) {
    checkName(kRequestIdOption, key.second);
    forgetOld(now);
    if (!requests_.contains(key))
        makeRoom();
    const std::string what =
        fmt::format("{}.{} of {}", call.interface(), call.member(), call.path());
    // Whoever waits for a job that was begun in the background asks for the same.
    const auto arguments =
        std::hash<std::string>()(call.fingerprint({kRequestIdOption, kBackgroundOption}));
    const auto [found, is_new] = requests_.try_emplace(key);
    Request& request = found->second;
    if (is_new) {
        request.what = what;
        request.arguments = arguments;
        return {};
    }
    if (request.what != what)
        fail(ErrorKind::InvalidArgument,
             "the {} \"{}\" was given to {}: each request needs one of its own", kRequestIdOption,
             key.second, request.what);
    if (request.arguments != arguments)
        fail(
            ErrorKind::InvalidArgument,
            "the {} \"{}\" was given to {} with other arguments: each request needs one of its own",
            kRequestIdOption, key.second, request.what);
    if (request.done)
        return {Verdict::Action::Answer, request.answer};
    if (waits)
        request.waiting.push_back(call);
    return {Verdict::Action::Wait, std::nullopt};
}

std::vector<Message> Requests::finished(const Key& key, bool succeeded,
                                        const std::optional<Answer>& answer,
                                        Clock::time_point now) {
    const auto found = requests_.find(key);
    if (found == requests_.end())
        return {};
    Request& request = found->second;
    std::vector<Message> waiting = std::exchange(request.waiting, {});
    if (succeeded) {
        request.done = true;
        request.answer = answer;
        request.finished = now;
    } else {
        requests_.erase(found);
    }
    return waiting;
}

void Requests::forgetOld(Clock::time_point now) {
    std::erase_if(requests_, [&](const auto& entry) {
        return entry.second.done && now - entry.second.finished >= limits_.age;
    });
}

void Requests::makeRoom() {
    while (requests_.size() >= limits_.count) {
        auto oldest = requests_.end();
        for (auto request = requests_.begin(); request != requests_.end(); ++request)
            if (request->second.done &&
                (oldest == requests_.end() || request->second.finished < oldest->second.finished))
                oldest = request;
        if (oldest == requests_.end())
            fail(ErrorKind::Busy, "{} requests are being performed: try again later",
                 requests_.size());
        requests_.erase(oldest);
    }
}

}  // namespace cowsnap
