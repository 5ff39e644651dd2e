// SPDX-License-Identifier: GPL-2.0-or-later
// Calls, and finding objects by name.
#include "cli/client.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <filesystem>
#include <string_view>
#include <thread>

#include <fmt/format.h>

#include "base/error.h"
#include "base/sealed_file.h"
#include "base/uuid.h"
#include "cli/exit.h"
#include "cli/listing.h"

namespace cowsnap::cli {

namespace {

// What changes nothing is answered soon, but a machine can be busy.
constexpr std::uint64_t kTimeoutUs = 10ULL * 60 * 1000 * 1000;

// A job takes as long as it takes. The bus says so if the daemon goes.
constexpr auto kNoTimeLimit = std::chrono::microseconds::max();

// A look at a job is nothing that anyone waits for.
constexpr std::uint64_t kLookTimeoutUs = 2ULL * 1000 * 1000;

constexpr std::chrono::milliseconds kFirstPoll{5};
constexpr std::chrono::milliseconds kPollInterval{200};

constexpr const char* kRequestId = "request-id";
constexpr const char* kBackground = "background";

/// Whether no answer came: the daemon went, or someone on the way, such as the bus, did not want to
/// wait for it any longer.
bool isUnanswered(const std::string& error_name) {
    return error_name == "org.freedesktop.DBus.Error.NoReply" ||
           error_name == "org.freedesktop.DBus.Error.Timeout";
}

/// Whether an error says that no daemon is there.
bool isGone(const std::string& error_name) {
    return isUnanswered(error_name) || error_name == "org.freedesktop.DBus.Error.ServiceUnknown" ||
           error_name == "org.freedesktop.DBus.Error.NameHasNoOwner";
}

/// Whether polkit is not asked about a method.
bool isForAll(std::string_view member) {
    return member == "GetMetrics" || member == "ListJobs" || member == "ListSnapshots";
}

Bus connect() {
    try {
        return Bus::openSystem();
    } catch (const Error& error) {
        throw Failure(ExitCode::NoDaemon, "NoDaemon", error.what());
    }
}

Failure notFound(const std::string& message) {
    return Failure(ExitCode::NotFound, "NotFound", message);
}

/// Of a call that was repeated: ids of requests do not outlive the daemon.
Failure afterRestart(const Failure& failure) {
    Failure repeated(failure.code(), failure.name(),
                     fmt::format("{} (cowsnapd was restarted during the call, which may have been "
                                 "done before that)",
                                 failure.what()));
    repeated.setRepeated();
    return repeated;
}

Failure ambiguous(const std::string& message) {
    return Failure(ExitCode::Usage, "Usage", message);
}

bool samePath(const std::string& one, const std::string& other) {
    if (one.empty() || other.empty())
        return false;
    if (one == other)
        return true;
    // Many links lead to one device; std::filesystem::equivalent() does not compare devices.
    struct stat of_one {};
    struct stat of_other {};
    return ::stat(one.c_str(), &of_one) == 0 && ::stat(other.c_str(), &of_other) == 0 &&
           S_ISBLK(of_one.st_mode) && S_ISBLK(of_other.st_mode) &&
           of_one.st_rdev == of_other.st_rdev;
}

}  // namespace

std::string absolutePath(const std::string& path) {
    return std::filesystem::absolute(path).lexically_normal().string();
}

std::string Object::text(const std::string& property) const {
    const auto found = properties.find(property);
    if (found == properties.end())
        return {};
    if (const auto* text = std::get_if<std::string>(&found->second))
        return *text;
    if (const auto* object = std::get_if<ObjectPath>(&found->second))
        return object->path;
    return {};
}

std::uint64_t Object::number(const std::string& property) const {
    const auto found = properties.find(property);
    if (found == properties.end())
        return 0;
    if (const auto* number = std::get_if<std::uint64_t>(&found->second))
        return *number;
    if (const auto* number = std::get_if<std::uint32_t>(&found->second))
        return *number;
    return 0;
}

double Object::real(const std::string& property) const {
    const auto found = properties.find(property);
    const auto* const number =
        found == properties.end() ? nullptr : std::get_if<double>(&found->second);
    return number == nullptr ? 0 : *number;
}

bool Object::flag(const std::string& property) const {
    const auto found = properties.find(property);
    const bool* const flag =
        found == properties.end() ? nullptr : std::get_if<bool>(&found->second);
    return flag != nullptr && *flag;
}

std::vector<std::string> Object::texts(const std::string& property) const {
    const auto found = properties.find(property);
    const auto* const texts =
        found == properties.end() ? nullptr : std::get_if<std::vector<std::string>>(&found->second);
    return texts == nullptr ? std::vector<std::string>() : *texts;
}

std::vector<std::string> Object::paths(const std::string& property) const {
    const auto found = properties.find(property);
    const auto* const objects =
        found == properties.end() ? nullptr : std::get_if<std::vector<ObjectPath>>(&found->second);
    std::vector<std::string> result;
    if (objects != nullptr)
        for (const auto& object : *objects)
            result.push_back(object.path);
    return result;
}

const Object* Objects::at(const std::string& path) const {
    for (const auto* list : {&stores, &origins, &snapshots})
        for (const auto& object : *list)
            if (object.path == path)
                return &object;
    return nullptr;
}

std::string Objects::nameOf(const std::string& path) const {
    const Object* const object = at(path);
    return object != nullptr ? object->text("Name") : path;
}

const Object& Objects::store(const std::string& wanted) const {
    if (wanted.empty()) {
        if (stores.empty())
            throw notFound(
                "there is no store: make one with \"snapd-cli store create DEVICE --name NAME\"");
        if (stores.size() > 1) {
            std::string names;
            for (const auto& store : stores)
                names += (names.empty() ? "" : ", ") + store.text("Name");
            throw ambiguous("there are several stores (" + names + "): choose one with --store");
        }
        return stores.front();
    }
    const Object* found = nullptr;
    for (const auto& store : stores) {
        if (store.text("Name") != wanted && store.text("Uuid") != wanted)
            continue;
        if (found != nullptr)
            throw ambiguous(
                fmt::format("there are several stores named \"{}\": use one of the UUIDs "
                            "{}, {}",
                            wanted, found->text("Uuid"), store.text("Uuid")));
        found = &store;
    }
    if (found == nullptr)
        throw notFound("there is no store \"" + wanted +
                       "\": \"snapd-cli store list\" shows those that are open");
    return *found;
}

const Object* Objects::findOrigin(const std::string& wanted) const {
    const Object* found = nullptr;
    for (const auto& origin : origins) {
        const bool by_path =
            wanted.starts_with('/') && (samePath(origin.text("Device"), wanted) ||
                                        samePath(origin.text("BackingDevice"), wanted));
        if (!by_path && origin.text("Name") != wanted && origin.text("Uuid") != wanted)
            continue;
        if (found != nullptr)
            throw ambiguous(
                fmt::format("there are several origins \"{}\": use one of the UUIDs {} (in "
                            "the store {}), {} (in the store {})",
                            wanted, found->text("Uuid"), nameOf(found->text("Store")),
                            origin.text("Uuid"), nameOf(origin.text("Store"))));
        found = &origin;
    }
    return found;
}

const Object& Objects::origin(const std::string& wanted) const {
    const Object* const found = findOrigin(wanted);
    if (found == nullptr)
        throw notFound("there is no origin \"" + wanted +
                       "\": \"snapd-cli origin list\" shows those that are known");
    return *found;
}

const Object& Objects::snapshot(const std::string& wanted) const {
    const auto slash = wanted.find('/');  // no name holds one
    const std::string store_name =
        slash == std::string::npos ? std::string() : wanted.substr(0, slash);
    const std::string name = slash == std::string::npos ? wanted : wanted.substr(slash + 1);
    std::vector<const Object*> found;
    for (const auto& snapshot : snapshots)
        if ((snapshot.text("Name") == name || snapshot.text("Uuid") == name) &&
            (store_name.empty() || nameOf(snapshot.text("Store")) == store_name))
            found.push_back(&snapshot);
    if (found.empty())
        throw notFound("there is no snapshot \"" + wanted +
                       "\": \"snapd-cli list\" shows those that are there");
    if (found.size() == 1)
        return *found.front();
    std::string choices;
    for (const Object* const snapshot : found)
        choices += fmt::format("{}{} (of {} in the store {})", choices.empty() ? "" : ", ",
                               snapshot->text("Uuid"), nameOf(snapshot->text("Origin")),
                               nameOf(snapshot->text("Store")));
    throw ambiguous(
        fmt::format("there are several snapshots named \"{}\": write STORE/NAME, or "
                    "one of the UUIDs {}",
                    wanted, choices));
}

bool isOver(const Object& job) {
    const std::string state = job.text("State");
    return state != "queued" && state != "running";
}

namespace {

/// In the order in which they are shown.
void sort(Objects& objects) {
    const auto by_name = [](const Object& one, const Object& other) {
        return one.text("Name") < other.text("Name");
    };
    std::sort(objects.stores.begin(), objects.stores.end(), by_name);
    std::sort(objects.origins.begin(), objects.origins.end(), by_name);
    const auto by_age = [](const Object& one, const Object& other) {
        return std::pair(one.number("Created"), one.number("Id")) <
               std::pair(other.number("Created"), other.number("Id"));
    };
    // of many they come like that
    if (!std::is_sorted(objects.snapshots.begin(), objects.snapshots.end(), by_age))
        std::sort(objects.snapshots.begin(), objects.snapshots.end(), by_age);
    std::sort(objects.jobs.begin(), objects.jobs.end(), [](const Object& one, const Object& other) {
        return one.number("Number") < other.number("Number");
    });
}

/// The number that ends the path of a job.
std::uint64_t jobNumber(const std::string& path) {
    std::uint64_t number = 0;
    const auto slash = path.rfind('/') + 1;
    std::from_chars(path.data() + slash, path.data() + path.size(), number);
    return number;
}

}  // namespace

Client::Client() : bus_(connect()) {}

Message Client::tryCall(const std::string& path, const std::string& interface,
                        const std::string& member, const std::function<void(Message&)>& append,
                        const Dictionary& options) {
    Message message = bus_.newMethodCall(kBusName, path, interface, member);
    if (append)
        append(message);
    message.append(options);
    // polkit may ask whoever sits here for a password.
    message.allowInteractiveAuthorization();
    if (!isForAll(member))
        agent_.start();
    const auto id = options.find(kRequestId);
    if (id == options.end())
        return bus_.call(message, kTimeoutUs);
    if (mode_.on_progress && !options.contains(kBackground))
        return follow(message, std::get<std::string>(id->second));
    return bus_.call(message, kNoTimeLimit.count());
}

std::string Client::daemonName() {
    Message message = bus_.newMethodCall("org.freedesktop.DBus", "/org/freedesktop/DBus",
                                         "org.freedesktop.DBus", "GetNameOwner");
    message.append(Value(std::string(kBusName)));
    try {
        return bus_.call(message, kTimeoutUs).readString();
    } catch (const CallError& error) {
        if (error.name() != "org.freedesktop.DBus.Error.NameHasNoOwner")
            throw;
        return {};
    }
}

std::string Client::startedDaemonName() {
    const std::string name = daemonName();
    if (!name.empty())
        return name;
    // The bus may be able to start it.
    bus_.call(bus_.newMethodCall(kBusName, kRootPath, "org.freedesktop.DBus.Peer", "Ping"),
              kTimeoutUs);
    return daemonName();
}

bool Client::isActive(const std::string& unit) {
    constexpr const char* systemd = "org.freedesktop.systemd1";
    try {
        Message find = bus_.newMethodCall(systemd, "/org/freedesktop/systemd1",
                                          "org.freedesktop.systemd1.Manager", "GetUnit");
        find.append(Value(unit));
        const std::string path = bus_.call(find, kLookTimeoutUs).readObjectPath().path;
        Message ask = bus_.newMethodCall(systemd, path, "org.freedesktop.DBus.Properties", "Get");
        ask.append(Value(std::string("org.freedesktop.systemd1.Unit")));
        ask.append(Value(std::string("ActiveState")));
        return bus_.call(ask, kLookTimeoutUs).readVariant() == Value(std::string("active"));
    } catch (const std::exception&) {
        return false;
    }
}

bool Client::waitForDaemon() {
    constexpr std::chrono::seconds patience{30};
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
        std::this_thread::sleep_for(kPollInterval);
        try {
            tryCall(kRootPath, kManagerInterface, "ListJobs", nullptr, {});
            return true;
        } catch (const CallError& error) {
            if (!isGone(error.name()))
                return false;
        }
    }
    return false;
}

