// SPDX-License-Identifier: GPL-2.0-or-later
// The D-Bus surface: the contract, methods, properties, signals, every error.
#include <unistd.h>

#include <utility>

#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>
#include <catch2/catch.hpp>

#include <algorithm>
#include <set>
#include <sstream>
#include <tuple>

#include "bus_bed.h"
#include "cowsnap_dm.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

/// Each method, property and signal of org.cowsnap1.*, with its annotations, as one line.
std::set<std::string> membersIn(const std::string& xml) {
    namespace tree = boost::property_tree;
    std::istringstream stream(xml);
    tree::ptree document;
    tree::read_xml(stream, document);
    std::set<std::string> members;
    for (const auto& [tag, interface] : document.get_child("node")) {
        if (tag != "interface")
            continue;
        const auto interface_name = interface.get<std::string>("<xmlattr>.name");
        if (!interface_name.starts_with("org.cowsnap1."))
            continue;
        for (const auto& [kind, member] : interface) {
            if (kind != "method" && kind != "signal" && kind != "property")
                continue;
            std::string line =
                interface_name + " " + kind + " " + member.get<std::string>("<xmlattr>.name");
            if (kind == "property")
                line += " " + member.get<std::string>("<xmlattr>.type") + " " +
                        member.get<std::string>("<xmlattr>.access");
            for (const auto& [part_tag, part] : member)
                if (part_tag == "arg")
                    line += " " + part.get<std::string>("<xmlattr>.name") + ":" +
                            part.get<std::string>("<xmlattr>.type") + ":" +
                            part.get<std::string>("<xmlattr>.direction", "");
                else if (part_tag == "annotation")
                    line += " " + part.get<std::string>("<xmlattr>.name") + "=" +
                            part.get<std::string>("<xmlattr>.value");
            members.insert(line);
        }
    }
    return members;
}

std::string textOf(const Dictionary& properties, const std::string& name) {
    return std::get<std::string>(properties.at(name));
}

}  // namespace

TEST_CASE("live introspection is what proto/org.cowsnap1.xml says") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const std::string snapshot = bed.createSnapshots({{{origin}, "a"}}).front().path;
    std::set<std::string> live;
    const std::string job = bed.jobs().front().path;
    for (const std::string& path : {std::string(kRoot), store, origin, snapshot, job})
        live.merge(membersIn(bed.introspect(path)));
    std::ifstream file(COWSNAP_BUS_XML);
    const std::string contract{std::istreambuf_iterator<char>(file),
                               std::istreambuf_iterator<char>()};
    const auto expected = membersIn(contract);
    for (const auto& line : expected)
        if (!live.contains(line))
            FAIL_CHECK("only in the contract: " << line);
    for (const auto& line : live)
        if (!expected.contains(line))
            FAIL_CHECK("only on the bus: " << line);
    for (const auto& line : expected)
        if (line.find(" method ") != std::string::npos)
            CHECK_THAT(line, Contains("options:a{sv}:in"));
}

