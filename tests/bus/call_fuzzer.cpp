// SPDX-License-Identifier: GPL-2.0-or-later
// What is sent, and what is compared afterwards.
#include "call_fuzzer.h"

#include <fcntl.h>
#include <unistd.h>

#include <utility>

#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>
#include <boost/property_tree/ptree.hpp>
#include <boost/property_tree/xml_parser.hpp>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <random>
#include <set>
#include <sstream>
#include <stdexcept>
#include <vector>

#include "base/file_descriptor.h"
#include "bus_bed.h"
#include "fake_polkit.h"

namespace cowsnap::test {

namespace {

namespace tree = boost::property_tree;

const std::string kPrefix = "org.cowsnap1.";
constexpr std::uint64_t kTimeoutUs = 60ULL * 1000 * 1000;

[[noreturn]] void complain(const std::string& what) {
    throw std::runtime_error(what);
}

/// Nothing of what the daemon logs is shown meanwhile, whatever level a call sets.
class NoLog {
public:
    NoLog() : before_(spdlog::default_logger()), level_(spdlog::get_level()) {
        spdlog::set_default_logger(
            std::make_shared<spdlog::logger>("", std::make_shared<spdlog::sinks::null_sink_mt>()));
    }
    ~NoLog() {
        spdlog::set_default_logger(before_);
        spdlog::set_level(level_);
    }
    NoLog(const NoLog&) = delete;
    NoLog& operator=(const NoLog&) = delete;

private:
    std::shared_ptr<spdlog::logger> before_;
    spdlog::level::level_enum level_;
};

class Random {
public:
    explicit Random(std::uint64_t seed) : engine_(seed) {}

