// SPDX-License-Identifier: GPL-2.0-or-later
// The daemon as the command line sees it: its objects, looked up by what people
// call them, and its methods. Speaks D-Bus only.
#ifndef COWSNAP_CLI_CLIENT_H
#define COWSNAP_CLI_CLIENT_H

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "bus/bus.h"
#include "bus/value.h"
#include "cli/password_agent.h"

namespace cowsnap::cli {

inline constexpr const char* kBusName = "org.cowsnap1";
inline constexpr const char* kRootPath = "/org/cowsnap1";
inline constexpr const char* kManagerInterface = "org.cowsnap1.Manager";
inline constexpr const char* kStoreInterface = "org.cowsnap1.Store";
inline constexpr const char* kOriginInterface = "org.cowsnap1.Origin";
inline constexpr const char* kSnapshotInterface = "org.cowsnap1.Snapshot";
inline constexpr const char* kJobInterface = "org.cowsnap1.Job";

/// An object of the daemon's.
struct Object {
    std::string path;
    Dictionary properties;

    std::string text(const std::string& property) const;      ///< s or o
    std::uint64_t number(const std::string& property) const;  ///< t or u
    double real(const std::string& property) const;           ///< d
    bool flag(const std::string& property) const;
    std::vector<std::string> texts(const std::string& property) const;  ///< as
    std::vector<std::string> paths(const std::string& property) const;  ///< ao
};

/// All objects at one time.
struct Objects {
    std::vector<Object> stores;
    std::vector<Object> origins;
    std::vector<Object> snapshots;
    std::vector<Object> jobs;  ///< without Name, with Number

    const Object* at(const std::string& path) const;
    /// The name of the object at path; path itself if it is not there.
    std::string nameOf(const std::string& path) const;

    // These throw Failure (NotFound, or Usage if it is not clear which one is meant).

    /// By name or uuid. Empty: the only one.
    const Object& store(const std::string& wanted) const;
    /// By name, uuid, or the path of its device or of the device below it.
    const Object& origin(const std::string& wanted) const;
    /// The same; null if there is none.
    const Object* findOrigin(const std::string& wanted) const;
    /// By name, STORE/NAME, or uuid.
    const Object& snapshot(const std::string& wanted) const;
};

/// Whether a job has ended, in whatever way.
bool isOver(const Object& job);

/// How calls that are jobs are made.
struct CallMode {
    bool wait = true;      ///< false: they are only begun, see JobBegun
    bool dry_run = false;  ///< they are only checked, see JobChecked
    /// Told of a job again and again while it runs; nobody if it is null.
    std::function<void(const Object& job)> on_progress{};
};

/// A job was begun, and nobody waits for it. Thrown where else its answer would be returned.
struct JobBegun {
    std::optional<Object> job;  ///< nothing: it is over, and forgotten already
};

/// A job could be done, as far as the daemon can tell, and was not. Thrown where else its answer
/// would be returned.
struct JobChecked {
    std::string method;
    bool first_step = false;  ///< others would come after it
};

class Client {
public:
    /// Connects. Failure (NoDaemon) if there is no bus.
    Client();

    void setMode(CallMode mode) { mode_ = std::move(mode); }

    Objects objects();
    /// The same without jobs, for who wants no more: much less work for the bus.
    Objects listing();
    /// Asks the daemon to look at the kernel again, so that numbers are new. Only root may.
    void refresh();

    /// Calls a method that is a job; its arguments append() adds, the options are appended behind
    /// them. Waits without end as long as the daemon is there. If it goes away meanwhile the call
    /// is repeated, with the same request id, when it is back. JobBegun or JobChecked if that is
    /// the mode.
    Message callJob(const std::string& path, const std::string& interface,
                    const std::string& member, const std::function<void(Message&)>& append,
                    const Dictionary& options = {});
    /// Has the daemon check such a call: a Failure if it would refuse it. Nothing changes.
    void onlyCheck(const std::string& path, const std::string& interface, const std::string& member,
                   const std::function<void(Message&)>& append, Dictionary options);
    /// As callJob(), but waits for the end although the mode is not to: something else comes after
    /// it.
    Message callStep(const std::string& path, const std::string& interface,
                     const std::string& member, const std::function<void(Message&)>& append,
                     const Dictionary& options = {});
    /// Calls any other method.
    Message call(const std::string& path, const std::string& interface, const std::string& member,
                 const std::function<void(Message&)>& append, const Dictionary& options = {});

    /// Whether this unit of systemd is active; not if nobody can tell.
    bool isActive(const std::string& unit);

    /// By number or path. Failure (NotFound) if it is not there.
    Object job(const std::string& wanted);
    /// The same, when it is over.
    Object waitForJob(const std::string& wanted);

private:
    Message repeatCall(const std::string& path, const std::string& interface,
                       const std::string& member, const std::function<void(Message&)>& append,
                       const Dictionary& options);
    Message tryCall(const std::string& path, const std::string& interface,
                    const std::string& member, const std::function<void(Message&)>& append,
                    const Dictionary& options);
    Object propertiesOf(const std::string& job, std::uint64_t timeout_us);
    /// Nothing if it is not there, or not yet.
    std::optional<Object> jobOf(const std::string& request_id);
    /// Waits for the answer of a call, and tells meanwhile of the job that it began.
    Message follow(const Message& call, const std::string& request_id);
    void tellEnd(const std::optional<Object>& job, std::optional<Object> seen_before, bool done);
    bool waitForDaemon();
    /// The unique name that the daemon has on the bus; empty if it is not there.
    std::string daemonName();
    /// The same once the bus has started it, if it can. CallError if that fails.
    std::string startedDaemonName();

    Bus bus_;
    PasswordAgent agent_;
    CallMode mode_;
};

/// path, made absolute without following links.
std::string absolutePath(const std::string& path);

}  // namespace cowsnap::cli

#endif
