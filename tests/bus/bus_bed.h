// SPDX-License-Identifier: GPL-2.0-or-later
// A private D-Bus with the whole daemon on a fake machine, and ways to call it:
// by D-Bus, and by running snapd-cli.
#ifndef COWSNAP_TESTS_BUS_BED_H
#define COWSNAP_TESTS_BUS_BED_H

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "bus/bus.h"
#include "daemon.h"
#include "engine_bed.h"
#include "fake_machine.h"
#include "temporary_directory.h"

namespace cowsnap::test {

/// The manager's object, and the interfaces, as proto/org.cowsnap1.xml has them.
inline constexpr const char* kRoot = "/org/cowsnap1";
inline constexpr const char* kManager = "org.cowsnap1.Manager";
inline constexpr const char* kStore = "org.cowsnap1.Store";
inline constexpr const char* kOrigin = "org.cowsnap1.Origin";
inline constexpr const char* kSnapshot = "org.cowsnap1.Snapshot";
inline constexpr const char* kJob = "org.cowsnap1.Job";

/// A dbus-daemon that takes the place of the system bus while it exists.
class PrivateBus {
public:
    /// With a reply_limit it answers itself what nobody answered so long; 0: it does not.
    explicit PrivateBus(const TemporaryDirectory& directory, std::chrono::milliseconds reply_limit);
    ~PrivateBus();
    PrivateBus(const PrivateBus&) = delete;
    PrivateBus& operator=(const PrivateBus&) = delete;

private:
    pid_t process_ = 0;
};

struct CliResult {
    int code = -1;
    std::string output;
    std::string errors;
};

/// Runs snapd-cli without a terminal, as this user or as another one.
CliResult runCli(const std::vector<std::string>& arguments, uid_t user_id = 0);
/// The same with any program.
CliResult runProgram(const std::vector<std::string>& words, uid_t user_id = 0);

/// The name and message of the error that a call gives; empty if it succeeds.
struct CallFailure {
    std::string name;
    std::string message;
};

/// A signal that was seen.
struct SeenSignal {
    std::string path;
    std::string interface;
    std::string member;
    std::string object{};  ///< of InterfacesAdded and InterfacesRemoved
};

/// A call that may not be answered yet.
struct PendingCall {
    bool done = false;
    CallFailure failure;
    Message answer;
};

class BusBed {
public:
    /// With what the authority goes by, but for who is root: callers_are_root says that; and the
    /// reply_limit of the bus.
    explicit BusBed(AuthoritySettings authority = {}, std::chrono::milliseconds reply_limit = {});
    ~BusBed();
    BusBed(const BusBed&) = delete;
    BusBed& operator=(const BusBed&) = delete;

    void startDaemon();
    /// It is told to stop: it takes no calls any more, and finishes and answers what it began.
    void silenceDaemon();
    void stopDaemon();
    /// As the daemon does on SIGHUP.
    void reloadAsOnSignal();

    Message call(const std::string& path, const std::string& interface, const std::string& member,
                 const std::function<void(Message&)>& append, const Dictionary& options = {});
    CallFailure failureOfCall(const std::string& path, const std::string& interface,
                              const std::string& member,
                              const std::function<void(Message&)>& append,
                              const Dictionary& options = {});

    /// Sends a call and does not wait for its answer.
    std::shared_ptr<PendingCall> begin(const std::string& path, const std::string& interface,
                                       const std::string& member,
                                       const std::function<void(Message&)>& append,
                                       const Dictionary& options = {});
    /// Waits for the answer.
    void finish(const PendingCall& call);
    std::shared_ptr<PendingCall> beginCreate(const std::string& origin, const std::string& name,
                                             const Dictionary& options = {});

    /// Sends the same call several times before it waits for an answer. The names of the errors.
    std::vector<std::string> callTogether(unsigned times, const std::string& path,
                                          const std::string& interface, const std::string& member,
                                          const std::function<void(Message&)>& append,
                                          const Dictionary& options);

    std::string createStore(const std::string& device = "/dev/store",
                            const std::string& name = "main");
    std::string attach(const std::string& device, const std::string& store);
    std::vector<ObjectPath> createSnapshots(
        const std::vector<std::pair<ObjectPath, std::string>>& members,
        const Dictionary& options = {});
    Dictionary properties(const std::string& path, const std::string& interface);
    std::string introspect(const std::string& path);

    /// The signals of the daemon's that came until one with this member, at most some seconds.
    /// Those of jobs, which come with each operation, are left out.
    std::vector<SeenSignal> signalsUntil(const std::string& member);
    /// Those that were read and not taken yet; nothing more is read.
    const std::vector<SeenSignal>& seen() const { return seen_; }
    /// All that came and were not taken yet are as if they had not been.
    void forgetSignals();
    /// Those of jobs that came and were not taken yet.
    std::vector<SeenSignal> takeJobSignals();
    std::vector<ObjectPath> jobs(const Dictionary& options = {});
    Dictionary jobProperties(const ObjectPath& job);
    /// Waits until a property of a job has this value; false if it takes too long.
    bool waitForJob(const ObjectPath& job, const std::string& property, const Value& value);

    FakeMachine machine;
    TemporaryDirectory directory;
    /// Whether callers with the user id of the daemon are taken for root.
    std::atomic<bool> callers_are_root{true};
    /// The daemon's file; it is there when a test writes it.
    const std::filesystem::path configuration = directory.path() / "cowsnapd.conf";

private:
    PrivateBus private_bus_;
    AuthoritySettings authority_;
    std::unique_ptr<Daemon> daemon_;
    std::thread thread_;
    std::unique_ptr<Bus> bus_;
    std::vector<SeenSignal> seen_;
    std::vector<SeenSignal> seen_of_jobs_;
    Slot match_;
};

}  // namespace cowsnap::test

#endif