    std::uint64_t below(std::uint64_t limit) { return engine_() % limit; }
    bool percent(unsigned chance) { return below(100) < chance; }
    std::uint64_t bits() { return engine_(); }
    template <typename Container>
    const auto& of(const Container& container) {
        return *std::next(container.begin(), static_cast<std::ptrdiff_t>(below(container.size())));
    }

private:
    std::mt19937_64 engine_;
};

struct Method {
    std::string interface;
    std::string member;
    std::vector<std::string> types;
};

struct Property {
    std::string interface;
    std::string name;
    std::string type;
};

struct Contract {
    std::vector<Method> methods;
    std::vector<Property> properties;
};

Contract readContract() {
    tree::ptree document;
    tree::read_xml(COWSNAP_BUS_XML, document);
    Contract contract;
    for (const auto& [tag, interface] : document.get_child("node")) {
        if (tag != "interface")
            continue;
        const auto interface_name = interface.get<std::string>("<xmlattr>.name");
        for (const auto& [kind, member] : interface) {
            if (kind == "property")
                contract.properties.push_back({interface_name,
                                               member.get<std::string>("<xmlattr>.name"),
                                               member.get<std::string>("<xmlattr>.type")});
            if (kind != "method")
                continue;
            Method method{interface_name, member.get<std::string>("<xmlattr>.name"), {}};
            for (const auto& [argument_tag, argument] : member)
                if (argument_tag == "arg" &&
                    argument.get<std::string>("<xmlattr>.direction") == "in")
                    method.types.push_back(argument.get<std::string>("<xmlattr>.type"));
            contract.methods.push_back(std::move(method));
        }
    }
    return contract;
}

/// The options that some method knows, and what type they have.
const std::vector<std::pair<std::string, std::string>> kOptions{
    {"full_wait_ms", "t"}, {"segment_sectors", "t"}, {"name", "s"},
    {"method", "s"},       {"writable", "b"},        {"description", "s"},
    {"tags", "as"},        {"holds", "as"},          {"expires", "t"},
    {"last", "t"},         {"hourly", "t"},          {"daily", "t"},
    {"weekly", "t"},       {"monthly", "t"},         {"yearly", "t"},
    {"dry_run", "b"},      {"request", "s"},         {"read_only", "b"},
    {"undo_name", "s"},    {"schedule", "b"},        {"force", "b"},
    {"volume_group", "s"}, {"volume_bytes", "t"},    {"import", "b"},
    {"request-id", "s"},   {"background", "b"},      {"autoextend", "b"},
    {"spares", "as"},      {"remove_spares", "as"},  {"max_bytes", "t"},
    {"known_as", "s"},     {"boot_policy", "s"}};

const std::vector<std::string> kTexts{"",
                                      "a",
                                      "main",
                                      "one",
                                      "backup",
                                      "nightly",
                                      ".",
                                      "..",
                                      "a/b",
                                      "../../etc/passwd",
                                      "/dev/one",
                                      "/dev/two",
                                      "/dev/store",
                                      "/dev/spare",
                                      "/dev/nothing",
                                      "/dev/mapper/cowsnap-one",
                                      "$(reboot)",
                                      "; rm -rf /",
                                      "{}{0}{:d}",
                                      "%s%n%x",
                                      "two words",
                                      "line\nline",
                                      "\x01\x7f",
                                      "\"quoted\"\\",
                                      "gr\xc3\xb6\xc3\x9f"
                                      "e",
                                      "\xf0\x9f\x98\x80",
                                      "auto",
                                      "fail-open",
                                      "fail-closed",
                                      "stack",
                                      "interpose",
                                      "debug",
                                      "error",
                                      "00000000-0000-0000-0000-000000000000",
                                      kManager};

/// The end of the complete type that begins there.
std::size_t endOfType(const std::string& types, std::size_t at) {
    if (types[at] == 'a')
        return endOfType(types, at + 1);
    if (types[at] != '(' && types[at] != '{')
        return at + 1;
    std::size_t depth = 0;
    do {
        if (types[at] == '(' || types[at] == '{')
            ++depth;
        if (types[at] == ')' || types[at] == '}')
            --depth;
        ++at;
    } while (depth > 0);
    return at;
}

std::size_t openDescriptors() {
    std::size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        static_cast<void>(entry);
        ++count;
    }
    return count;
}

/// One of the callers.
struct Client {
    Bus bus = Bus::openSystem();
    unsigned waiting = 0;
};

/// What the daemon says that it has.
struct Listing {
    std::map<std::string, Dictionary> stores;
    std::map<std::string, Dictionary> origins;
    std::map<std::string, Dictionary> snapshots;
    std::map<std::string, Dictionary> jobs;
};

AuthoritySettings quick() {
    AuthoritySettings settings;
    settings.time_limit = std::chrono::milliseconds(50);
    settings.interactive_time_limit = std::chrono::milliseconds(100);
    return settings;
}

}  // namespace

class CallFuzzer::World {
public:
    explicit World(std::uint64_t seed)
        : random_(seed), bed_(quick()), polkit_random_(random_.bits()) {
        polkit_.grant({"org.cowsnap1.create", "org.cowsnap1.delete", "org.cowsnap1.cancel-job"});
        polkit_.setAnswers([this] {
            using Answer = FakePolkit::Answer;
            static const std::vector<Answer> answers{
                Answer::Grants, Answer::Grants,     Answer::Grants, Answer::Challenge,
                Answer::Error,  Answer::WrongTypes, Answer::Later};
            return polkit_random_.of(answers);
        });
        for (unsigned i = 0; i < kClients; ++i)
            clients_.push_back(std::make_unique<Client>());
        build();
    }

    FuzzFigures run(std::uint64_t calls) {
        lookAround();
        const std::size_t descriptors = openDescriptors();
        constexpr std::uint64_t between_checks = 500;
        for (std::uint64_t i = 1; i <= calls; ++i) {
            makeOne();
            if (i % between_checks == 0 || i == calls)
                check();
        }
        if (const std::size_t now = openDescriptors(); now > descriptors)
            complain(fmt::format("{} file descriptors were open, now {}", descriptors, now));
        bed_.callers_are_root = true;
        // Requests that were never finished would be in the way.
        const Dictionary last{{"request-id", std::string("the-last-one")}};
        bed_.call(
            kRoot, kPrefix + "Manager", "Prune",
            [](Message& message) { message.append(Value(std::vector<ObjectPath>{})); }, last);
        return figures_;
    }

private:
    static constexpr unsigned kClients = 4;
    static constexpr unsigned kWindow = 12;

