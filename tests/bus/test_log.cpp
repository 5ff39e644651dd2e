// SPDX-License-Identifier: GPL-2.0-or-later
// What the journal gets: the text, and fields to look for it by.
#include <sched.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>

#include <spdlog/spdlog.h>

#include <filesystem>
#include <thread>

#include "base/log_fields.h"
#include "bus_bed.h"
#include "cowsnap_dm.h"
#include "log/journal_sink.h"
#include "recorded_log.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

TEST_CASE("fields are those of the thread, and end with what has them") {
    CHECK(LogFields::current().empty());
    const LogFields outer({{"A", "1"}, {"B", "2"}});
    {
        const LogFields inner({{"B", "2"}, {"B", "3"}});
        CHECK(LogFields::current() == LogFields::Fields{{"A", "1"}, {"B", "2"}, {"B", "3"}});
        std::thread([] { CHECK(LogFields::current().empty()); }).join();
    }
    CHECK(LogFields::current() == LogFields::Fields{{"A", "1"}, {"B", "2"}});
}

TEST_CASE("what is logged has store, origin, snapshot and job as fields") {
    RecordedLog log;
    BusBed bed;
    const std::string store = bed.createStore();
    const ObjectPath origin{bed.attach("/dev/one", store)};
    const auto snapshot = bed.createSnapshots({{origin, "first"}}).front();

    const auto attached = log.with("attached /dev/one");
    REQUIRE(attached.size() == 1);
    CHECK(attached[0].one(kLogStore) == "main");
    CHECK(attached[0].one(kLogOrigin) == "one");
    CHECK(attached[0].one(kLogOperation) == "attach");
    CHECK(attached[0].one(kLogJob) == "2");
    CHECK(attached[0].one(kLogUserId) == std::to_string(::geteuid()));

    const auto created = log.with("created the snapshot");
    REQUIRE(created.size() == 1);
    CHECK(created[0].one(kLogSnapshot) == "first");
    CHECK(created[0].one(kLogOrigin) == "one");
    CHECK(created[0].one(kLogStoreUuid).size() == 36);
    CHECK(created[0].one(kLogJob) == "3");

    CHECK(bed.failureOfCall(
                 kRoot, kManager, "OpenStore",
                 [](Message& m) { m.append(Value(std::vector<std::string>{"/dev/no\nsuch"})); })
              .name == "org.cowsnap1.Error.NotFound");
    CHECK(bed.failureOfCall(
                 kRoot, kManager, "CreateSnapshots",
                 [&](Message& m) {
                     m.append(std::vector<std::pair<ObjectPath, std::string>>{{origin, "first"}});
                 })
              .name == "org.cowsnap1.Error.Exists");
    const auto failed = log.with(": failed: ");
    REQUIRE(failed.size() == 2);
    CHECK_THAT(failed[0].text, Contains("job 4: open-store") && Contains("/dev/no?such"));
    CHECK_THAT(failed[1].text, Contains("job 5: create") && Contains("already"));
    CHECK(failed[1].level == spdlog::level::info);
    CHECK(failed[1].one(kLogOperation) == "create");
    CHECK(failed[1].one(kLogJob) == "5");

    bed.call(snapshot.path, kSnapshot, "Delete", nullptr);
    const auto deleted = log.with("deleted the snapshot");
    REQUIRE(deleted.size() == 1);
    CHECK(deleted[0].one(kLogSnapshot) == "first");
    CHECK(deleted[0].one(kLogOperation) == "delete");
    // what nobody asked for has no job
    bed.machine.raise(COWSNAP_EVENT_DAMAGE, 1);
    bed.signalsUntil("Event");
    const auto event = log.with("damage was found");
    REQUIRE(event.size() == 1);
    CHECK(event[0].level == spdlog::level::warn);
    CHECK(event[0].one(kLogOrigin) == "one");
    CHECK(event[0].one(kLogStore) == "main");
    CHECK(event[0].all(kLogJob).empty());
}