TEST_CASE("objects come and go with signals, and the state is new before the answer") {
    BusBed bed;
    const std::string store = bed.createStore();
    bed.signalsUntil("InterfacesAdded");
    CHECK(textOf(bed.properties(store, kStore), "Name") == "main");
    CHECK(textOf(bed.properties(store, kStore), "State") == "active");
    CHECK(std::get<std::vector<std::string>>(bed.properties(store, kStore).at("Devices")) ==
          std::vector<std::string>{"/dev/store"});
    const std::string origin = bed.attach("/dev/one", store);
    bed.signalsUntil("InterfacesAdded");
    const Dictionary attached = bed.properties(origin, kOrigin);
    CHECK(textOf(attached, "Device") == "/dev/mapper/cowsnap-one");
    CHECK(textOf(attached, "BackingDevice") == "/dev/one");
    CHECK(textOf(attached, "Method") == "stacked");
    CHECK(std::get<ObjectPath>(attached.at("Store")).path == store);
    CHECK(std::get<std::uint64_t>(attached.at("SizeBytes")) == kOriginSectors * 512);
    const auto snapshot = bed.createSnapshots(
        {{{origin}, "a"}}, {{"writable", true}, {"description", std::string("d")}});
    const auto signals = bed.signalsUntil("InterfacesAdded");
    CHECK(std::any_of(signals.begin(), signals.end(), [&](const SeenSignal& signal) {
        return signal.member == "PropertiesChanged" && signal.path == origin;
    }));
    const Dictionary created = bed.properties(snapshot.front().path, kSnapshot);
    CHECK(textOf(created, "Description") == "d");
    CHECK(textOf(created, "Consistency") == "crash");
    CHECK(std::get<bool>(created.at("Writable")));
    CHECK(std::get<std::uint64_t>(created.at("UsedBytes")) == 2 * COWSNAP_BLOCK_BYTES);
    const auto say = [&](const char* method, const Value& value) {
        bed.call(snapshot.front().path, kSnapshot, method,
                 [&](Message& message) { message.append(value); });
        CHECK(bed.signalsUntil("PropertiesChanged").back().path == snapshot.front().path);
    };
    say("Rename", std::string("renamed"));
    say("SetDescription", std::string("other"));
    say("SetTags", std::vector<std::string>{"y", "x"});
    say("SetExpiry", std::uint64_t{7});
    say("Hold", std::string("backup"));
    const Dictionary said = bed.properties(snapshot.front().path, kSnapshot);
    CHECK(textOf(said, "Name") == "renamed");
    CHECK(textOf(said, "Description") == "other");
    CHECK(std::get<std::vector<std::string>>(said.at("Tags")) ==
          std::vector<std::string>{"x", "y"});
    CHECK(std::get<std::uint64_t>(said.at("Expires")) == 7);
    CHECK(std::get<std::vector<std::string>>(said.at("Holds")) ==
          std::vector<std::string>{"backup"});
    say("Release", std::string("backup"));
    say("Rename", std::string("a"));
    const std::string device =
        bed.call(snapshot.front().path, kSnapshot, "Activate", nullptr, {{"read_only", false}})
            .readString();
    CHECK(device == "/dev/mapper/cowsnap-snap-a");
    CHECK(textOf(bed.properties(snapshot.front().path, kSnapshot), "Device") == device);
    bed.call(snapshot.front().path, kSnapshot, "Deactivate", nullptr);
    bed.call(snapshot.front().path, kSnapshot, "Delete", nullptr);
    bed.signalsUntil("InterfacesRemoved");
    bed.call(origin, kOrigin, "Detach", nullptr);
    bed.signalsUntil("InterfacesRemoved");
    bed.call(store, kStore, "Extend", [](Message& message) {
        message.append(Value(std::vector<std::string>{"/dev/spare"}));
    });
    CHECK(std::get<std::vector<std::string>>(bed.properties(store, kStore).at("Devices")).size() ==
          2);
    bed.call(store, kStore, "Close", nullptr);
    bed.signalsUntil("InterfacesRemoved");
    const std::string opened =
        bed.call(kRoot, kManager, "OpenStore",
                 [](Message& message) {
                     message.append(Value(std::vector<std::string>{"/dev/store", "/dev/spare"}));
                 })
            .readObjectPath()
            .path;
    CHECK(opened == store);
}

TEST_CASE("what an operation changed is announced before its answer comes") {
    BusBed bed;
    const std::string origin = bed.attach("/dev/one", bed.createStore());
    // What is read until the answer comes is what was sent before it.
    const auto announced = [&](const PendingCall& call, const std::string& member,
                               const std::string& path, const std::string& object) {
        bed.finish(call);
        CHECK(call.failure.message == "");
        const auto& seen = bed.seen();
        INFO(member << " of " << path << object);
        CHECK(std::any_of(seen.begin(), seen.end(), [&](const SeenSignal& signal) {
            return signal.member == member && signal.path == path && signal.object == object;
        }));
    };
    bed.forgetSignals();
    const auto create = bed.beginCreate(origin, "a");
    announced(*create, "PropertiesChanged", origin, "");
    const std::string snapshot = Message(create->answer).readObjectPaths().front().path;
    announced(*create, "InterfacesAdded", kRoot, snapshot);
    bed.forgetSignals();
    announced(*bed.begin(snapshot, kSnapshot, "Rename",
                         [](Message& message) { message.append(Value(std::string("b"))); }),
              "PropertiesChanged", snapshot, "");
    bed.forgetSignals();
    announced(*bed.begin(snapshot, kSnapshot, "Delete", nullptr), "InterfacesRemoved", kRoot,
              snapshot);
}