    // ---- what there is ---------------------------------------------------

    /// A store and two origins, as far as they are not there.
    void build() {
        bed_.callers_are_root = true;
        lookAround();
        if (listing_.stores.empty()) {
            try {
                bed_.createStore();
            } catch (const CallError&) {
                // Its device is part of a store that was closed.
                openSomeStore();
            }
            lookAround();
        }
        for (const char* const device : {"/dev/one", "/dev/two"})
            bed_.failureOfCall(kRoot, kPrefix + "Manager", "Attach", [&](Message& message) {
                message.append(Value(std::string(device)));
                message.append(Value(ObjectPath{listing_.stores.begin()->first}));
            });
        lookAround();
    }

    /// One that was closed, on whatever devices it has.
    void openSomeStore() {
        std::vector<std::string> disks{"/dev/one", "/dev/spare", "/dev/store", "/dev/two"};
        do {
            for (std::size_t count = 1; count <= disks.size(); ++count) {
                const std::vector<std::string> devices(
                    disks.begin(), disks.begin() + static_cast<std::ptrdiff_t>(count));
                if (bed_.failureOfCall(kRoot, kPrefix + "Manager", "OpenStore",
                                       [&](Message& message) { message.append(Value(devices)); })
                        .name.empty())
                    return;
            }
        } while (std::next_permutation(disks.begin(), disks.end()));
        complain("a store that was closed cannot be opened again");
    }

    void lookAround() {
        Bus bus = Bus::openSystem();
        Message reply =
            bus.call(bus.newMethodCall("org.cowsnap1", kRoot, "org.freedesktop.DBus.ObjectManager",
                                       "GetManagedObjects"),
                     kTimeoutUs);
        listing_ = {};
        reply.enter('a', "{oa{sa{sv}}}");
        while (reply.enter('e', "oa{sa{sv}}")) {
            const std::string path = reply.readObjectPath().path;
            reply.enter('a', "{sa{sv}}");
            while (reply.enter('e', "sa{sv}")) {
                const std::string interface = reply.readString();
                const Dictionary properties = reply.readKnown();
                if (interface == kPrefix + "Store")
                    listing_.stores[path] = properties;
                else if (interface == kPrefix + "Origin")
                    listing_.origins[path] = properties;
                else if (interface == kPrefix + "Snapshot")
                    listing_.snapshots[path] = properties;
                else if (interface == kPrefix + "Job")
                    listing_.jobs[path] = properties;
                reply.exit();
            }
            reply.exit();
            reply.exit();
        }
        figures_.most_snapshots =
            std::max<std::uint64_t>(figures_.most_snapshots, listing_.snapshots.size());
        paths_ = {"/", kRoot, std::string(kRoot) + "/store", std::string(kRoot) + "/job/1",
                  "/org/freedesktop/DBus"};
        for (const auto* const objects :
             {&listing_.stores, &listing_.origins, &listing_.snapshots, &listing_.jobs})
            for (const auto& [path, properties] : *objects)
                paths_.push_back(path);
    }

    // ---- values ------------------------------------------------------------

    std::string text() {
        if (random_.percent(70))
            return random_.of(kTexts);
        if (random_.percent(50))
            return fmt::format("name-{}", random_.below(200));
        if (random_.percent(30))
            return random_.of(paths_);
        static const std::vector<std::size_t> sizes{1, 63, 64, 65, 127, 128, 255, 256, 4096, 65536};
        const std::size_t size = random_.percent(1) ? 1048576 : random_.of(sizes);
        return std::string(size, static_cast<char>('!' + random_.below(90)));
    }

