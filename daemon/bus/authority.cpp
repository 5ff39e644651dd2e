// SPDX-License-Identifier: GPL-2.0-or-later
// CheckAuthorization and CancelCheckAuthorization of org.freedesktop.PolicyKit1.Authority, as
// polkit's reference describes them.
#include "bus/authority.h"

#include <spdlog/spdlog.h>

#include <algorithm>

namespace cowsnap {

namespace {

constexpr const char* kPolkitName = "org.freedesktop.PolicyKit1";
constexpr const char* kPolkitPath = "/org/freedesktop/PolicyKit1/Authority";
constexpr const char* kPolkitInterface = "org.freedesktop.PolicyKit1.Authority";
constexpr std::uint32_t kAllowUserInteraction = 1;

Message newPolkitCall(Bus& bus, const char* member) {
    return bus.newMethodCall(kPolkitName, kPolkitPath, kPolkitInterface, member);
}

std::string cancellationId(std::uint64_t id) {
    return fmt::format("cowsnapd-{}", id);
}

/// (bba{ss}): may they, could they if they were asked, details.
struct PolkitAnswer {
    bool authorized = false;
    bool challenge = false;
    bool dismissed = false;
};

PolkitAnswer readAnswer(Message& message) {
    PolkitAnswer answer;
    if (!message.enter('r', "bba{ss}"))
        fail(ErrorKind::InvalidArgument, "it is empty");
    answer.authorized = message.readBool();
    answer.challenge = message.readBool();
    if (!message.enter('a', "{ss}"))
        fail(ErrorKind::InvalidArgument, "it has no details");
    while (message.enter('e', "ss")) {
        const std::string key = message.readString();
        const std::string value = message.readString();
        answer.dismissed = answer.dismissed || (key == "polkit.dismissed" && !value.empty());
        message.exit();
    }
    message.exit();
    message.exit();
    return answer;
}

Error refusal(const std::string& what, const std::string& action, std::string_view cause,
              std::string_view advice) {
    return Error(ErrorKind::NotAuthorized,
                 fmt::format("{} needs the polkit action {}: {}; {}", what, action, cause, advice));
}

constexpr std::string_view kAsRoot = "try again as root, with sudo";

/// What it means for the caller; nothing: they may.
std::optional<Error> errorOf(const PolkitAnswer& answer, const std::string& what,
                             const std::string& action) {
    if (answer.authorized)
        return std::nullopt;
    if (answer.dismissed)
        return refusal(what, action, "the question for the password was dismissed",
                       "try again and answer it");
    if (answer.challenge)
        return refusal(what, action, "it asks for a password, and found no way to ask you for it",
                       kAsRoot);
    return refusal(what, action, "it is not granted to you",
                   "try again as root, with sudo, or have an administrator grant it to you");
}

/// The same if polkit did not answer as it should.
Error errorOf(const sd_bus_error& error, const std::string& what, const std::string& action) {
    const std::string name = error.name != nullptr ? error.name : "";
    if (name == SD_BUS_ERROR_SERVICE_UNKNOWN || name == SD_BUS_ERROR_NAME_HAS_NO_OWNER ||
        name.starts_with("org.freedesktop.DBus.Error.Spawn"))
        return refusal(what, action, "polkit is not there, so only root may", kAsRoot);
    const std::string text = error.message != nullptr ? error.message : name;
    spdlog::warn("polkit gave no answer whether {} is allowed: {}: {}", action, name, text);
    return refusal(what, action, fmt::format("polkit gave no answer ({})", text), kAsRoot);
}

}  // namespace

Authority::Authority(Bus& bus, AuthoritySettings settings)
    : bus_(bus), settings_(std::move(settings)) {}

void Authority::makeRoom(const Sender& sender) const {
    const auto same_user = [&](const auto& entry) {
        return entry.second->user_id == sender.user_id;
    };
    const auto of_user =
        static_cast<std::size_t>(std::count_if(checks_.begin(), checks_.end(), same_user));
    if (of_user >= settings_.checks_of_user || checks_.size() >= settings_.checks)
        fail(ErrorKind::Busy,
             "polkit is being asked about {} other calls, {} of them yours: try again later",
             checks_.size(), of_user);
}

void Authority::check(const Message& call, const Sender& sender, std::string_view action,
                      Then then) {
    if (action.empty() || settings_.is_root(sender)) {
        then(std::nullopt);
        return;
    }
    makeRoom(sender);
    auto check = std::make_unique<Check>();
    check->authority = this;
    check->id = ++last_id_;
    check->user_id = sender.user_id;
    check->action = action;
    check->what = call.member();
    check->then = std::move(then);
    ask(*check, call);
    checks_.emplace(check->id, std::move(check));
}

void Authority::ask(Check& check, const Message& call) {
    // Before polkit is asked: if they are gone already, polkit does not know them.
    check.caller = bus_.addMatchAsync(
        fmt::format("type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
                    "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg0='{}',arg2=''",
                    call.sender()),
        onCallerGone, &check);
    const bool interactive = call.allowsInteractiveAuthorization();
    Message question = newPolkitCall(bus_, "CheckAuthorization");
    question.open('r', "sa{sv}");
    question.append(Value(std::string("system-bus-name")));
    question.append(Dictionary{{"name", call.sender()}});
    question.close();
    question.append(Value(check.action));
    question.open('a', "{ss}");  // no details
    question.close();
    question.append(Value(interactive ? kAllowUserInteraction : 0U));
    question.append(Value(cancellationId(check.id)));
    check.answer = bus_.callAsync(
        question, interactive ? settings_.interactive_time_limit : settings_.time_limit, onAnswer,
        &check);
}

int Authority::onAnswer(sd_bus_message* message, void* userdata, sd_bus_error* /*error*/) {
    const auto& asked = *static_cast<Check*>(userdata);
    Authority& authority = *asked.authority;
    const auto check = std::move(authority.checks_.extract(asked.id).mapped());
    std::optional<Error> error;
    if (const sd_bus_error* const failure = sd_bus_message_get_error(message)) {
        error = errorOf(*failure, check->what, check->action);
        // A question that nobody waits for any more must not stay on a screen.
        if (sd_bus_error_has_name(failure, SD_BUS_ERROR_NO_REPLY) > 0)
            authority.cancel(check->id);
    } else {
        try {
            Message answer = Message::share(message);
            error = errorOf(readAnswer(answer), check->what, check->action);
        } catch (const Error& wrong) {
            spdlog::warn("polkit's answer cannot be understood: {}", wrong.what());
            error = refusal(check->what, check->action, "polkit's answer cannot be understood",
                            kAsRoot);
        }
    }
    check->then(error);
    return 1;
}

int Authority::onCallerGone(sd_bus_message* /*message*/, void* userdata, sd_bus_error* /*error*/) {
    const auto& asked = *static_cast<Check*>(userdata);
    Authority& authority = *asked.authority;
    const auto check = std::move(authority.checks_.extract(asked.id).mapped());
    authority.cancel(check->id);
    return 0;
}

void Authority::cancel(std::uint64_t id) {
    try {
        Message message = newPolkitCall(bus_, "CancelCheckAuthorization");
        message.append(Value(cancellationId(id)));
        message.setExpectReply(false);
        message.setAutoStart(false);
        bus_.send(message);
    } catch (const Error& error) {
        spdlog::warn("cannot tell polkit that a question is not needed any more: {}", error.what());
    }
}

}  // namespace cowsnap
