// SPDX-License-Identifier: GPL-2.0-or-later
// Who may call what: every method as somebody who has no action, and as somebody who has one; and
// a polkit that is slow, wrong or not there.
#include <unistd.h>

#include <utility>

#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <catch2/catch.hpp>

#include <algorithm>
#include <chrono>
#include <future>
#include <set>
#include <thread>

#include "bus/permissions.h"
#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "fake_polkit.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

namespace tree = boost::property_tree;

const std::string kPrefix = "org.cowsnap1.";
const std::string kNotAuthorized = "org.cowsnap1.Error.NotAuthorized";
constexpr uid_t kNobody = 65534;

tree::ptree readXml(const char* path) {
    tree::ptree document;
    tree::read_xml(path, document);
    return document;
}

struct ContractMethod {
    std::string interface;
    std::string member;
    std::vector<std::string> types;  ///< of the arguments
};

/// The methods of proto/org.cowsnap1.xml, with what deletes the snapshot at the end.
std::vector<ContractMethod> contractMethods() {
    std::vector<ContractMethod> methods;
    const auto contract = readXml(COWSNAP_BUS_XML);
    for (const auto& [tag, interface] : contract.get_child("node")) {
        if (tag != "interface")
            continue;
        for (const auto& [kind, member] : interface) {
            if (kind != "method")
                continue;
            ContractMethod method{interface.get<std::string>("<xmlattr>.name"),
                                  member.get<std::string>("<xmlattr>.name"),
                                  {}};
            for (const auto& [argument_tag, argument] : member)
                if (argument_tag == "arg" &&
                    argument.get<std::string>("<xmlattr>.direction") == "in")
                    method.types.push_back(argument.get<std::string>("<xmlattr>.type"));
            methods.push_back(std::move(method));
        }
    }
    std::stable_partition(methods.begin(), methods.end(), [](const ContractMethod& method) {
        return method.interface != kPrefix + "Snapshot" || method.member != "Delete";
    });
    return methods;
}

std::string_view actionOf(const ContractMethod& method) {
    return neededActions().at({method.interface, method.member});
}

/// A store, an origin with a snapshot, and their jobs.
struct AuthorityBed : BusBed {
    explicit AuthorityBed(AuthoritySettings settings = {}) : BusBed(std::move(settings)) {}

    std::string store = createStore();
    std::string origin = attach("/dev/one", store);
    ObjectPath snapshot = createSnapshots({{{origin}, "a"}}).front();
    ObjectPath job = jobs().front();

    std::string pathOf(const std::string& interface) const {
        if (interface == kPrefix + "Store")
            return store;
        if (interface == kPrefix + "Origin")
            return origin;
        if (interface == kPrefix + "Snapshot")
            return snapshot.path;
        return interface == kPrefix + "Job" ? job.path : std::string(kRoot);
    }

    /// Arguments that have the right types and that may be refused for what they are.
    void appendArgument(Message& message, const std::string& type) const {
        if (type == "s")
            message.append(Value(std::string("b")));
        else if (type == "t")
            message.append(Value(std::uint64_t{1}));
        else if (type == "o")
            message.append(Value(ObjectPath{store}));
        else if (type == "as")
            message.append(Value(std::vector<std::string>{"/dev/spare"}));
        else if (type == "ao")
            message.append(Value(std::vector<ObjectPath>{}));
        else if (type == "a(os)")
            message.append(
                std::vector<std::pair<ObjectPath, std::string>>{{ObjectPath{origin}, "b"}});
        else
            FAIL("no argument is known of the type " << type);
    }

    CallFailure tryCall(const ContractMethod& method, const Dictionary& options = {}) {
        return failureOfCall(
            pathOf(method.interface), method.interface, method.member,
            [&](Message& message) {
                for (const auto& type : method.types)
                    if (type != "a{sv}")
                        appendArgument(message, type);
            },
            options);
    }