Message Client::repeatCall(const std::string& path, const std::string& interface,
                           const std::string& member, const std::function<void(Message&)>& append,
                           const Dictionary& options) {
    bool restarted = false;
    for (;;) {
        std::string called;
        try {
            called = startedDaemonName();
            return tryCall(path, interface, member, append, options);
        } catch (const CallError& error) {
            // Without a name it was not there before the call, so nothing was lost.
            const bool unanswered = isUnanswered(error.name()) && !called.empty();
            if (unanswered && daemonName() == called) {
                // It is at it: the same id waits for the same job.
                std::this_thread::sleep_for(kPollInterval);
                continue;
            }
            const Failure failure = failureOf(error.name(), error.what());
            if (restarted)
                throw afterRestart(failure);
            if (!unanswered)
                throw failure;
        } catch (const Error& error) {
            throw failureOf(error.busName(), error.what());
        }
        if (!waitForDaemon())
            throw Failure(ExitCode::NoDaemon, "NoDaemon",
                          "cowsnapd ended during the call, which may have been done before that, "
                          "and is not back: " +
                              startAdvice());
        restarted = true;
    }
}

Object Client::propertiesOf(const std::string& job, std::uint64_t timeout_us) {
    Message message =
        bus_.newMethodCall(kBusName, job, "org.freedesktop.DBus.Properties", "GetAll");
    message.append(Value(std::string(kJobInterface)));
    Object object{job, bus_.call(message, timeout_us).readKnown()};
    object.properties["Number"] = jobNumber(job);
    return object;
}