TEST_CASE("each change is logged once, with who asked for it") {
    RecordedLog log;
    BusBed bed;
    bed.machine.addDisk("/dev/more", kStoreSectors, "more");
    const std::string store = bed.createStore();
    const std::string origin = bed.attach("/dev/one", store);
    const auto snapshot = bed.createSnapshots({{{origin}, "first"}}).front();
    const std::string root = kRoot;
    std::size_t seen = log.with("").size();
    /// A call whose job is this operation.
    const auto change = [&](const std::string& operation, const std::string& path,
                            const std::string& kind, const std::string& member,
                            const std::function<void(Message&)>& append,
                            const Dictionary& options = {}) {
        bed.call(path, "org.cowsnap1." + kind, member, append, options);
        const auto all = log.with("");
        std::vector<Logged> told;
        for (std::size_t i = seen; i < all.size(); ++i)
            if (all[i].level == spdlog::level::info && all[i].one(kLogOperation) == operation)
                told.push_back(all[i]);
        seen = all.size();
        INFO(operation);
        REQUIRE(told.size() == 1);
        INFO(told[0].text);
        CHECK(told[0].one(kLogStore) == "main");
        CHECK(told[0].one(kLogUserId) == std::to_string(::geteuid()));
        CHECK(told[0].one(kLogSender).starts_with(":"));
        CHECK_FALSE(told[0].one(kLogJob).empty());
        return told[0];
    };
    const auto text = [](const std::string& value) {
        return [value](Message& message) { message.append(Value(value)); };
    };
    const auto ofSnapshot = [&](const std::string& operation, const std::string& member,
                                const std::function<void(Message&)>& append) {
        const Logged told = change(operation, snapshot.path, "Snapshot", member, append);
        CHECK_FALSE(told.one(kLogSnapshot).empty());
        return told.text;
    };
    CHECK_THAT(ofSnapshot("hold", "Hold", text("backup")), Contains("held by backup"));
    CHECK_THAT(ofSnapshot("release", "Release", text("backup")), Contains("backup any more"));
    CHECK_THAT(ofSnapshot("rename", "Rename", text("second")), Contains("second was called first"));
    ofSnapshot("describe", "SetDescription", text("it"));
    ofSnapshot("tag", "SetTags", [](Message& m) {
        m.append(Value(std::vector<std::string>{"x", "y"}));
    });
    ofSnapshot("expire", "SetExpiry", [](Message& m) { m.append(Value(std::uint64_t{5})); });
    ofSnapshot("activate", "Activate", nullptr);
    ofSnapshot("deactivate", "Deactivate", nullptr);
    change("set-boot-policy", origin, "Origin", "SetBootPolicy", text("fail-closed"));
    bed.machine.setUser("/dev/mapper/cowsnap-one", "mounted on /one");
    CHECK_FALSE(
        change("rollback", snapshot.path, "Snapshot", "Rollback", nullptr, {{"schedule", true}})
            .one(kLogSnapshot)
            .empty());
    change("cancel-rollback", origin, "Origin", "CancelRollback", nullptr);
    bed.machine.setUser("/dev/mapper/cowsnap-one", "");
    ofSnapshot("delete", "Delete", nullptr);
    change("detach", origin, "Origin", "Detach", nullptr);
    const auto devices = [](const std::vector<std::string>& paths) {
        return [paths](Message& m) { m.append(Value(paths)); };
    };
    change("extend-store", store, "Store", "Extend", devices({"/dev/spare"}));
    change("set-autoextend", store, "Store", "SetAutoextend", nullptr,
           {{"spares", std::vector<std::string>{"/dev/more"}}});
    change("close-store", store, "Store", "Close", nullptr);
    change("open-store", root, "Manager", "OpenStore", devices({"/dev/store", "/dev/spare"}));

    // What is no job has who asked for it in its text as well.
    bed.call(root, kManager, "SetLogLevel", text("debug"));
    bed.call(root, kManager, "Reload", nullptr);
    const std::string who = fmt::format("asked for by the user {} (:", ::geteuid());
    for (const char* const member : {"SetLogLevel, ", "Reload, "}) {
        const auto told = log.with(member + who);
        REQUIRE(told.size() == 1);
        CHECK(told[0].level == spdlog::level::info);
        CHECK(told[0].one(kLogSender).starts_with(":"));
    }
    bed.callers_are_root = false;
    CHECK(bed.failureOfCall(root, kManager, "Reload", nullptr).name ==
          "org.cowsnap1.Error.NotAuthorized");
    const auto refused = log.with("Reload, " + who);
    REQUIRE(refused.size() == 2);
    CHECK(refused[1].level == spdlog::level::warn);
    CHECK_THAT(refused[1].text, Contains("was refused: Reload needs the polkit action"));
}

namespace {

/// In a process whose /run is its own: what a JournalSink sends to the journal, entries that are
/// separated by empty lines. Exits with 0.
[[noreturn]] void sendToOwnJournal(int result) {
    if (::unshare(CLONE_NEWNS) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("own", "/run", "tmpfs", 0, nullptr) != 0)
        ::_exit(77);
    std::filesystem::create_directories("/run/systemd/journal");
    const int journal = ::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    constexpr std::string_view path = "/run/systemd/journal/socket";
    path.copy(address.sun_path, path.size());
    if (::bind(journal, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
        ::_exit(1);
    spdlog::logger logger("test", std::make_shared<JournalSink>("some-program"));
    logger.set_level(spdlog::level::debug);
    const LogFields fields({{kLogStore, "main"}, {kLogSnapshot, "two\nlines"}});
    logger.warn("it is {} %", 90);
    logger.debug("in detail");
    for (int i = 0; i < 2; ++i) {
        std::string entry(65536, '\0');
        const auto size = ::recv(journal, entry.data(), entry.size(), 0);
        if (size <= 0 || ::write(result, entry.data(), static_cast<std::size_t>(size)) != size ||
            ::write(result, "\n", 1) != 1)
            ::_exit(1);
    }
    ::_exit(0);
}

}  // namespace

TEST_CASE("the journal gets text, priority and fields") {
    int ends[2];
    REQUIRE(::pipe(ends) == 0);
    const pid_t child = ::fork();
    if (child == 0)
        sendToOwnJournal(ends[1]);
    ::close(ends[1]);
    std::string received(65536, '\0');
    std::size_t size = 0;
    for (ssize_t got = 0;
         (got = ::read(ends[0], received.data() + size, received.size() - size)) > 0;)
        size += static_cast<std::size_t>(got);
    received.resize(size);
    ::close(ends[0]);
    int status = 0;
    ::waitpid(child, &status, 0);
    constexpr int cannot_mount = 77;
    if (WEXITSTATUS(status) == cannot_mount) {
        WARN("no right to mount: cannot have a journal of its own");
        return;
    }
    REQUIRE(status == 0);
    CHECK_THAT(received, Contains("MESSAGE=it is 90 %\n") && Contains("PRIORITY=4\n") &&
                             Contains("SYSLOG_IDENTIFIER=some-program\n") &&
                             Contains("COWSNAP_STORE=main\n"));
    // A value of several lines comes as the journal's protocol has it: name, length, bytes.
    CHECK_THAT(received,
               Contains(std::string("COWSNAP_SNAPSHOT\n\x09\0\0\0\0\0\0\0two\nlines\n", 35)));
    CHECK_THAT(received, Contains("MESSAGE=in detail\n") && Contains("PRIORITY=7\n"));
}