TEST_CASE("a restarted daemon has the same objects") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const auto snapshots = bed.createSnapshots({{{origin}, "a"}});
    const Dictionary before = bed.properties(snapshots.front().path, kSnapshot);
    bed.stopDaemon();
    CHECK(bed.machine.mappedNames().size() == 3);
    SECTION("restart") {}
    SECTION("reboot") {
        bed.machine.reboot();
    }
    bed.startDaemon();
    CHECK(bed.properties(snapshots.front().path, kSnapshot) == before);
    CHECK(textOf(bed.properties(origin, kOrigin), "State") == "attached");
    CHECK(textOf(bed.properties(kRoot, kManager), "ModuleVersion") ==
          fmt::format("{}.{}.{}", COWSNAP_DM_VERSION_MAJOR, COWSNAP_DM_VERSION_MINOR,
                      COWSNAP_DM_VERSION_PATCH));
}

TEST_CASE("events of the kernel become signals, and dropped snapshots go") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const auto snapshots = bed.createSnapshots({{{origin}, "a"}});
    bed.machine.useSegments(50);
    bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
    CHECK(bed.signalsUntil("Event").back().path == store);
    CHECK(std::get<std::uint64_t>(bed.properties(store, kStore).at("UsedBytes")) == 50ULL << 20);
    bed.machine.useSegments(120);
    bed.machine.raise(COWSNAP_EVENT_LOW_WATER, 3);
    CHECK(bed.signalsUntil("SpaceWarning").back().path == store);
    bed.machine.drop(1);
    CHECK(bed.signalsUntil("SnapshotDropped").back().path == store);
    bed.signalsUntil("InterfacesRemoved");
    CHECK(bed.failureOfCall(snapshots.front().path, kSnapshot, "Delete", nullptr).name ==
          "org.cowsnap1.Error.NotFound");
}