std::optional<Object> Client::jobOf(const std::string& request_id) {
    Message message = bus_.newMethodCall(kBusName, kRootPath, kManagerInterface, "ListJobs");
    message.append(Dictionary{{"request", request_id}});
    message.setAutoStart(false);
    try {
        const auto paths = bus_.call(message, kLookTimeoutUs).readObjectPaths();
        if (!paths.empty())
            return propertiesOf(paths.back().path, kLookTimeoutUs);
    } catch (const CallError&) {
        // It is not known now; what came of it the call itself is answered.
    }
    return std::nullopt;
}

Message Client::follow(const Message& call, const std::string& request_id) {
    using Clock = std::chrono::steady_clock;
    Message answer;
    const auto on_answer = [](sd_bus_message* message, void* userdata, sd_bus_error*) {
        *static_cast<Message*>(userdata) = Message::share(message);
        return 0;
    };
    const Slot slot = bus_.callAsync(call, kNoTimeLimit, on_answer, &answer);
    std::optional<Object> job;
    auto pause = kFirstPoll;
    auto next_look = Clock::now() + pause;
    while (!answer) {
        bus_.processOrWait(
            std::chrono::duration_cast<std::chrono::microseconds>(next_look - Clock::now()));
        if (answer || Clock::now() < next_look)
            continue;
        if (auto seen = jobOf(request_id)) {
            job = std::move(seen);
            mode_.on_progress(*job);
        }
        pause = std::min(2 * pause, kPollInterval);
        next_look = Clock::now() + pause;
    }
    const sd_bus_error* const error = sd_bus_message_get_error(answer.get());
    if (error == nullptr || !isGone(error->name))
        tellEnd(jobOf(request_id), std::move(job), error == nullptr);
    if (error != nullptr)
        throw CallError(error->name, error->message != nullptr ? error->message : "");
    return answer;
}