    std::shared_ptr<PendingCall> beginRename(const std::string& name) {
        return begin(snapshot.path, kPrefix + "Snapshot", "Rename",
                     [&](Message& message) { message.append(Value(name)); });
    }
    std::string name() {
        return std::get<std::string>(properties(snapshot.path, kPrefix + "Snapshot").at("Name"));
    }
};

/// Another client, that can go away.
struct OtherClient {
    Bus bus = Bus::openSystem();

    void rename(const ObjectPath& snapshot, const std::string& name) {
        Message message =
            bus.newMethodCall("org.cowsnap1", snapshot.path, kPrefix + "Snapshot", "Rename");
        message.append(Value(name));
        message.append(Dictionary{});
        bus.send(message);
        sd_bus_flush(bus.get());
    }
};

std::set<std::string> allActions() {
    std::set<std::string> actions;
    for (const auto& [method, action] : neededActions())
        if (action != kNoAction)
            actions.emplace(action);
    return actions;
}

AuthoritySettings quick() {
    AuthoritySettings settings;
    settings.time_limit = std::chrono::milliseconds(300);
    settings.interactive_time_limit = std::chrono::milliseconds(900);
    return settings;
}

}  // namespace

TEST_CASE("each method of the contract has its action, and each action is known to polkit") {
    std::set<std::pair<std::string, std::string>> in_contract;
    for (const auto& method : contractMethods())
        in_contract.emplace(method.interface, method.member);
    std::set<std::pair<std::string, std::string>> in_table;
    for (const auto& [method, action] : neededActions())
        in_table.insert(method);
    CHECK(in_table == in_contract);

    std::set<std::string> in_policy;
    const auto policy = readXml(COWSNAP_POLKIT_POLICY).get_child("policyconfig");
    CHECK(policy.get<std::string>("vendor") == "cowsnap");
    for (const auto& [tag, action] : policy) {
        if (tag != "action")
            continue;
        in_policy.insert(action.get<std::string>("<xmlattr>.id"));
        CHECK_FALSE(action.get<std::string>("description").empty());
        CHECK_THAT(action.get<std::string>("message"), Contains("Authentication is required"));
        for (const char* const who : {"allow_any", "allow_inactive", "allow_active"})
            CHECK(action.get<std::string>(std::string("defaults.") + who) == "auth_admin_keep");
    }
    CHECK(in_policy == allActions());
}

TEST_CASE("who has no action may only read") {
    AuthorityBed bed;
    std::unique_ptr<FakePolkit> polkit;
    SECTION("polkit grants nothing") {
        polkit = std::make_unique<FakePolkit>();
    }
    SECTION("there is no polkit") {}
    const auto messages = bed.machine.messages();
    const auto jobs = bed.jobs();
    bed.job = {std::string(kRoot) + "/job/1"};
    bed.callers_are_root = false;
    for (const auto& method : contractMethods()) {
        INFO(method.interface << "." << method.member);
        const std::string action(actionOf(method));
        const CallFailure failure = bed.tryCall(method);
        if (action.empty()) {
            CHECK(failure.name.empty());
        } else if (action == kActionCancelJob) {
            // It is a job of the same user.
            CHECK(failure.name == kPrefix + "Error.Failed");
        } else {
            CHECK(failure.name == kNotAuthorized);
            CHECK_THAT(
                failure.message,
                Contains(method.member + " needs the polkit action " + action) && Contains("sudo"));
        }
    }
    CHECK(bed.jobs() == jobs);
    CHECK(bed.machine.messages() == messages);
    CHECK(bed.name() == "a");
    CHECK_FALSE(bed.introspect(kRoot).empty());
}