TEST_CASE("each error has its name and a message that says what to do") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const auto snapshot = bed.createSnapshots({{{origin}, "a"}}).front();
    const auto create = [&](const std::string& device, const std::string& name,
                            const Dictionary& options = {}) {
        return bed.failureOfCall(
            kRoot, kManager, "CreateStore",
            [&](Message& message) {
                message.append(Value(std::vector<std::string>{device}));
                message.append(Value(name));
            },
            options);
    };
    const auto attach = [&](const std::string& device, const std::string& to) {
        return bed.failureOfCall(kRoot, kManager, "Attach", [&](Message& message) {
            message.append(Value(device));
            message.append(Value(ObjectPath{to}));
        });
    };
    const std::string prefix = "org.cowsnap1.Error.";
    const std::string nobody = "00000000_0000_0000_0000_000000000000";

    SECTION("InvalidArgument") {
        CHECK(create("/dev/spare", "a/b").name == prefix + "InvalidArgument");
        CHECK(create("/dev/spare", "x", {{"odd", true}}).name == prefix + "InvalidArgument");
        CHECK_THAT(create("/dev/spare", "x", {{"odd", true}}).message,
                   Contains("\"odd\" is unknown"));
        CHECK_THAT(create("/dev/spare", "x", {{"full_wait_ms", std::string("5")}}).message,
                   Contains("has the type s"));
        CHECK(attach("/dev/two", kRoot).name == prefix + "InvalidArgument");
        CHECK_THAT(bed.failureOfCall(kRoot, kManager, "Attach",
                                     [&](Message& message) {
                                         message.append(Value(std::string("/dev/two")));
                                         message.append(Value(ObjectPath{store}));
                                     },
                                     {{"method", std::string("glue")}})
                       .message,
                   Contains("auto, stack or interpose"));
        const auto set_policy = [&](const std::string& policy, const Dictionary& options = {}) {
            return bed.failureOfCall(
                origin, kOrigin, "SetBootPolicy",
                [&](Message& message) { message.append(Value(policy)); }, options);
        };
        CHECK_THAT(set_policy("fail-safe").message, Contains("fail-open or fail-closed"));
        CHECK(set_policy("").name == prefix + "InvalidArgument");
        CHECK(set_policy("fail-open", {{"odd", true}}).name == prefix + "InvalidArgument");
        CHECK(bed.properties(origin, kOrigin).at("BootPolicy") == Value(std::string("fail-open")));
        CHECK(set_policy("fail-closed").name.empty());
        CHECK(bed.properties(origin, kOrigin).at("BootPolicy") ==
              Value(std::string("fail-closed")));
        CHECK(bed.failureOfCall(kRoot, kManager, "DeleteSnapshots",
                                [&](Message& message) {
                                    message.append(Value(std::vector<ObjectPath>{{store}}));
                                })
                  .name == prefix + "InvalidArgument");
        for (const auto& [path, interface, method] :
             std::vector<std::tuple<std::string, const char*, const char*>>{
                 {origin, kOrigin, "Detach"},
                 {snapshot.path, kSnapshot, "Delete"},
                 {snapshot.path, kSnapshot, "Activate"},
                 {snapshot.path, kSnapshot, "Deactivate"},
                 {store, kStore, "Close"},
                 {kRoot, kManager, "Refresh"}})
            CHECK(bed.failureOfCall(path, interface, method, nullptr, {{"odd", true}}).name ==
                  prefix + "InvalidArgument");
        const auto prune = [&](const std::vector<ObjectPath>& origins, const Dictionary& options) {
            return bed.failureOfCall(
                kRoot, kManager, "Prune", [&](Message& message) { message.append(Value(origins)); },
                options);
        };
        CHECK_THAT(prune({}, {{"daily", std::uint64_t{0}}}).message, Contains("keep nothing"));
        CHECK_THAT(prune({}, {{"daily", std::string("7")}}).message, Contains("has the type s"));
        CHECK_THAT(prune({}, {{"minutely", std::uint64_t{7}}}).message, Contains("is unknown"));
        CHECK_THAT(prune({{store}}, {}).message, Contains("path of a origin"));
        CHECK(bed.machine.snapshotIds().size() == 1);
    }
    SECTION("NotFound") {
        CHECK(create("/dev/nothing", "x").name == prefix + "NotFound");
        CHECK(attach("/dev/two", std::string(kRoot) + "/store/" + nobody).name ==
              prefix + "NotFound");
    }
    SECTION("Exists") {
        CHECK(attach("/dev/one", store).name == prefix + "Exists");
    }
    SECTION("Busy") {
        CHECK(bed.failureOfCall(origin, kOrigin, "Detach", nullptr).name == prefix + "Busy");
        CHECK(bed.failureOfCall(store, kStore, "Close", nullptr).name == prefix + "Busy");
    }
    SECTION("Held") {
        const auto change = [&](const char* method) {
            return bed.failureOfCall(kRoot, kManager, method, [&](Message& message) {
                message.append(Value(std::vector<ObjectPath>{snapshot}));
                message.append(Value(std::string("backup")));
            });
        };
        CHECK(change("HoldSnapshots").name.empty());
        CHECK(change("HoldSnapshots").name == prefix + "Exists");
        const CallFailure refused = bed.failureOfCall(snapshot.path, kSnapshot, "Delete", nullptr);
        CHECK(refused.name == prefix + "Held");
        CHECK_THAT(refused.message, Contains("(backup)"));
        CHECK(change("ReleaseSnapshots").name.empty());
        CHECK(change("ReleaseSnapshots").name == prefix + "NotFound");
        CHECK(bed.failureOfCall(snapshot.path, kSnapshot, "Delete", nullptr).name.empty());
    }
    SECTION("NotSupported") {
        CHECK(create((bed.directory.path() / "bus.conf").string(), "x").name ==
              prefix + "NotSupported");
    }
    SECTION("NoSpace") {
        // The slots have 64 KiB: descriptions of 1 KiB fill them.
        const Dictionary options{{"description", std::string(1024, 'x')}};
        CallFailure failure;
        for (int i = 0; i < 100 && failure.name.empty(); ++i)
            failure = bed.failureOfCall(
                kRoot, kManager, "CreateSnapshots",
                [&](Message& message) {
                    message.append(std::vector<std::pair<ObjectPath, std::string>>{
                        {{origin}, "s" + std::to_string(i)}});
                },
                options);
        CHECK(failure.name == prefix + "NoSpace");
        CHECK_THAT(failure.message, Contains("delete snapshots"));
        CHECK(bed.failureOfCall(snapshot.path, kSnapshot, "Delete", nullptr).name.empty());
    }
    SECTION("Failed") {
        bed.machine.plan(Accident::Fail, 1);
        CHECK(bed.failureOfCall(kRoot, kManager, "CreateSnapshots",
                                [&](Message& message) {
                                    message.append(std::vector<std::pair<ObjectPath, std::string>>{
                                        {{origin}, "b"}});
                                })
                  .name == prefix + "Failed");
    }
    SECTION("MetadataCorrupt") {
        bed.stopDaemon();
        bed.machine.damageSlot(0);
        bed.machine.damageSlot(1);
        bed.startDaemon();
        CHECK(textOf(bed.properties(store, kStore), "State") == "unusable");
        CHECK_THAT(textOf(bed.properties(store, kStore), "Problem"),
                   Contains("both metadata slots"));
        CHECK(attach("/dev/two", store).name == prefix + "MetadataCorrupt");
        CHECK(runCli({"origin", "attach", "/dev/two"}).code == 8);
    }
    SECTION("wrong types in the call") {
        Message reply;
        CHECK(bed.failureOfCall(kRoot, kManager, "Attach",
                                [&](Message& message) { message.append(Value(true)); })
                  .name == "org.freedesktop.DBus.Error.InvalidArgs");
    }
}