void Client::tellEnd(const std::optional<Object>& job, std::optional<Object> seen_before,
                     bool done) {
    if (job) {
        mode_.on_progress(*job);
    } else if (seen_before) {
        // It is forgotten already.
        seen_before->properties["State"] = std::string(done ? "done" : "failed");
        mode_.on_progress(*seen_before);
    }
}

Object Client::job(const std::string& wanted) {
    const std::string directory = std::string(kRootPath) + "/job/";
    const std::string number =
        wanted.starts_with(directory) ? wanted.substr(directory.size()) : wanted;
    const bool is_number =
        !number.empty() && number.find_first_not_of("0123456789") == std::string::npos;
    const auto none = notFound("there is no job \"" + wanted +
                               "\": \"snapd-cli job list\" shows those that are there");
    if (!is_number)
        throw none;
    try {
        return propertiesOf(directory + number, kTimeoutUs);
    } catch (const CallError& error) {
        if (error.name() == "org.freedesktop.DBus.Error.UnknownObject")
            throw none;
        throw failureOf(error.name(), error.what());
    }
}

Object Client::waitForJob(const std::string& wanted) {
    Object job = this->job(wanted);
    for (;;) {
        if (mode_.on_progress)
            mode_.on_progress(job);
        if (isOver(job))
            return job;
        std::this_thread::sleep_for(kPollInterval);
        try {
            job = this->job(job.path);
        } catch (const Failure& failure) {
            if (failure.code() != ExitCode::NotFound)
                throw;
            throw Failure(ExitCode::Failed, "Failed",
                          fmt::format("the job {} is not there any more: it is over and forgotten "
                                      "(finished_jobs in cowsnapd.conf says how many are kept), or "
                                      "cowsnapd was restarted",
                                      job.number("Number")));
        }
    }
}