    std::string objectPath() {
        if (random_.percent(80))
            return random_.of(paths_);
        if (random_.percent(50))
            return fmt::format("{}/{}/{:08x}_0000_0000_0000_000000000000", kRoot,
                               random_.of(std::vector<std::string>{"store", "origin", "snapshot"}),
                               random_.below(1ULL << 32));
        std::string path;
        for (std::uint64_t i = random_.below(20) + 1; i > 0; --i)
            path += fmt::format("/x{}", random_.below(1000));
        return path;
    }

    std::uint64_t number() {
        static const std::vector<std::uint64_t> numbers{
            0, 1, 2, 7, 2048, 1U << 31, UINT32_MAX, 1ULL << 63, INT64_MAX, UINT64_MAX};
        return random_.percent(80) ? random_.of(numbers) : random_.bits();
    }

    std::string randomType(unsigned depth) {
        static const std::string basic = "ybnqiuxtdsogh";
        const std::uint64_t choice = depth == 0 ? 0 : random_.below(10);
        if (choice < 6)
            return std::string(1, random_.of(basic));
        if (choice == 6)
            return "v";
        if (choice == 7)
            return "a" + randomType(depth - 1);
        if (choice == 8)
            return std::string("a{") + random_.of(std::string("ybnqiuxtdso")) +
                   randomType(depth - 1) + "}";
        std::string types;
        for (std::uint64_t i = random_.below(4) + 1; i > 0; --i)
            types += randomType(depth - 1);
        return "(" + types + ")";
    }

    std::string randomTypes() {
        std::string types;
        for (std::uint64_t i = random_.below(5); i > 0; --i)
            types += randomType(3);
        return types;
    }

    void appendBasic(Message& message, char type) {
        const std::uint64_t bits = number();
        const int flag = static_cast<int>(bits & 1);
        const double real = static_cast<double>(bits) / 3;
        const std::string words = type == 'o' ? objectPath() : type == 'g' ? randomTypes() : text();
        const FileDescriptor null(type == 'h' ? ::open("/dev/null", O_RDONLY | O_CLOEXEC) : -1);
        const int descriptor = null.get();
        const void* data = &bits;  // little-endian: the shorter ones are its beginning
        if (type == 's' || type == 'o' || type == 'g')
            data = words.c_str();
        else if (type == 'b')
            data = &flag;
        else if (type == 'd')
            data = &real;
        else if (type == 'h')
            data = &descriptor;
        if (sd_bus_message_append_basic(message.get(), type, data) < 0)
            throw Unmakeable();
    }

    void appendAny(Message& message, const std::string& types) {
        for (std::size_t at = 0; at < types.size();) {
            const std::size_t end = endOfType(types, at);
            const std::string type = types.substr(at, end - at);
            at = end;
            if (type == "v") {
                const std::string contents = randomType(2);
                message.open('v', contents.c_str());
                appendAny(message, contents);
                message.close();
            } else if (type[0] == 'a') {
                const std::string contents = type.substr(1);
                message.open('a', contents.c_str());
                for (std::uint64_t i = random_.percent(30) ? 0 : random_.below(4); i > 0; --i)
                    appendAny(message, contents);
                message.close();
            } else if (type[0] == '(' || type[0] == '{') {
                const std::string contents = type.substr(1, type.size() - 2);
                message.open(type[0] == '(' ? 'r' : 'e', contents.c_str());
                appendAny(message, contents);
                message.close();
            } else {
                appendBasic(message, type[0]);
            }
        }
    }

    void appendDeepVariant(Message& message) {
        const std::uint64_t depth = random_.below(55) + 1;
        for (std::uint64_t i = 0; i < depth; ++i)
            message.open('v', i + 1 < depth ? "v" : "s");
        appendAny(message, "s");
        for (std::uint64_t i = 0; i < depth; ++i)
            message.close();
    }

