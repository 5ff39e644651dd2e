// SPDX-License-Identifier: GPL-2.0-or-later
// org.freedesktop.PolicyKit1.Authority, as far as the daemon uses it.
#include "fake_polkit.h"

#include <chrono>
#include <stdexcept>

namespace cowsnap::test {

namespace {

constexpr std::chrono::seconds kPatience{10};

template <typename Condition>
bool waitFor(const Condition& condition) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!condition()) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

}  // namespace

FakePolkit::FakePolkit() : bus_(Bus::openSystem()) {
    setAnswer(Answer::Grants);
    // Not a vtable: with that, sd-bus would send no answer that is wrong.
    sd_bus_slot* slot = nullptr;
    if (sd_bus_add_object(bus_.get(), &slot, "/org/freedesktop/PolicyKit1/Authority", onCall,
                          this) < 0)
        throw std::runtime_error("cannot add an object");
    slot_ = Slot(slot);
    bus_.requestName("org.freedesktop.PolicyKit1");
    thread_ = std::thread([this] { serve(); });
}

FakePolkit::~FakePolkit() {
    stopped_ = true;
    thread_.join();
}

void FakePolkit::grant(const std::set<std::string>& actions) {
    const std::lock_guard lock(mutex_);
    granted_ = actions;
}

void FakePolkit::setAnswer(Answer answer) {
    setAnswers([answer] { return answer; });
}

void FakePolkit::setAnswers(std::function<Answer()> next_answer) {
    const std::lock_guard lock(mutex_);
    next_answer_ = std::move(next_answer);
}

std::vector<PolkitQuestion> FakePolkit::questions() const {
    const std::lock_guard lock(mutex_);
    return questions_;
}

std::vector<std::string> FakePolkit::cancelled() const {
    const std::lock_guard lock(mutex_);
    return cancelled_;
}

bool FakePolkit::waitForQuestions(std::size_t count) const {
    return waitFor([&] { return questions().size() >= count; });
}

bool FakePolkit::waitForCancelled(std::size_t count) const {
    return waitFor([&] { return cancelled().size() >= count; });
}

void FakePolkit::serve() {
    constexpr std::uint64_t wait_us = 5000;
    while (!stopped_) {
        while (sd_bus_process(bus_.get(), nullptr) > 0) {
        }
        if (answer_now_.exchange(false))
            for (const auto& [question, action] : std::exchange(put_off_, {}))
                give(question, action, Answer::Grants);
        sd_bus_wait(bus_.get(), wait_us);
    }
}

int FakePolkit::onCall(sd_bus_message* message, void* userdata, sd_bus_error* /*error*/) {
    auto& polkit = *static_cast<FakePolkit*>(userdata);
    Message call = Message::share(message);
    if (call.interface() != "org.freedesktop.PolicyKit1.Authority")
        return 0;
    if (call.member() == "CheckAuthorization" && call.signature() == "(sa{sv})sa{ss}us")
        polkit.check(call);
    else if (call.member() == "CancelCheckAuthorization" && call.signature() == "s")
        polkit.cancel(call);
    else
        return 0;
    return 1;
}

void FakePolkit::check(Message question) {
    PolkitQuestion asked;
    question.enter('r', "sa{sv}");
    const std::string kind = question.readString();
    const Dictionary subject = question.readDictionary();
    question.exit();
    if (kind == "system-bus-name" && subject.contains("name"))
        asked.caller = std::get<std::string>(subject.at("name"));
    asked.action = question.readString();
    question.skip("a{ss}");
    std::uint32_t flags = 0;
    sd_bus_message_read_basic(question.get(), 'u', &flags);
    asked.interactive = (flags & 1) != 0;
    asked.cancellation_id = question.readString();
    Answer answer{};
    {
        const std::lock_guard lock(mutex_);
        answer = next_answer_();
        questions_.push_back(asked);
    }
    if (answer == Answer::Later)
        put_off_.push_back({question, asked.action});
    else
        give(question, asked.action, answer);
}

void FakePolkit::cancel(Message call) {
    {
        const std::lock_guard lock(mutex_);
        cancelled_.push_back(call.readString());
    }
    bus_.send(bus_.newMethodReturn(call));
}

void FakePolkit::give(const Message& question, const std::string& action, Answer answer) {
    if (answer == Answer::Error) {
        bus_.replyError(question, "org.freedesktop.PolicyKit1.Error.Failed", "it is tired");
        return;
    }
    Message reply = bus_.newMethodReturn(question);
    if (answer == Answer::WrongTypes) {
        reply.append(Value(std::string("yes")));
        bus_.send(reply);
        return;
    }
    bool granted = false;
    if (answer == Answer::Grants || answer == Answer::Later) {
        const std::lock_guard lock(mutex_);
        granted = granted_.contains(action);
    }
    reply.open('r', "bba{ss}");
    reply.append(Value(granted));
    reply.append(Value(answer == Answer::Challenge || answer == Answer::Dismissed));
    reply.open('a', "{ss}");
    if (answer == Answer::Dismissed) {
        reply.open('e', "ss");
        reply.append(Value(std::string("polkit.dismissed")));
        reply.append(Value(std::string("true")));
        reply.close();
    }
    reply.close();
    reply.close();
    bus_.send(reply);
}

}  // namespace cowsnap::test
