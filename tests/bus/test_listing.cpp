// SPDX-License-Identifier: GPL-2.0-or-later
// All snapshots in one answer: a sealed file, with what the properties say.
#include <catch2/catch.hpp>

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>

#include <nlohmann/json.hpp>

#include "base/sealed_file.h"
#include "bus_bed.h"

using namespace cowsnap;
using namespace cowsnap::test;
using nlohmann::json;

namespace {

FileDescriptor listingOf(BusBed& bed) {
    return bed.call(kRoot, kManager, "ListSnapshots", nullptr).readFile();
}

json asJson(const Value& value) {
    if (const auto* const object = std::get_if<ObjectPath>(&value))
        return object->path;
    return std::visit(
        [](const auto& plain) {
            using Plain = std::decay_t<decltype(plain)>;
            if constexpr (std::is_same_v<Plain, ObjectPath> ||
                          std::is_same_v<Plain, std::vector<ObjectPath>>)
                return json("no property of these has this type");
            else
                return json(plain);
        },
        value);
}

void checkSame(const json& element, const Dictionary& properties) {
    CHECK(element.size() == properties.size() + 1);  // and the path
    for (const auto& [name, value] : properties) {
        INFO(name);
        CHECK(element.at(name) == asJson(value));
    }
}

}  // namespace

TEST_CASE("the list of snapshots is a file with what the properties say, that nobody can change") {
    BusBed bed;
    const std::string store = bed.createStore();
    const ObjectPath origin{bed.attach("/dev/one", store)};
    const auto first =
        bed.createSnapshots({{origin, "gr\xc3\xb6\xc3\x9f\"e\\"}},
                            {{"tags", std::vector<std::string>{"x", "y"}}, {"writable", true}});
    const auto second = bed.createSnapshots({{origin, "b"}});
    const FileDescriptor file = listingOf(bed);
    const std::string text = readSealedFile(file);
    std::string read(text.size(), '\0');
    // Also for who just reads on.
    CHECK(::read(file.get(), read.data(), read.size()) == static_cast<ssize_t>(text.size()));
    CHECK(read == text);
    CHECK(::pwrite(file.get(), "x", 1, 0) == -1);
    CHECK(errno == EPERM);
    CHECK(::ftruncate(file.get(), 1) == -1);

    const json document = json::parse(text);
    CHECK(document.at("schema") == 1);
    REQUIRE(document.at("stores").size() == 1);
    REQUIRE(document.at("origins").size() == 1);
    REQUIRE(document.at("snapshots").size() == 2);
    checkSame(document.at("stores").at(0), bed.properties(store, kStore));
    checkSame(document.at("origins").at(0), bed.properties(origin.path, kOrigin));
    std::vector<std::string> paths;
    for (const auto& element : document.at("snapshots")) {
        paths.push_back(element.at("Path").get<std::string>());
        checkSame(element, bed.properties(paths.back(), kSnapshot));
    }
    CHECK(contains(paths, first.front().path));
    CHECK(contains(paths, second.front().path));
}

TEST_CASE("a file that is not sealed is not taken for the list") {
    const FileDescriptor file(::memfd_create("open", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    REQUIRE(file);
    CHECK(refusalOf([&] { readSealedFile(file); }).kind == ErrorKind::Failed);
    CHECK(readSealedFile(makeSealedFile("empty", "")).empty());
}

TEST_CASE("snapd-cli list shows what the list says") {
    BusBed bed;
    const ObjectPath origin{bed.attach("/dev/one", bed.createStore())};
    bed.createSnapshots({{origin, "a"}}, {{"tags", std::vector<std::string>{"x"}}});
    const CliResult listed =
        runCli({"list", "--no-headings", "-o", "name,origin,store,tags,writable,size", "--bytes"});
    INFO(listed.errors);
    CHECK(listed.code == 0);
    CHECK(listed.output == "a  one  main  x  no  104857600\n");
}