    void appendOptions(Message& message) {
        message.open('a', "{sv}");
        const std::uint64_t count = random_.percent(50) ? 0 : random_.below(4) + 1;
        for (std::uint64_t i = 0; i < count; ++i) {
            const auto& [name, type] = random_.of(kOptions);
            message.open('e', "sv");
            message.append(Value(random_.percent(85) ? name : text()));
            if (random_.percent(5)) {
                appendDeepVariant(message);
            } else {
                const std::string chosen = random_.percent(80) ? type : randomType(3);
                message.open('v', chosen.c_str());
                appendAny(message, chosen);
                message.close();
            }
            message.close();
        }
        message.close();
    }

    ObjectPath oneOf(const std::map<std::string, Dictionary>& objects) {
        return {objects.empty() || random_.percent(5) ? objectPath() : random_.of(objects).first};
    }

    /// What a method could do something with.
    void appendSensible(Message& message, const Method& method, const std::string& type) {
        static const std::vector<std::string> disks{"/dev/one", "/dev/two", "/dev/store",
                                                    "/dev/spare"};
        if (type == "a{sv}")
            return appendOptions(message);
        if (type == "s" && method.member == "Attach")
            return message.append(Value(random_.of(disks)));
        if (type == "s")
            return message.append(
                Value(random_.percent(70) ? fmt::format("name-{}", random_.below(200)) : text()));
        if (type == "as")
            return message.append(Value(std::vector<std::string>{random_.of(disks)}));
        if (type == "o")
            return message.append(Value(oneOf(listing_.stores)));
        if (type == "ao") {
            std::vector<ObjectPath> objects;
            for (std::uint64_t i = random_.below(3); i > 0; --i)
                objects.push_back(
                    oneOf(method.member == "Prune" ? listing_.origins : listing_.snapshots));
            return message.append(Value(objects));
        }
        if (type == "a(os)") {
            std::vector<std::pair<ObjectPath, std::string>> members;
            for (std::uint64_t i = random_.below(3) + 1; i > 0; --i)
                members.emplace_back(oneOf(listing_.origins),
                                     fmt::format("name-{}", random_.below(200)));
            return message.append(members);
        }
        appendAny(message, type);
    }

    // ---- messages ------------------------------------------------------------

    /// sd-bus does not let anybody make it.
    struct Unmakeable {};

    std::string pathFor(const std::string& interface) {
        if (interface == kPrefix + "Store")
            return oneOf(listing_.stores).path;
        if (interface == kPrefix + "Origin")
            return oneOf(listing_.origins).path;
        if (interface == kPrefix + "Snapshot")
            return oneOf(listing_.snapshots).path;
        return interface == kPrefix + "Job" ? oneOf(listing_.jobs).path : kRoot;
    }

    Message callOf(Client& client, const std::string& path, const std::string& interface,
                   const std::string& member) {
        sd_bus_message* message = nullptr;
        if (sd_bus_message_new_method_call(client.bus.get(), &message, "org.cowsnap1", path.c_str(),
                                           interface.empty() ? nullptr : interface.c_str(),
                                           member.c_str()) < 0)
            throw Unmakeable();
        return Message::adopt(message);
    }

    const Method& anyContractMethod() {
        if (random_.percent(75))
            return random_.of(contract_.methods);
        // Most others need a snapshot to do something with.
        return *std::find_if(
            contract_.methods.begin(), contract_.methods.end(),
            [](const Method& method) { return method.member == "CreateSnapshots"; });
    }

    Message sensible(Client& client) {
        const Method& method = anyContractMethod();
        Message message =
            callOf(client, pathFor(method.interface), method.interface, method.member);
        for (const auto& type : method.types)
            appendSensible(message, method, type);
        return message;
    }

    Message anyValues(Client& client) {
        const Method& method = random_.of(contract_.methods);
        Message message =
            callOf(client, random_.percent(80) ? pathFor(method.interface) : objectPath(),
                   random_.percent(90) ? method.interface : "", method.member);
        for (const auto& type : method.types)
            appendAny(message, type);
        return message;
    }