TEST_CASE("no property can be set, by whomever") {
    AuthorityBed bed;
    FakePolkit polkit;
    SECTION("root") {}
    SECTION("somebody else") {
        bed.callers_are_root = false;
    }
    unsigned seen = 0;
    for (const std::string interface : {"Manager", "Store", "Origin", "Snapshot", "Job"})
        for (const auto& [name, value] :
             bed.properties(bed.pathOf(kPrefix + interface), kPrefix + interface)) {
            INFO(interface << "." << name);
            // The options that every method ends in are one argument too many here.
            Bus bus = Bus::openSystem();
            Message message = bus.newMethodCall("org.cowsnap1", bed.pathOf(kPrefix + interface),
                                                "org.freedesktop.DBus.Properties", "Set");
            message.append(Value(kPrefix + interface));
            message.append(Value(name));
            message.appendVariant(value);
            std::string error;
            try {
                bus.call(message, 10000000);
            } catch (const CallError& failure) {
                error = failure.name();
            }
            CHECK(error == "org.freedesktop.DBus.Error.PropertyReadOnly");
            ++seen;
        }
    CHECK(seen > 60);
}

TEST_CASE("who has one action may call the methods of that action and no others") {
    for (const std::string& granted : allActions()) {
        AuthorityBed bed;
        FakePolkit polkit;
        polkit.grant({granted});
        bed.callers_are_root = false;
        std::vector<std::string> asked;
        for (const auto& method : contractMethods()) {
            INFO(method.interface << "." << method.member << " with " << granted);
            const std::string action(actionOf(method));
            const bool own_job = action == kActionCancelJob;
            const CallFailure failure = bed.tryCall(method);
            CHECK((failure.name == kNotAuthorized) ==
                  (!action.empty() && !own_job && action != granted));
            if (!action.empty() && !own_job)
                asked.push_back(action);
        }
        std::vector<std::string> questions;
        for (const auto& question : polkit.questions()) {
            questions.push_back(question.action);
            CHECK_FALSE(question.interactive);
            CHECK_THAT(question.caller, Catch::StartsWith(":1."));
        }
        CHECK(questions == asked);
        // It was done, not only let through.
        const bool still_there = !bed.machine.snapshotIds().empty();
        CHECK(still_there == (granted != kActionDelete));
        if (granted == kActionModify)
            CHECK(bed.name() == "b");
        if (granted == kActionCreate)
            CHECK(bed.machine.snapshotIds().size() == 2);
    }
}

TEST_CASE("polkit is not asked about root") {
    AuthorityBed bed;
    FakePolkit polkit;
    CHECK(
        bed.failureOfCall(bed.snapshot.path, kPrefix + "Snapshot", "Delete", nullptr).name.empty());
    CHECK(polkit.questions().empty());
}

TEST_CASE("while polkit thinks all others are served, and its answer counts") {
    AuthorityBed bed;
    FakePolkit polkit;
    polkit.setAnswer(FakePolkit::Answer::Later);
    bed.callers_are_root = false;
    const auto rename = bed.beginRename("b");
    REQUIRE(polkit.waitForQuestions(1));
    bed.callers_are_root = true;
    CHECK(bed.createSnapshots({{{bed.origin}, "c"}}).size() == 1);
    CHECK(bed.jobs().size() == 4);
    CHECK(bed.name() == "a");
    CHECK_FALSE(rename->done);
    SECTION("it grants") {
        polkit.grant({std::string(kActionModify)});
        polkit.answerNow();
        bed.finish(*rename);
        CHECK(rename->failure.name.empty());
        CHECK(bed.name() == "b");
    }
    SECTION("it does not") {
        polkit.answerNow();
        bed.finish(*rename);
        CHECK(rename->failure.name == kNotAuthorized);
        CHECK(bed.name() == "a");
    }
    SECTION("what it is about is gone") {
        bed.call(bed.snapshot.path, kPrefix + "Snapshot", "Delete", nullptr);
        polkit.grant({std::string(kActionModify)});
        polkit.answerNow();
        bed.finish(*rename);
        CHECK(rename->failure.name == kPrefix + "Error.NotFound");
    }
}