TEST_CASE("text from outside that is no UTF-8 is told as far as it can be") {
    BusBed bed;
    const std::string store = bed.createStore();
    bed.machine.setUser("/dev/one", "open in caf\xe9, \xef\xbf\xbe");
    const CallFailure failure =
        bed.failureOfCall(kRoot, kManager, "Attach",
                          [&](Message& message) {
                              message.append(Value(std::string("/dev/one")));
                              message.append(Value(ObjectPath{store}));
                          },
                          {{"method", std::string("stack")}});
    CHECK(failure.name == "org.cowsnap1.Error.Busy");
    CHECK_THAT(failure.message, Contains("open in caf\xef\xbf\xbd, \xef\xbf\xbd: an origin"));
    // so is the job, and the daemon goes on
    CHECK(textOf(bed.jobProperties(bed.jobs().back()), "ErrorMessage") == failure.message);
    bed.machine.setUser("/dev/one", "");
    const std::string origin = bed.attach("/dev/one", store);
    // a problem that is a property
    bed.stopDaemon();
    bed.machine.reboot();
    bed.machine.setSerial("/dev/one", "\xff");
    bed.startDaemon();
    CHECK_THAT(textOf(bed.properties(origin, kOrigin), "Problem"),
               Contains("(\xef\xbf\xbd instead of one-serial)"));
}