    Message anyTypes(Client& client) {
        const Method& method = random_.of(contract_.methods);
        Message message =
            callOf(client, random_.percent(80) ? pathFor(method.interface) : objectPath(),
                   method.interface, method.member);
        appendAny(message, randomTypes());
        if (random_.percent(50))
            appendOptions(message);
        return message;
    }

    Message anyMethod(Client& client) {
        static const std::vector<std::string> interfaces{"",
                                                         kManager,
                                                         "org.cowsnap1.Nothing",
                                                         "org.freedesktop.DBus.Properties",
                                                         "org.freedesktop.DBus.ObjectManager",
                                                         "org.freedesktop.DBus.Peer",
                                                         "org.freedesktop.DBus",
                                                         "x.y"};
        static const std::vector<std::string> members{"Get",     "Set",     "Ping",  "Delete",
                                                      "Nothing", "Refresh", "Hello", "_"};
        Message message = callOf(client, objectPath(), random_.of(interfaces), random_.of(members));
        appendAny(message, randomTypes());
        return message;
    }

    Message aboutProperties(Client& client) {
        const Property& property = random_.of(contract_.properties);
        static const std::vector<std::string> members{"Set", "Set", "Get", "GetAll"};
        const std::string& member = random_.of(members);
        Message message =
            callOf(client, random_.percent(80) ? pathFor(property.interface) : objectPath(),
                   "org.freedesktop.DBus.Properties", member);
        message.append(Value(random_.percent(90) ? property.interface : text()));
        if (member == "GetAll")
            return message;
        message.append(Value(random_.percent(90) ? property.name : text()));
        if (member == "Set") {
            const std::string type = random_.percent(70) ? property.type : randomType(3);
            message.open('v', type.c_str());
            appendAny(message, type);
            message.close();
        }
        return message;
    }

    Message aboutAll(Client& client) {
        static const std::vector<std::pair<std::string, std::string>> methods{
            {"org.freedesktop.DBus.Introspectable", "Introspect"},
            {"org.freedesktop.DBus.ObjectManager", "GetManagedObjects"},
            {"org.freedesktop.DBus.Peer", "Ping"},
            {"org.freedesktop.DBus.Peer", "GetMachineId"}};
        const auto& [interface, member] = random_.of(methods);
        return callOf(client, random_.percent(50) ? kRoot : objectPath(), interface, member);
    }

    Message signalToDaemon(Client& client) {
        sd_bus_message* signal = nullptr;
        if (sd_bus_message_new_signal(client.bus.get(), &signal, objectPath().c_str(),
                                      "org.freedesktop.DBus.Properties", "PropertiesChanged") < 0)
            throw Unmakeable();
        Message message = Message::adopt(signal);
        if (sd_bus_message_set_destination(signal, "org.cowsnap1") < 0)
            throw Unmakeable();
        appendAny(message, randomTypes());
        return message;
    }

    Message something(Client& client) {
        const std::uint64_t choice = random_.below(100);
        if (choice < 45)
            return sensible(client);
        if (choice < 60)
            return anyValues(client);
        if (choice < 76)
            return anyTypes(client);
        if (choice < 86)
            return anyMethod(client);
        if (choice < 94)
            return aboutProperties(client);
        return choice < 98 ? aboutAll(client) : signalToDaemon(client);
    }

    void makeOne() {
        bed_.callers_are_root = random_.percent(75);
        if (random_.percent(10))
            polkit_.answerNow();
        auto& client = clients_.at(random_.below(clients_.size()));
        try {
            Message message = something(*client);
            if (random_.percent(30))
                message.allowInteractiveAuthorization();
            send(client, message);
        } catch (const Unmakeable&) {
            ++figures_.unmakeable;
        } catch (const Error&) {
            // A D-Bus message cannot hold it, such as one that is too deep.
            ++figures_.unmakeable;
        }
    }

