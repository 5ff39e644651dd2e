// SPDX-License-Identifier: GPL-2.0-or-later
// Starting dbus-daemon and snapd-cli, and the daemon in a thread.
#include "bus_bed.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/post.hpp>

#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <future>
#include <stdexcept>

#include "base/file_descriptor.h"

namespace cowsnap::test {

namespace {

constexpr std::uint64_t kCallTimeoutUs = 20ULL * 1000 * 1000;
constexpr std::chrono::seconds kPatience{10};

std::string readFile(const std::filesystem::path& path) {
    std::ifstream file(path);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

/// Whether somebody listens there: the file of a socket is there a moment before that.
bool accepts(const std::string& socket_path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    socket_path.copy(static_cast<char*>(address.sun_path), sizeof(address.sun_path) - 1);
    const FileDescriptor client(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    return client && ::connect(client.get(), reinterpret_cast<const sockaddr*>(&address),
                               sizeof(address)) == 0;
}

/// In a child: becomes the program, or ends.
[[noreturn]] void becomeProgram(const std::vector<std::string>& words) {
    std::vector<std::string> copies = words;
    std::vector<char*> arguments;
    for (auto& word : copies)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    ::execvp(arguments.front(), arguments.data());
    ::_exit(127);
}

}  // namespace

PrivateBus::PrivateBus(const TemporaryDirectory& directory, std::chrono::milliseconds reply_limit) {
    const std::string limit =
        reply_limit.count() == 0
            ? ""
            : "<limit name=\"reply_timeout\">" + std::to_string(reply_limit.count()) + "</limit>";
    const std::string socket = (directory.path() / "bus").string();
    // The real policy file, but for who may own the name when the tests do not run as a system
    // service.
    directory.write(
        "bus.conf",
        "<!DOCTYPE busconfig PUBLIC \"-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN\" "
        "\"http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd\">\n"
        "<busconfig><type>system</type><listen>unix:path=" +
            socket +
            "</listen><auth>EXTERNAL</auth><policy context=\"default\"><allow user=\"*\"/>"
            "<deny own=\"*\"/><deny send_type=\"method_call\"/><allow send_type=\"signal\"/>"
            "<allow send_requested_reply=\"true\" send_type=\"method_return\"/>"
            "<allow send_requested_reply=\"true\" send_type=\"error\"/>"
            "<allow receive_type=\"method_call\"/><allow receive_type=\"method_return\"/>"
            "<allow receive_type=\"error\"/><allow receive_type=\"signal\"/>"
            "<allow send_destination=\"org.freedesktop.DBus\"/>"
            "<allow own=\"org.freedesktop.PolicyKit1\"/>"
            "<allow send_destination=\"org.freedesktop.PolicyKit1\"/></policy>" +
            limit + "<include>" COWSNAP_BUS_POLICY "</include></busconfig>\n");
    ::setenv("DBUS_SYSTEM_BUS_ADDRESS", ("unix:path=" + socket).c_str(), 1);
    process_ = ::fork();
    if (process_ == 0) {
        ::prctl(PR_SET_PDEATHSIG, SIGKILL);
        const int log =
            ::open((directory.path() / "bus.log").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (::dup2(log, 1) < 0 || ::dup2(log, 2) < 0)
            ::_exit(126);
        becomeProgram({"dbus-daemon", "--nofork", "--nopidfile",
                       "--config-file=" + (directory.path() / "bus.conf").string()});
    }
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!accepts(socket)) {
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error("dbus-daemon does not start");
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

PrivateBus::~PrivateBus() {
    ::kill(process_, SIGTERM);
    ::waitpid(process_, nullptr, 0);
}

CliResult runCli(const std::vector<std::string>& arguments, uid_t user_id) {
    const TemporaryDirectory directory;
    // Copied to where any user may run it.
    const std::string program = (directory.path() / "snapd-cli").string();
    if (user_id != 0)
        std::filesystem::copy_file(COWSNAP_CLI, program);
    std::vector<std::string> words{user_id != 0 ? program : std::string(COWSNAP_CLI)};
    words.insert(words.end(), arguments.begin(), arguments.end());
    return runProgram(words, user_id);
}

namespace {

/// Without copying this process, whose memory is the daemon's, too: that would be slow while it is
/// measured.
pid_t spawned(const std::vector<std::string>& words, const std::string& output,
              const std::string& errors) {
    constexpr int flags = O_WRONLY | O_CREAT | O_TRUNC;
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, output.c_str(), flags, 0644);
    ::posix_spawn_file_actions_addopen(&actions, 2, errors.c_str(), flags, 0644);
    std::vector<char*> arguments;
    for (const auto& word : words)
        arguments.push_back(const_cast<char*>(word.c_str()));
    arguments.push_back(nullptr);
    pid_t child = -1;
    const int error =
        ::posix_spawnp(&child, words.front().c_str(), &actions, nullptr, arguments.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0)
        throw std::runtime_error("cannot run " + words.front());
    return child;
}

pid_t forkedAs(uid_t user_id, const std::vector<std::string>& words, const std::string& output,
               const std::string& errors) {
    const pid_t child = ::fork();
    if (child == 0) {
        const int null = ::open("/dev/null", O_RDONLY);
        const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        const int err = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0)
            ::_exit(126);
        if (::setgid(user_id) != 0 || ::setuid(user_id) != 0)
            ::_exit(126);
        becomeProgram(words);
    }
    return child;
}

}  // namespace

CliResult runProgram(const std::vector<std::string>& words, uid_t user_id) {
    const TemporaryDirectory directory;
    const std::string output = (directory.path() / "out").string();
    const std::string errors = (directory.path() / "err").string();
    const pid_t child =
        user_id == 0 ? spawned(words, output, errors) : forkedAs(user_id, words, output, errors);
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, readFile(output), readFile(errors)};
}

BusBed::BusBed(AuthoritySettings authority, std::chrono::milliseconds reply_limit)
    : private_bus_(directory, reply_limit), authority_(std::move(authority)) {
    authority_.is_root = [this](const Sender& sender) {
        return callers_are_root && sender.user_id == ::geteuid();
    };
    machine.addDisk("/dev/store", kStoreSectors, "store-serial");
    machine.addDisk("/dev/spare", kStoreSectors, "spare-serial");
    machine.addDisk("/dev/one", kOriginSectors, "one-serial");
    machine.addDisk("/dev/two", kOriginSectors, "two-serial");
    startDaemon();
}

BusBed::~BusBed() {
    machine.letGo();  // or a test that failed would wait for ever
    stopDaemon();
}

void BusBed::startDaemon() {
    std::promise<std::string> ready;
    daemon_ = std::make_unique<Daemon>(machine, machine, machine, directory.path() / "state",
                                       directory.path() / "run", ConfigurationSource{configuration},
                                       authority_);
    thread_ = std::thread([this, &ready] {
        bool is_ready = false;
        const std::string failure = daemon_->run([&] {
            is_ready = true;
            ready.set_value({});
        });
        if (!is_ready)
            ready.set_value("the daemon does not start: " + failure);
    });
    if (const std::string failure = ready.get_future().get(); !failure.empty()) {
        thread_.join();
        throw std::runtime_error(failure);
    }
    bus_ = std::make_unique<Bus>(Bus::openSystem());
    sd_bus_slot* slot = nullptr;
    const auto on_signal = [](sd_bus_message* message, void* userdata, sd_bus_error*) {
        Message signal = Message::share(message);
        SeenSignal seen{signal.path(), signal.interface(), signal.member()};
        if (seen.member.starts_with("Interfaces")) {
            seen.object = signal.readObjectPath().path;
            signal.rewind();
        }
        auto& bed = *static_cast<BusBed*>(userdata);
        const std::string of_jobs = std::string(kRoot) + "/job/";
        if (seen.path.starts_with(of_jobs) || seen.object.starts_with(of_jobs))
            bed.seen_of_jobs_.push_back(std::move(seen));
        else
            bed.seen_.push_back(std::move(seen));
        return 0;
    };
    if (sd_bus_match_signal(bus_->get(), &slot, "org.cowsnap1", nullptr, nullptr, nullptr,
                            on_signal, this) < 0)
        throw std::runtime_error("cannot match signals");
    match_ = Slot(slot);
}

void BusBed::reloadAsOnSignal() {
    boost::asio::post(daemon_->loop(), [this] { daemon_->reload(); });
}

void BusBed::silenceDaemon() {
    daemon_->stop();
}

void BusBed::stopDaemon() {
    if (!daemon_)
        return;
    daemon_->stop();
    thread_.join();
    daemon_.reset();
    match_ = Slot();
    bus_.reset();
}

Message BusBed::call(const std::string& path, const std::string& interface,
                     const std::string& member, const std::function<void(Message&)>& append,
                     const Dictionary& options) {
    Message message = bus_->newMethodCall("org.cowsnap1", path, interface, member);
    if (append)
        append(message);
    message.append(options);
    return bus_->call(message, kCallTimeoutUs);
}

CallFailure BusBed::failureOfCall(const std::string& path, const std::string& interface,
                                  const std::string& member,
                                  const std::function<void(Message&)>& append,
                                  const Dictionary& options) {
    try {
        call(path, interface, member, append, options);
    } catch (const CallError& error) {
        return {error.name(), error.what()};
    }
    return {};
}

std::shared_ptr<PendingCall> BusBed::begin(const std::string& path, const std::string& interface,
                                           const std::string& member,
                                           const std::function<void(Message&)>& append,
                                           const Dictionary& options) {
    Message message = bus_->newMethodCall("org.cowsnap1", path, interface, member);
    if (append)
        append(message);
    message.append(options);
    // sd-bus has a share in it until the answer comes.
    using Shared = std::shared_ptr<PendingCall>;
    auto shared = std::make_unique<Shared>(std::make_shared<PendingCall>());
    const auto on_reply = [](sd_bus_message* reply, void* userdata, sd_bus_error*) {
        PendingCall& call = **static_cast<Shared*>(userdata);
        call.done = true;
        call.answer = Message::share(reply);
        if (const sd_bus_error* const error = sd_bus_message_get_error(reply))
            call.failure = {error->name, error->message != nullptr ? error->message : ""};
        return 0;
    };
    sd_bus_slot* slot = nullptr;
    if (sd_bus_call_async(bus_->get(), &slot, message.get(), on_reply, shared.get(),
                          kCallTimeoutUs) < 0)
        throw std::runtime_error("cannot call");
    sd_bus_slot_set_destroy_callback(slot, [](void* userdata) {
        const std::unique_ptr<Shared> gone(static_cast<Shared*>(userdata));
    });
    sd_bus_slot_set_floating(slot, 1);
    sd_bus_slot_unref(slot);
    Shared result = *shared.release();
    if (sd_bus_flush(bus_->get()) < 0)
        throw std::runtime_error("cannot send");
    return result;
}

void BusBed::finish(const PendingCall& call) {
    while (!call.done) {
        const int done = sd_bus_process(bus_->get(), nullptr);
        if (done < 0)
            throw std::runtime_error("the connection is lost");
        if (done == 0)
            sd_bus_wait(bus_->get(), kCallTimeoutUs);
    }
}

std::shared_ptr<PendingCall> BusBed::beginCreate(const std::string& origin, const std::string& name,
                                                 const Dictionary& options) {
    return begin(
        kRoot, kManager, "CreateSnapshots",
        [&](Message& message) {
            message.append(std::vector<std::pair<ObjectPath, std::string>>{{{origin}, name}});
        },
        options);
}

std::vector<std::string> BusBed::callTogether(unsigned times, const std::string& path,
                                              const std::string& interface,
                                              const std::string& member,
                                              const std::function<void(Message&)>& append,
                                              const Dictionary& options) {
    std::vector<std::shared_ptr<PendingCall>> calls;
    for (unsigned i = 0; i < times; ++i)
        calls.push_back(begin(path, interface, member, append, options));
    std::vector<std::string> errors;
    for (const auto& call : calls) {
        finish(*call);
        errors.push_back(call->failure.name);
    }
    return errors;
}

std::string BusBed::createStore(const std::string& device, const std::string& name) {
    return call(kRoot, kManager, "CreateStore",
                [&](Message& message) {
                    message.append(Value(std::vector<std::string>{device}));
                    message.append(Value(name));
                })
        .readObjectPath()
        .path;
}

std::string BusBed::attach(const std::string& device, const std::string& store) {
    return call(kRoot, kManager, "Attach",
                [&](Message& message) {
                    message.append(Value(device));
                    message.append(Value(ObjectPath{store}));
                })
        .readObjectPath()
        .path;
}

std::vector<ObjectPath> BusBed::createSnapshots(
    const std::vector<std::pair<ObjectPath, std::string>>& members, const Dictionary& options) {
    return call(
               kRoot, kManager, "CreateSnapshots",
               [&](Message& message) { message.append(members); }, options)
        .readObjectPaths();
}

Dictionary BusBed::properties(const std::string& path, const std::string& interface) {
    Message message =
        bus_->newMethodCall("org.cowsnap1", path, "org.freedesktop.DBus.Properties", "GetAll");
    message.append(Value(interface));
    return bus_->call(message, kCallTimeoutUs).readKnown();
}

std::string BusBed::introspect(const std::string& path) {
    return bus_
        ->call(bus_->newMethodCall("org.cowsnap1", path, "org.freedesktop.DBus.Introspectable",
                                   "Introspect"),
               kCallTimeoutUs)
        .readString();
}

std::vector<SeenSignal> BusBed::signalsUntil(const std::string& member) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    for (;;) {
        for (std::size_t i = 0; i < seen_.size(); ++i) {
            if (seen_[i].member != member)
                continue;
            const auto end = seen_.begin() + static_cast<std::ptrdiff_t>(i) + 1;
            std::vector<SeenSignal> result(seen_.begin(), end);
            seen_.erase(seen_.begin(), end);
            return result;
        }
        const int done = sd_bus_process(bus_->get(), nullptr);
        if (done < 0)
            throw std::runtime_error("the connection is lost");
        if (done == 0) {
            constexpr std::uint64_t wait_us = 100000;
            sd_bus_wait(bus_->get(), wait_us);
        }
        if (std::chrono::steady_clock::now() > deadline)
            throw std::runtime_error("no signal " + member);
    }
}

void BusBed::forgetSignals() {
    takeJobSignals();
    seen_.clear();
}

std::vector<SeenSignal> BusBed::takeJobSignals() {
    while (sd_bus_process(bus_->get(), nullptr) > 0) {
    }
    return std::exchange(seen_of_jobs_, {});
}

std::vector<ObjectPath> BusBed::jobs(const Dictionary& options) {
    return call(kRoot, kManager, "ListJobs", nullptr, options).readObjectPaths();
}

Dictionary BusBed::jobProperties(const ObjectPath& job) {
    return properties(job.path, kJob);
}

bool BusBed::waitForJob(const ObjectPath& job, const std::string& property, const Value& value) {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (jobProperties(job).at(property) != value) {
        if (std::chrono::steady_clock::now() > deadline)
            return false;
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    return true;
}

}  // namespace cowsnap::test