TEST_CASE("a polkit that does not do its work has the call refused") {
    std::string cause;
    auto answer = FakePolkit::Answer::Later;
    AuthoritySettings settings;
    std::chrono::milliseconds at_least{0};
    SECTION("it answers with an error") {
        answer = FakePolkit::Answer::Error;
        cause = "it is tired";
    }
    SECTION("it answers something else") {
        answer = FakePolkit::Answer::WrongTypes;
        cause = "cannot be understood";
    }
    SECTION("it never answers: within the time limit") {
        cause = "gave no answer";
        settings = quick();
        at_least = settings.time_limit;
    }
    AuthorityBed bed(settings);
    auto polkit = std::make_unique<FakePolkit>();
    polkit->setAnswer(answer);
    polkit->grant(allActions());
    bed.callers_are_root = false;
    const auto began = std::chrono::steady_clock::now();
    const auto rename = bed.beginRename("b");
    bed.finish(*rename);
    const auto took = std::chrono::steady_clock::now() - began;
    CHECK(rename->failure.name == kNotAuthorized);
    CHECK_THAT(rename->failure.message,
               Contains("org.cowsnap1.modify") && Contains(cause) && Contains("sudo"));
    CHECK(took >= at_least);
    if (at_least.count() != 0) {
        REQUIRE(polkit->waitForCancelled(1));
        CHECK(polkit->cancelled().front() == polkit->questions().front().cancellation_id);
        // An answer that comes too late is none.
        polkit->answerNow();
    }
    polkit->setAnswer(FakePolkit::Answer::Grants);
    CHECK(bed.name() == "a");
    const auto again = bed.beginRename("b");
    bed.finish(*again);
    CHECK(again->failure.name.empty());
}

TEST_CASE("a polkit that goes away has the call refused, and one that comes is asked") {
    AuthorityBed bed;
    auto polkit = std::make_unique<FakePolkit>();
    polkit->setAnswer(FakePolkit::Answer::Later);
    bed.callers_are_root = false;
    const auto rename = bed.beginRename("b");
    REQUIRE(polkit->waitForQuestions(1));
    polkit.reset();
    bed.finish(*rename);
    CHECK(rename->failure.name == kNotAuthorized);
    CHECK_THAT(rename->failure.message, Contains("gave no answer"));
    const auto without = bed.beginRename("b");
    bed.finish(*without);
    CHECK_THAT(without->failure.message, Contains("polkit is not there"));
    CHECK(bed.name() == "a");
    polkit = std::make_unique<FakePolkit>();
    polkit->grant(allActions());
    const auto again = bed.beginRename("b");
    bed.finish(*again);
    CHECK(again->failure.name.empty());
}

TEST_CASE("a caller who leaves while polkit is asked gets nothing done") {
    AuthorityBed bed;
    FakePolkit polkit;
    polkit.grant(allActions());
    polkit.setAnswer(FakePolkit::Answer::Later);
    bed.callers_are_root = false;
    {
        OtherClient other;
        other.rename(bed.snapshot, "b");
        REQUIRE(polkit.waitForQuestions(1));
    }
    REQUIRE(polkit.waitForCancelled(1));
    CHECK(polkit.cancelled().front() == polkit.questions().front().cancellation_id);
    const auto jobs = bed.jobs();
    polkit.answerNow();
    // One that stays is served after it.
    const auto rename = bed.beginRename("c");
    REQUIRE(polkit.waitForQuestions(2));
    polkit.answerNow();
    bed.finish(*rename);
    CHECK(bed.name() == "c");
    CHECK(bed.jobs().size() == jobs.size() + 1);
}