    void send(std::unique_ptr<Client>& client, Message& message) {
        std::uint8_t kind = 0;
        sd_bus_message_get_type(message.get(), &kind);
        ++figures_.calls;
        if (kind != SD_BUS_MESSAGE_METHOD_CALL || random_.percent(3)) {
            if (kind == SD_BUS_MESSAGE_METHOD_CALL)
                message.setExpectReply(false);
            client->bus.send(message);
            ++figures_.unheard;
            return;
        }
        expect(*client, message);
        if (random_.percent(1)) {
            // It leaves with what it asked.
            sd_bus_flush(client->bus.get());
            hangUp(client);
        }
        while (client->waiting >= kWindow)
            process(client, true);
        process(client, false);
    }

    struct Waiting {
        World* world;
        Client* client;
    };

    void expect(Client& client, Message& message) {
        const auto on_answer = [](sd_bus_message* answer, void* userdata, sd_bus_error*) {
            auto& waiting = *static_cast<Waiting*>(userdata);
            --waiting.client->waiting;
            waiting.world->count(sd_bus_message_get_error(answer));
            return 0;
        };
        auto waiting = std::make_unique<Waiting>(Waiting{this, &client});
        sd_bus_slot* slot = nullptr;
        if (sd_bus_call_async(client.bus.get(), &slot, message.get(), on_answer, waiting.get(),
                              kTimeoutUs) < 0)
            throw Unmakeable();
        sd_bus_slot_set_destroy_callback(slot, [](void* userdata) {
            const std::unique_ptr<Waiting> gone(static_cast<Waiting*>(userdata));
        });
        static_cast<void>(waiting.release());
        sd_bus_slot_set_floating(slot, 1);
        sd_bus_slot_unref(slot);
        ++client.waiting;
    }

    void count(const sd_bus_error* error) {
        if (error == nullptr) {
            ++figures_.succeeded;
            return;
        }
        ++figures_.errors[error->name];
        if (sd_bus_error_has_name(error, SD_BUS_ERROR_NO_REPLY) > 0 ||
            sd_bus_error_has_name(error, SD_BUS_ERROR_SERVICE_UNKNOWN) > 0)
            failure_ = fmt::format("a call was not answered: {}: {}", error->name,
                                   error->message != nullptr ? error->message : "");
    }

    void hangUp(std::unique_ptr<Client>& client) {
        figures_.unheard += client->waiting;
        client = std::make_unique<Client>();
    }

    void process(std::unique_ptr<Client>& client, bool wait) {
        int result = 0;
        do {
            result = sd_bus_process(client->bus.get(), nullptr);
        } while (result > 0);
        if (!failure_.empty())
            complain(failure_);
        if (result < 0) {
            ++figures_.hung_up;
            hangUp(client);
            return;
        }
        constexpr std::uint64_t wait_us = 20000;
        if (wait)
            sd_bus_wait(client->bus.get(), wait_us);
    }

    // ---- what must hold --------------------------------------------------------

    void drain() {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(2);
        for (auto& client : clients_)
            while (client->waiting > 0) {
                polkit_.answerNow();
                process(client, true);
                if (std::chrono::steady_clock::now() > deadline)
                    complain(fmt::format("{} calls were not answered", client->waiting));
            }
    }

    /// The fake machine copies nothing back by itself.
    static bool copiesBack(const Dictionary& job) {
        return std::get<std::string>(job.at("Operation")) == "copy-back";
    }

    static bool over(const Dictionary& job) {
        const auto& state = std::get<std::string>(job.at("State"));
        return state == "done" || state == "failed" || state == "cancelled";
    }