void Client::onlyCheck(const std::string& path, const std::string& interface,
                       const std::string& member, const std::function<void(Message&)>& append,
                       Dictionary options) {
    options["dry_run"] = true;
    call(path, interface, member, append, options);
}

Message Client::callStep(const std::string& path, const std::string& interface,
                         const std::string& member, const std::function<void(Message&)>& append,
                         const Dictionary& options) {
    if (mode_.dry_run) {
        onlyCheck(path, interface, member, append, options);
        throw JobChecked{member, true};
    }
    Dictionary with_id = options;
    with_id[kRequestId] = Uuid::random().dashed();
    return repeatCall(path, interface, member, append, with_id);
}

Message Client::callJob(const std::string& path, const std::string& interface,
                        const std::string& member, const std::function<void(Message&)>& append,
                        const Dictionary& options) {
    if (mode_.dry_run) {
        onlyCheck(path, interface, member, append, options);
        throw JobChecked{member};
    }
    if (mode_.wait)
        return callStep(path, interface, member, append, options);
    const std::string request_id = Uuid::random().dashed();
    Dictionary in_background = options;
    in_background[kRequestId] = request_id;
    in_background[kBackground] = true;
    repeatCall(path, interface, member, append, in_background);
    throw JobBegun{jobOf(request_id)};
}

Message Client::call(const std::string& path, const std::string& interface,
                     const std::string& member, const std::function<void(Message&)>& append,
                     const Dictionary& options) {
    try {
        return tryCall(path, interface, member, append, options);
    } catch (const CallError& error) {
        throw failureOf(error.name(), error.what());
    } catch (const Error& error) {
        throw failureOf(error.busName(), error.what());
    }
}

void Client::refresh() {
    if (::geteuid() == 0)
        call(kRootPath, kManagerInterface, "Refresh", nullptr);
}

Objects Client::objects() {
    Message reply;
    try {
        reply =
            bus_.call(bus_.newMethodCall(kBusName, kRootPath, "org.freedesktop.DBus.ObjectManager",
                                         "GetManagedObjects"),
                      kTimeoutUs);
    } catch (const CallError& error) {
        throw failureOf(error.name(), error.what());
    }
    Objects objects;
    reply.enter('a', "{oa{sa{sv}}}");
    while (reply.enter('e', "oa{sa{sv}}")) {
        const std::string path = reply.readObjectPath().path;
        reply.enter('a', "{sa{sv}}");
        while (reply.enter('e', "sa{sv}")) {
            const std::string interface = reply.readString();
            Object object{path, reply.readKnown()};
            if (interface == kStoreInterface)
                objects.stores.push_back(std::move(object));
            else if (interface == kOriginInterface)
                objects.origins.push_back(std::move(object));
            else if (interface == kSnapshotInterface)
                objects.snapshots.push_back(std::move(object));
            else if (interface == kJobInterface) {
                object.properties["Number"] = jobNumber(path);
                objects.jobs.push_back(std::move(object));
            }
            reply.exit();
        }
        reply.exit();
        reply.exit();
    }
    reply.exit();
    sort(objects);
    return objects;
}

Objects Client::listing() {
    const FileDescriptor file =
        call(kRootPath, kManagerInterface, "ListSnapshots", nullptr).readFile();
    Objects objects = objectsOfListing(readSealedFile(file));
    sort(objects);
    return objects;
}

}  // namespace cowsnap::cli