TEST_CASE("a request id counts only for who may call") {
    AuthorityBed bed;
    FakePolkit polkit;
    const Dictionary id{{"request-id", std::string("one")}};
    bed.createSnapshots({{{bed.origin}, "b"}}, id);
    bed.callers_are_root = false;
    const ContractMethod create{kPrefix + "Manager", "CreateSnapshots", {"a(os)", "a{sv}"}};
    // The same call by the same user: its answer is known, and not given.
    CHECK(bed.tryCall(create, id).name == kNotAuthorized);
    // What was refused has not used up its id.
    const Dictionary other{{"request-id", std::string("two")}};
    const ContractMethod activate{kPrefix + "Snapshot", "Activate", {"a{sv}"}};
    CHECK(bed.tryCall(activate, other).name == kNotAuthorized);
    polkit.grant({std::string(kActionCreate)});
    CHECK(bed.tryCall(create, id).name.empty());
    CHECK(bed.tryCall(create, other).name == kPrefix + "Error.Exists");
    CHECK(bed.machine.snapshotIds().size() == 2);
}

TEST_CASE("polkit may ask a user for a password only if the call says so") {
    AuthorityBed bed;
    FakePolkit polkit;
    bed.callers_are_root = false;
    bed.finish(*bed.beginRename("b"));
    REQUIRE(polkit.questions().size() == 1);
    CHECK_FALSE(polkit.questions().back().interactive);
    const auto with_cli = [&] { return runCli({"delete", "a", "--yes"}); };
    SECTION("nobody can be asked") {
        polkit.setAnswer(FakePolkit::Answer::Challenge);
        const CliResult result = with_cli();
        CHECK(result.code == 4);
        CHECK_THAT(result.errors, Contains("org.cowsnap1.delete") &&
                                      Contains("no way to ask you") && Contains("sudo"));
    }
    SECTION("they do not want to be asked") {
        polkit.setAnswer(FakePolkit::Answer::Dismissed);
        const CliResult result = with_cli();
        CHECK(result.code == 4);
        CHECK_THAT(result.errors, Contains("dismissed") && Contains("try again"));
    }
    SECTION("it is not granted") {
        const CliResult result = with_cli();
        CHECK(result.code == 4);
        CHECK_THAT(result.errors, Contains("not granted to you"));
    }
    SECTION("it is granted") {
        polkit.grant({std::string(kActionDelete)});
        CHECK(with_cli().code == 0);
    }
    CHECK(polkit.questions().back().interactive);
}

TEST_CASE("there is an end to how much polkit is asked at a time") {
    AuthoritySettings settings;
    settings.checks_of_user = 3;
    AuthorityBed bed(settings);
    FakePolkit polkit;
    polkit.grant(allActions());
    polkit.setAnswer(FakePolkit::Answer::Later);
    bed.callers_are_root = false;
    std::vector<std::shared_ptr<PendingCall>> calls;
    for (const char* const name : {"b", "c", "d", "e"})
        calls.push_back(bed.beginRename(name));
    bed.finish(*calls.back());
    CHECK(calls.back()->failure.name == kPrefix + "Error.Busy");
    CHECK_THAT(calls.back()->failure.message, Contains("try again later"));
    REQUIRE(polkit.waitForQuestions(3));
    polkit.answerNow();
    for (const auto& call : calls)
        bed.finish(*call);
    CHECK(polkit.questions().size() == 3);
    CHECK(calls[2]->failure.name.empty());
    CHECK(bed.name() == "d");
}

TEST_CASE("64 calls of one user at once are all asked about") {
    AuthorityBed bed;
    FakePolkit polkit;
    polkit.grant(allActions());
    polkit.setAnswer(FakePolkit::Answer::Later);
    bed.callers_are_root = false;
    std::vector<std::shared_ptr<PendingCall>> calls;
    for (unsigned i = 0; i < 64; ++i)
        calls.push_back(bed.beginRename("name-" + std::to_string(i)));
    REQUIRE(polkit.waitForQuestions(64));
    polkit.answerNow();
    for (const auto& call : calls) {
        bed.finish(*call);
        CHECK(call->failure.name.empty());
    }
}

