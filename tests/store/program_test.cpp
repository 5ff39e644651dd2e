// SPDX-License-Identifier: GPL-2.0-or-later
// cowsnap-store as a program, on image files: exit codes, what it prints, what it refuses.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <linux/loop.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <nlohmann/json.hpp>

#include "base/file_descriptor.h"
#include "bed.h"
#include "terminal.h"

using namespace cowsnap;
using namespace cowsnap::store;
using namespace cowsnap::store::test;

namespace {

class Directory {
public:
    Directory() {
        std::string name = (std::filesystem::temp_directory_path() / "store-XXXXXX").string();
        if (::mkdtemp(name.data()) == nullptr)
            throw std::runtime_error("no directory for tests");
        path_ = name;
    }
    ~Directory() {
        std::error_code code;
        std::filesystem::remove_all(path_, code);
    }
    Directory(const Directory&) = delete;
    Directory& operator=(const Directory&) = delete;
    std::string operator/(const std::string& name) const { return (path_ / name).string(); }

private:
    std::filesystem::path path_;
};

std::string readFile(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

struct Ran {
    int code = -1;
    std::string output;
    std::string errors;
};

/// Runs the program without a terminal.
Ran run(const Directory& directory, const std::vector<std::string>& words) {
    const std::string output = directory / "out";
    const std::string errors = directory / "err";
    std::vector<std::string> all{COWSNAP_STORE};
    all.insert(all.end(), words.begin(), words.end());
    std::vector<char*> arguments;
    for (auto& word : all)
        arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = ::fork();
    if (child == 0) {
        const int null = ::open("/dev/null", O_RDONLY);
        const int out = ::open(output.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        const int err = ::open(errors.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (::dup2(null, 0) < 0 || ::dup2(out, 1) < 0 || ::dup2(err, 2) < 0)
            ::_exit(126);
        ::execv(arguments.front(), arguments.data());
        ::_exit(127);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, readFile(output), readFile(errors)};
}

/// Runs the program on a terminal, and types an answer when it has asked.
Ran runOnTerminal(const std::vector<std::string>& words, const std::string& answer = "") {
    std::vector<std::string> all{COWSNAP_STORE};
    all.insert(all.end(), words.begin(), words.end());
    cowsnap::test::OnTerminal program(all);
    if (!answer.empty()) {
        REQUIRE(program.waitFor("[y/N] "));
        program.type(answer + "\n");
    }
    Ran ran;
    ran.code = program.end();
    ran.output = program.output();
    return ran;
}

void save(const sim::World& world, const std::string& path, std::uint64_t first = 0,
          std::uint64_t count = ~0ULL) {
    std::ofstream file(path, std::ios::binary);
    std::array<char, kBlockBytes> block{};
    for (std::uint64_t i = first; i < world.store.size() && i - first < count; ++i) {
        world.store.read(i, 1, block.data());
        file.write(block.data(), block.size());
    }
}

/// An image of a store both copies of a block of whose segment table are damaged.
void saveWithDamagedTable(const std::string& path) {
    sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    const cow_super super = superOf(world);
    flip(world, super.region[0].table_block, 100);
    flip(world, super.region[0].table_block + 1, 100);
    save(world, path);
}

/// The words of each command that a document has under a line <!-- store: NAME -->, without the
/// program itself.
std::vector<std::vector<std::string>> documented(const std::string& document,
                                                 const std::string& name) {
    std::ifstream file(std::string(COWSNAP_SOURCE "/") + document);
    std::vector<std::vector<std::string>> commands;
    bool named = false;
    bool inside = false;
    for (std::string line; std::getline(file, line);) {
        if (inside && line != "```") {
            std::istringstream text(line.substr(0, line.find('#')));
            std::string word;
            REQUIRE(text >> word);
            CHECK(word == "cowsnap-store");
            commands.emplace_back();
            while (text >> word)
                commands.back().push_back(word);
        } else {
            inside = named && line == "```sh";
            named = line == "<!-- store: " + name + " -->";
        }
    }
    return commands;
}

}  // namespace

TEST_CASE("check exits with 0 or 8 and leaves the image as it was") {
    const Directory directory;
    sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    save(world, directory / "image");
    const std::string before = readFile(directory / "image");
    Ran ran = run(directory, {"check", directory / "image"});
    INFO(ran.output << ran.errors);
    CHECK(ran.code == 0);
    CHECK(ran.output.find("no damage was found") != std::string::npos);
    CHECK(run(directory, {"check", "--data", directory / "image"}).code == 0);
    CHECK(readFile(directory / "image") == before);

    const cow_super super = superOf(world);
    flip(world, super.region[0].table_block, 100);
    flip(world, super.region[0].table_block + 1, 100);
    save(world, directory / "image");
    ran = run(directory, {"check", directory / "image"});
    CHECK(ran.code == 8);
    CHECK(ran.output.find("damage: " + (directory / "image") + ": block " +
                          std::to_string(super.region[0].table_block) + ": segment table") !=
          std::string::npos);
    CHECK(ran.output.find("\"snap-20\"") != std::string::npos);
    const auto json =
        nlohmann::json::parse(run(directory, {"check", "--json", directory / "image"}).output);
    CHECK(json.at("version") == 1);
    CHECK_FALSE(json.at("passed").get<bool>());
    CHECK_FALSE(json.at("activates").get<bool>());
    CHECK(json.at("findings").at(0).at("block") == super.region[0].table_block);
}

TEST_CASE("a store on several devices is named by device and block") {
    const Directory directory;
    sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    const cow_super super = superOf(world);
    flip(world, super.region[0].table_block, 100);
    flip(world, super.region[0].table_block + 1, 100);
    const std::uint64_t split = super.region[0].table_block - 5;
    save(world, directory / "one", 0, split);
    save(world, directory / "two", split);
    const Ran ran = run(directory, {"check", directory / "one", directory / "two"});
    CHECK(ran.code == 8);
    CHECK(ran.output.find((directory / "two") + ": block 5: segment table") != std::string::npos);
    CHECK(run(directory, {"check", directory / "two"}).code == 3);
    std::ofstream(directory / "foreign") << std::string(1 << 20, 'x');
    for (const char* verb : {"check", "dump", "repair"}) {
        const Ran foreign =
            run(directory, {verb, directory / "one", directory / "two", directory / "foreign"});
        INFO(foreign.output << foreign.errors);
        CHECK(foreign.code == 2);
        CHECK(foreign.errors.find((directory / "foreign") + " is no device of the store") !=
              std::string::npos);
    }
    // without the second one the store is larger than what is there
    sim::World large = usedWorld(2, {Idle::Marked, 128, 200});
    save(large, directory / "one", 0, large.store.size() - 200);
    CHECK(run(directory, {"check", directory / "one"}).code == 8);
}

TEST_CASE("wrong words, missing and foreign files have exit codes of their own") {
    const Directory directory;
    std::ofstream(directory / "text") << std::string(20 << 20, 'x');
    CHECK(run(directory, {}).code == 2);
    CHECK(run(directory, {"check"}).code == 2);
    CHECK(run(directory, {"mend", "x"}).code == 2);
    CHECK(run(directory, {"check", "--fast", directory / "text"}).code == 2);
    CHECK(run(directory, {"check", directory / "none"}).code == 3);
    CHECK(run(directory, {"check", directory / "text"}).code == 3);
    CHECK(run(directory, {"check", "/dev/null"}).code == 2);
    CHECK(run(directory, {"check", directory / "text", directory / "text"}).code == 2);
    CHECK(run(directory, {"dump", directory / "text"}).code == 3);
    CHECK(run(directory, {"restore", directory / "new", "--input", directory / "text"}).code == 2);
    CHECK_FALSE(std::filesystem::exists(directory / "new"));
    const auto json =
        nlohmann::json::parse(run(directory, {"check", "--json", directory / "none"}).output);
    CHECK(json.at("error").at("name") == "NotFound");
}

TEST_CASE("repair asks, and without a terminal needs --yes") {
    const Directory directory;
    saveWithDamagedTable(directory / "image");
    const std::string before = readFile(directory / "image");
    Ran ran = run(directory, {"repair", "--dry-run", directory / "image"});
    CHECK(ran.code == 8);
    CHECK(ran.output.find("to drop: snapshot 20 (\"snap-20\")") != std::string::npos);
    ran = run(directory, {"repair", directory / "image"});
    CHECK(ran.code == 4);
    CHECK(ran.errors.find("--yes") != std::string::npos);
    CHECK(readFile(directory / "image") == before);
    ran = run(directory, {"repair", "--yes", directory / "image"});
    INFO(ran.output << ran.errors);
    CHECK(ran.code == 0);
    CHECK(run(directory, {"check", "--data", directory / "image"}).code == 0);
    ran = run(directory, {"repair", "--yes", directory / "image"});
    CHECK(ran.code == 0);
    CHECK(ran.output.find("nothing to repair") != std::string::npos);
}

TEST_CASE("repair --json is one document, which says whether the store was repaired") {
    const Directory directory;
    saveWithDamagedTable(directory / "image");
    const std::string before = readFile(directory / "image");
    const auto repair = [&](std::vector<std::string> options, int code) {
        options.insert(options.begin(), {"repair", "--json"});
        options.push_back(directory / "image");
        const Ran ran = run(directory, options);
        INFO(ran.output << ran.errors);
        CHECK(ran.code == code);
        CHECK(ran.errors.empty());
        return nlohmann::json::parse(ran.output);
    };
    auto json = repair({"--dry-run"}, 8);
    CHECK(json.at("version") == 1);
    CHECK(json.at("needed") == true);
    CHECK(json.at("repaired") == false);
    CHECK_FALSE(json.at("steps").empty());
    CHECK(json.at("dropped").size() == 8);
    CHECK(json.at("dropped").at(0).at("id") == 1);
    CHECK(json.at("dropped").at(0).at("name") == "snap-1");
    CHECK(json.at("before").at("passed") == false);
    CHECK(json.at("after").at("passed") == true);
    json = repair({}, 4);
    CHECK(json.at("error").at("name") == "NotAuthorized");
    CHECK(json.at("error").at("message").get<std::string>().find("--yes") != std::string::npos);
    CHECK(readFile(directory / "image") == before);
    json = repair({"--yes"}, 0);
    CHECK(json.at("repaired") == true);
    CHECK(json.at("dropped").size() == 8);
    json = repair({"--yes"}, 0);
    CHECK(json.at("needed") == false);
    CHECK(json.at("repaired") == false);
    CHECK(json.at("before").at("passed") == true);
}

TEST_CASE("restore --json counts what was restored, and names what is wrong") {
    const Directory directory;
    const sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    save(world, directory / "image");
    REQUIRE(run(directory, {"dump", directory / "image", "--output", directory / "dump"}).code ==
            0);
    REQUIRE(
        run(directory, {"dump", "--no-data", directory / "image", "--output", directory / "bare"})
            .code == 0);
    const auto restore = [&](const std::string& dump, int code) {
        const Ran ran =
            run(directory, {"restore", "--json", "--yes", directory / "copy", "--input", dump});
        INFO(ran.output << ran.errors);
        CHECK(ran.code == code);
        CHECK(ran.errors.empty());
        return nlohmann::json::parse(ran.output);
    };
    auto json = restore(directory / "dump", 0);
    CHECK(json.at("version") == 1);
    CHECK(json.at("with_data") == true);
    CHECK(json.at("segments").get<int>() > 0);
    CHECK(json.at("lost_snapshots") == 0);
    json = restore(directory / "bare", 0);
    CHECK(json.at("with_data") == false);
    CHECK(json.at("lost_snapshots").get<int>() > 0);
    json = restore(directory / "image", 2);
    CHECK(json.at("error").at("name") == "InvalidArgument");
}

TEST_CASE("on a terminal repair asks, and only yes is an answer") {
    const Directory directory;
    saveWithDamagedTable(directory / "image");
    const std::string before = readFile(directory / "image");
    for (const char* const no : {"n", "x", "yesterday"}) {
        const Ran ran = runOnTerminal({"repair", directory / "image"}, no);
        INFO(ran.output);
        CHECK(ran.output.find("snapshots and repair the store? [y/N] ") != std::string::npos);
        CHECK(ran.output.find("nothing was changed") != std::string::npos);
        CHECK(ran.code == 4);
        CHECK(readFile(directory / "image") == before);
    }
    const Ran ran = runOnTerminal({"repair", directory / "image"}, "yes");
    INFO(ran.output);
    CHECK(ran.code == 0);
    CHECK(run(directory, {"check", "--data", directory / "image"}).code == 0);
}

TEST_CASE("what README.md says to type about a damaged store repairs it and brings it back") {
    const Directory directory;
    const std::map<std::string, std::string> named{{"/dev/sdc", directory / "image"},
                                                   {"/dev/sdf", directory / "copy"},
                                                   {"store.json", directory / "dump"}};
    saveWithDamagedTable(directory / "image");
    const std::string before = readFile(directory / "image");
    std::ofstream(directory / "copy") << before;
    const auto commands = documented("README.md", "damaged");
    REQUIRE(commands.size() == 4);
    for (auto words : commands) {
        const std::string verb = words.front();
        for (auto& word : words)
            if (const auto other = named.find(word); other != named.end())
                word = other->second;
        const bool asks = verb == "repair" || verb == "restore";
        const Ran ran = runOnTerminal(words, asks ? "yes" : "");
        INFO(verb << ": " << ran.output);
        CHECK(ran.code == (verb == "check" ? 8 : 0));
    }
    CHECK(run(directory, {"check", "--data", directory / "image"}).code == 0);
    CHECK(readFile(directory / "image") != before);
    CHECK(run(directory, {"dump", directory / "copy"}).output == readFile(directory / "dump"));
}

TEST_CASE("the verbs and options that tools/store/README.md has are those of the program") {
    const Directory directory;
    const auto commands = documented("tools/store/README.md", "usage");
    REQUIRE(commands.size() == 4);
    for (const auto& words : commands) {
        const Ran help = run(directory, {words.front(), "--help"});
        INFO(words.front() << ": " << help.output << help.errors);
        CHECK(help.code == 0);
        for (const auto& word : words)
            if (const auto option = word.find("--"); option != std::string::npos)
                CHECK(help.output.find(word.substr(option, word.find(']') - option)) !=
                      std::string::npos);
    }
}

TEST_CASE("check --data shows its progress on a terminal, and nowhere else") {
    const Directory directory;
    const sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    save(world, directory / "image");
    Ran ran = runOnTerminal({"check", "--data", directory / "image"});
    INFO(ran.output);
    CHECK(ran.code == 0);
    CHECK(ran.output.find("checking data [#") != std::string::npos);
    CHECK(ran.output.find("100%") != std::string::npos);
    // and it is gone when the result is printed
    CHECK(ran.output.rfind("\x1b[K") < ran.output.find("no damage was found"));
    ran = run(directory, {"check", "--data", directory / "image"});
    CHECK(ran.errors.empty());
    CHECK(ran.output.find('#') == std::string::npos);
}

TEST_CASE("a store whose superblocks were overwritten is named, and repaired as a whole") {
    const Directory directory;
    sim::World world = usedWorld(2, {Idle::Settled, 128, 200});
    const std::vector<std::uint8_t> zero(32 * kBlockBytes);
    world.store.write(0, zero.data(), 32);
    save(world, directory / "image");
    Ran ran = run(directory, {"check", directory / "image"});
    INFO(ran.output << ran.errors);
    CHECK(ran.code == 8);
    CHECK(ran.output.find("block 16: superblock: copy 1: blank; touches snapshots ") !=
          std::string::npos);
    CHECK(run(directory, {"dump", directory / "image"}).code == 8);
    ran = run(directory, {"repair", "--yes", directory / "image"});
    CHECK(ran.code == 0);
    CHECK(ran.output.find("to drop") == std::string::npos);
    CHECK(run(directory, {"check", "--data", directory / "image"}).code == 0);
}

TEST_CASE("dump and restore make a file that dumps the same") {
    const Directory directory;
    const sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    save(world, directory / "image");
    CHECK(run(directory, {"dump", directory / "image", "--output", directory / "dump"}).code == 0);
    Ran ran = run(directory, {"restore", directory / "copy", "--input", directory / "dump"});
    INFO(ran.output << ran.errors);
    CHECK(ran.code == 0);
    CHECK(run(directory, {"check", "--data", directory / "copy"}).code == 0);
    ran = run(directory, {"dump", directory / "copy"});
    CHECK(ran.output == readFile(directory / "dump"));
    // what is there is not overwritten without being asked
    CHECK(run(directory, {"restore", directory / "image", "--input", directory / "dump"}).code ==
          4);
    CHECK(run(directory, {"restore", "--yes", directory / "image", "--input", directory / "dump"})
              .code == 0);
}

TEST_CASE("an image that a loop device uses is not written to") {
    const Directory directory;
    sim::World world = usedWorld(2, {Idle::Marked, 16, 200});
    flip(world, 0, 100);
    save(world, directory / "image");
    const FileDescriptor control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const int number = control ? ::ioctl(control.get(), LOOP_CTL_GET_FREE) : -1;
    const std::string device = "/dev/loop" + std::to_string(number);
    std::optional<FileDescriptor> loop(
        std::in_place, number < 0 ? -1 : ::open(device.c_str(), O_RDWR | O_CLOEXEC));
    const FileDescriptor image(::open((directory / "image").c_str(), O_RDWR | O_CLOEXEC));
    if (!*loop || ::ioctl(loop->get(), LOOP_SET_FD, image.get()) != 0) {
        WARN("this machine gives no loop device: not tested here");
        return;
    }
    const Ran ran = run(directory, {"repair", "--yes", directory / "image"});
    CHECK(ran.code == 5);
    CHECK(ran.errors.find(device) != std::string::npos);
    CHECK(run(directory, {"check", directory / "image"}).code == 0);
    // nor one that somebody has open for writing
    const Ran beside = run(directory, {"repair", "--yes", device});
    CHECK(beside.code == 5);
    CHECK(beside.errors.find("open for writing by") != std::string::npos);
    const FileDescriptor reader(::open(device.c_str(), O_RDONLY | O_CLOEXEC));
    loop.reset();
    const Ran on_device = run(directory, {"repair", "--yes", device});
    INFO(on_device.output << on_device.errors);
    CHECK(on_device.code == 0);
    CHECK(run(directory, {"check", device}).code == 0);
    ::ioctl(reader.get(), LOOP_CLR_FD);
}
