// SPDX-License-Identifier: GPL-2.0-or-later
// Callers of whom one cannot choose what and how many they are: random calls in a short form, and
// many clients at once.
#include <catch2/catch.hpp>

#include <algorithm>
#include <mutex>
#include <random>
#include <set>
#include <thread>

#include "bus_bed.h"
#include "call_fuzzer.h"

using namespace cowsnap;
using namespace cowsnap::test;

namespace {

constexpr std::uint64_t kTimeoutUs = 120ULL * 1000 * 1000;

/// Creates, looks at, lists and deletes snapshots of its own, and says what was wrong.
class Client {
public:
    Client(unsigned number, std::string origin) : number_(number), origin_(std::move(origin)) {}

    std::vector<std::string> run(unsigned rounds) {
        for (unsigned round = 0; round < rounds; ++round) {
            const std::string name = fmt::format("c{}-{}", number_, round);
            const auto made = create(name);
            expect(made.size() == 1, "create " + name);
            if (made.size() != 1)
                return wrong_;
            expect(nameOf(made.front()) == name, "the name of " + name);
            expect(listed().contains(made.front().path), name + " is not listed");
            remove(made.front());
            expect(!listed().contains(made.front().path), name + " is still listed");
        }
        return wrong_;
    }

private:
    void expect(bool holds, const std::string& what) {
        if (!holds)
            wrong_.push_back(what);
    }

    Message call(const std::string& path, const std::string& interface, const std::string& member,
                 const std::function<void(Message&)>& append) {
        Message message = bus_.newMethodCall("org.cowsnap1", path, interface, member);
        append(message);
        try {
            return bus_.call(message, kTimeoutUs);
        } catch (const CallError& error) {
            wrong_.push_back(member + ": " + error.name() + ": " + error.what());
            return {};
        }
    }

    std::vector<ObjectPath> create(const std::string& name) {
        Message answer = call(kRoot, kManager, "CreateSnapshots", [&](Message& message) {
            message.append(std::vector<std::pair<ObjectPath, std::string>>{{{origin_}, name}});
            message.append(Dictionary{});
        });
        return answer ? answer.readObjectPaths() : std::vector<ObjectPath>();
    }

    std::string nameOf(const ObjectPath& snapshot) {
        Message answer = call(snapshot.path, "org.freedesktop.DBus.Properties", "GetAll",
                              [](Message& message) { message.append(Value(kSnapshot)); });
        return answer ? std::get<std::string>(answer.readKnown().at("Name")) : std::string();
    }

    void remove(const ObjectPath& snapshot) {
        call(snapshot.path, kSnapshot, "Delete",
             [](Message& message) { message.append(Dictionary{}); });
    }

    std::set<std::string> listed() {
        Message answer =
            call(kRoot, "org.freedesktop.DBus.ObjectManager", "GetManagedObjects", [](Message&) {});
        std::set<std::string> paths;
        if (!answer)
            return paths;
        answer.enter('a', "{oa{sa{sv}}}");
        while (answer.enter('e', "oa{sa{sv}}")) {
            paths.insert(answer.readObjectPath().path);
            answer.skip("a{sa{sv}}");
            answer.exit();
        }
        return paths;
    }

    unsigned number_;
    std::string origin_;
    Bus bus_ = Bus::openSystem();
    std::vector<std::string> wrong_;
};

}  // namespace

TEST_CASE("random calls are answered and leave the daemon in order") {
    const std::uint64_t seed = std::random_device()();
    INFO("seed " << seed << ": fuzz-calls --calls 3000 --seed " << seed);
    CallFuzzer fuzzer(seed);
    FuzzFigures figures;
    REQUIRE_NOTHROW(figures = fuzzer.run(3000));
    // Or it would not be the daemon that was called.
    CHECK(figures.succeeded > 100);
    CHECK(figures.errors["org.cowsnap1.Error.InvalidArgument"] > 100);
    CHECK(figures.errors["org.cowsnap1.Error.NotAuthorized"] > 50);
    CHECK(figures.errors["org.freedesktop.DBus.Error.PropertyReadOnly"] > 20);
    CHECK(figures.most_snapshots > 0);
}

TEST_CASE("64 clients at once get right answers") {
    BusBed bed;
    const std::string origin = bed.attach("/dev/one", bed.createStore());
    const auto stays = bed.createSnapshots({{{origin}, "stays"}});
    std::mutex mutex;
    std::vector<std::string> wrong;
    std::vector<std::thread> threads;
    for (unsigned number = 0; number < 64; ++number)
        threads.emplace_back([&, number] {
            const auto of_client = Client(number, origin).run(4);
            const std::lock_guard lock(mutex);
            wrong.insert(wrong.end(), of_client.begin(), of_client.end());
        });
    for (auto& thread : threads)
        thread.join();
    CHECK(wrong.empty());
    for (const auto& what : wrong)
        FAIL_CHECK(what);
    CHECK(bed.machine.snapshotIds().size() == 1);
    CHECK(std::get<std::string>(bed.properties(stays.front().path, kSnapshot).at("Name")) ==
          "stays");
}