TEST_CASE("one's own job may be cancelled, those of others only with the action") {
    if (::geteuid() != 0) {
        WARN("not root: cannot become someone else");
        return;
    }
    AuthorityBed bed;
    FakePolkit polkit;
    polkit.grant({std::string(kActionCreate)});
    // What keeps the queue busy: a job of this user's.
    bed.machine.hold(COWSNAP_MESSAGE_CREATE);
    const auto slow = bed.beginCreate(bed.origin, "slow");
    REQUIRE(bed.machine.waitUntilHeld(1));
    bed.callers_are_root = false;
    const auto queued = bed.beginCreate(bed.origin, "own");
    REQUIRE(polkit.waitForQuestions(1));
    REQUIRE(bed.waitForJob({std::string(kRoot) + "/job/5"}, "State", Value(std::string("queued"))));
    auto of_nobody = std::async(std::launch::async, [] {
        return runCli({"create", "one", "--name", "theirs"}, kNobody);
    });
    const ObjectPath own{std::string(kRoot) + "/job/5"};
    const ObjectPath theirs{std::string(kRoot) + "/job/6"};
    REQUIRE(polkit.waitForQuestions(2));
    REQUIRE(bed.waitForJob(theirs, "UserId", Value(std::uint32_t{kNobody})));
    const auto cancel = [&](const ObjectPath& job) {
        return bed.failureOfCall(job.path, kPrefix + "Job", "Cancel", nullptr).name;
    };
    CHECK(cancel(theirs) == kNotAuthorized);
    const CliResult refused = runCli({"job", "cancel", "5"}, kNobody);
    CHECK(refused.code == 4);
    CHECK_THAT(refused.errors, Contains("org.cowsnap1.cancel-job"));
    CHECK(polkit.questions().size() == 4);
    CHECK(cancel(own).empty());
    CHECK(polkit.questions().size() == 4);
    SECTION("by who asked for it") {
        CHECK(runCli({"job", "cancel", "6"}, kNobody).code == 0);
        CHECK(polkit.questions().size() == 4);
    }
    SECTION("by who has the action") {
        polkit.grant({std::string(kActionCancelJob)});
        CHECK(cancel(theirs).empty());
        CHECK(polkit.questions().back().action == kActionCancelJob);
    }
    CHECK(of_nobody.get().code == 1);
    bed.finish(*queued);
    CHECK(queued->failure.name == kPrefix + "Error.Cancelled");
    bed.machine.letGo();
    bed.finish(*slow);
    CHECK(bed.machine.snapshotIds().size() == 2);
}

TEST_CASE("stopping what is copied back needs the action of a rollback, also of who began it") {
    AuthorityBed bed;
    FakePolkit polkit;
    bed.call(bed.snapshot.path, kPrefix + "Snapshot", "Rollback", nullptr);
    const ObjectPath copying = bed.jobs().back();
    REQUIRE(bed.jobProperties(copying).at("UserId") == Value(std::uint32_t{::geteuid()}));
    bed.callers_are_root = false;
    const auto cancel = [&] {
        return bed.failureOfCall(copying.path, kPrefix + "Job", "Cancel", nullptr).name;
    };
    polkit.grant({std::string(kActionCancelJob)});
    CHECK(cancel() == kNotAuthorized);
    CHECK(polkit.questions().back().action == kActionRollback);
    CHECK(bed.jobProperties(copying).at("State") == Value(std::string("running")));
    polkit.grant({std::string(kActionRollback)});
    CHECK(cancel().empty());
    CHECK(bed.jobProperties(copying).at("State") == Value(std::string("cancelled")));
}

TEST_CASE("a real user may do what polkit grants, and nothing else") {
    if (::geteuid() != 0) {
        WARN("not root: cannot become someone else");
        return;
    }
    AuthorityBed bed;
    FakePolkit polkit;
    polkit.grant({std::string(kActionCreate)});
    CHECK(runCli({"create", "one", "--name", "b"}, kNobody).code == 0);
    const CliResult refused = runCli({"delete", "a", "--yes"}, kNobody);
    CHECK(refused.code == 4);
    CHECK_THAT(refused.errors, Contains("Delete") && Contains("org.cowsnap1.delete"));
    CHECK(bed.machine.snapshotIds().size() == 2);
}