    void waitForJobs() {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::minutes(1);
        for (;;) {
            lookAround();
            // What nobody waits for may still be asked about, and then begin.
            const bool idle = std::all_of(
                listing_.jobs.begin(), listing_.jobs.end(),
                [](const auto& job) { return over(job.second) || copiesBack(job.second); });
            if (idle && std::exchange(was_idle_, true))
                return;
            was_idle_ = idle;
            if (std::chrono::steady_clock::now() > deadline)
                complain("a job does not end");
            std::this_thread::sleep_for(2 * quick().interactive_time_limit);
        }
    }

    void same(const std::string& what, std::uint64_t one, std::uint64_t other) const {
        if (one != other)
            complain(fmt::format("{}: {} and {}", what, one, other));
    }

    static std::uint64_t countOf(const std::map<std::string, Dictionary>& objects,
                                 const std::string& property, const std::string& path) {
        return static_cast<std::uint64_t>(
            std::count_if(objects.begin(), objects.end(), [&](const auto& object) {
                return std::get<ObjectPath>(object.second.at(property)).path == path;
            }));
    }

    std::uint64_t nodesAt(const std::string& path) {
        std::string xml;
        try {
            xml = bed_.introspect(path);
        } catch (const CallError&) {
            return 0;  // where there is no object, and none below, there is nothing
        }
        std::istringstream stream(xml);
        tree::ptree document;
        tree::read_xml(stream, document);
        return document.get_child("node").count("node");
    }

    void check() {
        ++figures_.checks;
        drain();
        bed_.callers_are_root = true;
        was_idle_ = false;
        waitForJobs();
        for (const auto& [path, store] : listing_.stores) {
            same("origins of " + path, std::get<std::uint32_t>(store.at("OriginCount")),
                 countOf(listing_.origins, "Store", path));
            same("snapshots of " + path, std::get<std::uint32_t>(store.at("SnapshotCount")),
                 countOf(listing_.snapshots, "Store", path));
        }
        for (const auto& [path, origin] : listing_.origins)
            same("snapshots of " + path, std::get<std::uint32_t>(origin.at("SnapshotCount")),
                 countOf(listing_.snapshots, "Origin", path));
        same("snapshots in the kernel", bed_.machine.snapshotIds().size(),
             listing_.snapshots.size());
        same("origins in the kernel", bed_.machine.originIds().size(), listing_.origins.size());
        same("jobs", bed_.jobs().size(), listing_.jobs.size());
        same("nodes of snapshots", nodesAt(std::string(kRoot) + "/snapshot"),
             listing_.snapshots.size());
        const auto kept = std::count_if(listing_.jobs.begin(), listing_.jobs.end(),
                                        [](const auto& job) { return over(job.second); });
        if (kept > 100)
            complain(fmt::format("{} jobs are kept that are over", kept));
        // Each origin that goes back to a snapshot has one that is not, and no other has.
        const auto going_back =
            std::count_if(listing_.origins.begin(), listing_.origins.end(), [](const auto& origin) {
                const auto& state = std::get<std::string>(origin.second.at("Rollback"));
                return state == COWSNAP_ROLLBACK_RUNNING || state == COWSNAP_ROLLBACK_WAITING;
            });
        same("jobs of rollbacks",
             std::count_if(
                 listing_.jobs.begin(), listing_.jobs.end(),
                 [](const auto& job) { return !over(job.second) && copiesBack(job.second); }),
             going_back);
        build();
    }

    Random random_;
    NoLog no_log_;
    Contract contract_ = readContract();
    BusBed bed_;
    Random polkit_random_;
    FakePolkit polkit_;
    std::vector<std::unique_ptr<Client>> clients_;
    Listing listing_;
    std::vector<std::string> paths_;
    FuzzFigures figures_;
    std::string failure_;
    bool was_idle_ = false;
};

CallFuzzer::CallFuzzer(std::uint64_t seed) : world_(std::make_unique<World>(seed)) {}

CallFuzzer::~CallFuzzer() = default;

FuzzFigures CallFuzzer::run(std::uint64_t calls) {
    return world_->run(calls);
}

}  // namespace cowsnap::test