TEST_CASE("a call that is repeated with its request id is not done again") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const Dictionary id{{"request-id", std::string("one")}};
    const auto first = bed.createSnapshots({{{origin}, "a"}}, id);
    CHECK(bed.createSnapshots({{{origin}, "a"}}, id) == first);
    CHECK(bed.machine.snapshotIds().size() == 1);
    // Without the id, or with another one, it is another request.
    const auto failure = [&](const Dictionary& options) {
        return bed.failureOfCall(
            kRoot, kManager, "CreateSnapshots",
            [&](Message& message) {
                message.append(std::vector<std::pair<ObjectPath, std::string>>{{{origin}, "a"}});
            },
            options);
    };
    CHECK_THAT(failure({}).name, Contains("Exists"));
    CHECK_THAT(failure({{"request-id", std::string("two")}}).name, Contains("Exists"));
    CHECK_THAT(failure({{"request-id", std::string()}}).name, Contains("InvalidArgument"));
    CHECK_THAT(failure({{"request-id", true}}).message, Contains("expected s"));
    CHECK_THAT(bed.failureOfCall(origin, kOrigin, "Detach", nullptr, id).message,
               Contains("CreateSnapshots"));
    // With other arguments it is no repetition, whatever their order and size.
    for (const auto& [members, more] :
         std::vector<std::pair<std::vector<std::pair<ObjectPath, std::string>>, Dictionary>>{
             {{{{origin}, "b"}}, {}},
             {{{{origin}, "a"}, {{origin}, "b"}}, {}},
             {{}, {}},
             {{{{origin}, "a"}}, {{"writable", true}}},
             {{{{origin}, "a"}}, {{"description", std::string("x")}}}}) {
        Dictionary options = id;
        options.insert(more.begin(), more.end());
        CHECK_THAT(bed.failureOfCall(
                          kRoot, kManager, "CreateSnapshots",
                          [&](Message& message) { message.append(members); }, options)
                       .message,
                   Contains("with other arguments"));
    }
    CHECK(bed.createSnapshots({{{origin}, "a"}}, id) == first);
    // Who waits for what was begun in the background asks for the same.
    Dictionary later{{"request-id", std::string("later")}, {"background", true}};
    CHECK(bed.createSnapshots({{{origin}, "later"}}, later).empty());
    later.erase("background");
    const auto begun = bed.createSnapshots({{{origin}, "later"}}, later);
    REQUIRE(begun.size() == 1);
    bed.call(begun.front().path, kSnapshot, "Delete", nullptr);
    // An error is not remembered.
    bed.machine.plan(Accident::Fail, 0);
    const Dictionary deletion{{"request-id", std::string("three")}};
    CHECK_FALSE(
        bed.failureOfCall(first[0].path, kSnapshot, "Delete", nullptr, deletion).name.empty());
    CHECK(bed.failureOfCall(first[0].path, kSnapshot, "Delete", nullptr, deletion).name.empty());
    CHECK(bed.machine.snapshotIds().empty());
}

TEST_CASE("what takes away its own object is not done again either, and then is not found") {
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const auto snapshot = bed.createSnapshots({{{origin}, "a"}}).front().path;
    for (const auto& [path, interface, member] :
         std::vector<std::tuple<std::string, const char*, const char*>>{
             {snapshot, kSnapshot, "Delete"},
             {origin, kOrigin, "Detach"},
             {store, kStore, "Close"}}) {
        INFO(member);
        const Dictionary id{{"request-id", std::string(member)}};
        const auto failure = [&](const Dictionary& options) {
            return bed.failureOfCall(path, interface, member, nullptr, options);
        };
        CHECK(failure(id).name.empty());
        const auto jobs = bed.jobs().size();
        CHECK(failure(id).name.empty());
        for (const Dictionary& other :
             {Dictionary{}, Dictionary{{"request-id", std::string("other")}},
              Dictionary{{"request-id", std::string(member)}, {"dry_run", true}}}) {
            const CallFailure gone = failure(other);
            CHECK(gone.name == "org.cowsnap1.Error.NotFound");
            CHECK_THAT(gone.message, Contains(path) && Contains("deleted"));
        }
        CHECK(bed.jobs().size() == jobs);
        // It is not shown any more, and has no properties.
        CHECK_THROWS_AS(bed.properties(path, interface), CallError);
        CHECK_THROWS_AS(bed.introspect(path), CallError);
    }
    // Nor is anything that never was there.
    CHECK(bed.failureOfCall("/org/cowsnap1/snapshot/none", kSnapshot, "Delete", nullptr).name ==
          "org.cowsnap1.Error.NotFound");
    CHECK(bed.failureOfCall("/org/cowsnap1/job/99", kJob, "Cancel", nullptr).name ==
          "org.cowsnap1.Error.NotFound");
}

TEST_CASE("a repeated call of what takes away its object waits for the first") {
    BusBed bed;
    const std::string origin = bed.attach("/dev/one", bed.createStore());
    const auto snapshot = bed.createSnapshots({{{origin}, "a"}}).front().path;
    CHECK(bed.callTogether(3, snapshot, kSnapshot, "Delete", nullptr,
                           {{"request-id", std::string("one")}}) ==
          std::vector<std::string>{"", "", ""});
}

TEST_CASE("a call that is repeated while the first is being done waits for it") {
    BusBed bed;
    const std::string origin = bed.attach("/dev/one", bed.createStore());
    const auto answers = bed.callTogether(
        2, kRoot, kManager, "CreateSnapshots",
        [&](Message& message) {
            message.append(std::vector<std::pair<ObjectPath, std::string>>{{{origin}, "a"}});
        },
        {{"request-id", std::string("one")}});
    CHECK(answers == std::vector<std::string>{"", ""});
    CHECK(bed.machine.snapshotIds().size() == 1);
    const auto both = bed.callTogether(
        2, kRoot, kManager, "CreateSnapshots",
        [&](Message& message) {
            message.append(std::vector<std::pair<ObjectPath, std::string>>{{{origin}, "a"}});
        },
        {{"request-id", std::string("two")}});
    const std::string exists = "org.cowsnap1.Error.Exists";
    CHECK(both == std::vector<std::string>{exists, exists});
}

TEST_CASE("without polkit only root may call, all may read") {
    constexpr uid_t nobody = 65534;
    if (::geteuid() != 0) {
        WARN("not root: cannot become someone else");
        return;
    }
    BusBed bed;
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    bed.createSnapshots({{{origin}, "a"}});
    for (const std::vector<std::string>& words :
         std::vector<std::vector<std::string>>{{"create", "one", "--name", "b"},
                                               {"delete", "a", "--yes"},
                                               {"activate", "a"},
                                               {"deactivate", "a"},
                                               {"rename", "a", "b"},
                                               {"hold", "backup", "a"},
                                               {"release", "backup", "a"},
                                               {"prune", "--keep", "last=1", "--yes"},
                                               {"prune", "--dry-run"},
                                               {"modify", "a", "--tag", "x"},
                                               {"modify", "a", "--description", "x"},
                                               {"modify", "a", "--expires", "1d"},
                                               {"origin", "attach", "/dev/two"},
                                               {"origin", "detach", "one", "--yes"},
                                               {"store", "create", "/dev/spare", "--name", "x"},
                                               {"store", "extend", "main", "/dev/spare"},
                                               {"store", "close", "main", "--yes"}}) {
        const CliResult result = runCli(words, nobody);
        INFO(words[0] << " " << words[1] << ": " << result.errors);
        CHECK(result.code == 4);
        CHECK_THAT(result.errors, Contains("only root may; try again as root, with sudo"));
    }
    const CliResult listed = runCli({"list", "--no-headings", "-o", "name"}, nobody);
    CHECK(listed.code == 0);
    CHECK(listed.output == "a\n");
    CHECK(bed.machine.snapshotIds().size() == 1);
}

TEST_CASE("a request that comes again is answered although no other is remembered") {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    bed.directory.write("cowsnapd.conf", R"({"request_ids": 1})");
    bed.call(kRoot, kManager, "Reload", nullptr);
    const auto create = [&] {
        return bed.createSnapshots({{origin, "a"}}, {{"request-id", std::string("x")}});
    };
    const auto created = create();
    CHECK(create() == created);
    CHECK(bed.machine.snapshotIds().size() == 1);
}
