// SPDX-License-Identifier: GPL-2.0-or-later
// Stores that cannot be used: what the message says to type is typed, with the real cowsnap-store
// on images of what the fake machine's disks stand for; and closing one.
#include <catch2/catch.hpp>

#include <array>
#include <filesystem>
#include <fstream>

#include "assembly/store_header.h"
#include "bus_bed.h"
#include "recorded_log.h"
#include "store/blocks.h"
#include "store/engine.h"

using namespace cowsnap;
using namespace cowsnap::test;
using Catch::Contains;

namespace {

constexpr const char* kFirst = "/dev/store";
constexpr const char* kSecond = "/dev/it's $(touch no) b";

std::vector<std::string> wordsBetweenQuotes(const std::string& text) {
    std::vector<std::string> words;
    for (std::size_t begin = text.find('"'); begin != std::string::npos;) {
        const auto end = text.find('"', begin + 1);
        words.push_back(text.substr(begin + 1, end - begin - 1));
        begin = end == std::string::npos ? end : text.find('"', end + 1);
    }
    return words;
}

/// A store on two devices, one of which has a name that a shell does not leave alone, with an
/// origin; and the images, with a real store of the same UUID, both of whose slots are damaged.
struct RepairBed : RecordedLog, BusBed {
    std::filesystem::path programs = directory.path() / "programs";
    std::filesystem::path images = directory.path() / "images";

    RepairBed() {
        machine.addDisk(kSecond, kStoreSectors, "second");
        const CliResult made = runCli({"store", "create", kFirst, kSecond, "--name", "main"});
        INFO(made.errors);
        REQUIRE(made.code == 0);
        REQUIRE(runCli({"origin", "attach", "/dev/one", "--boot-policy", "fail-closed"}).code == 0);
        REQUIRE(runCli({"create", "one", "--name", "a"}).code == 0);
        makeImages();
        makePrograms();
    }

    /// The daemon ends, and both copies of the metadata are damaged.
    void damage() {
        stopDaemon();
        machine.damageSlot(0);
        machine.damageSlot(1);
    }

    static std::string problem() {
        const CliResult shown = runCli({"store", "list", "-o", "problem", "--no-headings"});
        return shown.output.substr(0, shown.output.find('\n'));
    }

    /// As a shell does it. dmsetup is the fake machine's.
    void type(const std::string& command) {
        INFO(command);
        constexpr std::string_view remove = "dmsetup remove ";
        if (command.starts_with(remove)) {
            machine.remove(command.substr(remove.size()), Visibility::Hidden);
            return;
        }
        const CliResult result =
            runProgram({"bash", "-c", "PATH=" + programs.string() + ":$PATH; " + command});
        INFO(result.output << result.errors);
        REQUIRE(result.code == 0);
        if (command.starts_with("cowsnap-store repair"))
            takeOverSlots();
    }

private:
    std::string imageOf(const std::string& device) const {
        return (images / std::filesystem::path(device).filename()).string();
    }

    void makeImages() {
        std::filesystem::create_directory(images);
        for (const char* const device : {kFirst, kSecond}) {
            std::ofstream(imageOf(device)).close();
            std::filesystem::resize_file(imageOf(device), kStoreSectors * kSectorBytes);
        }
        const auto header = readStoreHeader(machine, kFirst);
        REQUIRE(header);
        store::DeviceBlocks blocks({imageOf(kFirst), imageOf(kSecond)},
                                   store::DeviceBlocks::Access::ReadWrite);
        store::Engine engine(blocks);
        std::array<char, COW_WHY_BYTES> why{};
        constexpr std::uint32_t segment_blocks = 256;
        REQUIRE(cow_store_format(&engine.get(), blocks.size(), segment_blocks,
                                 reinterpret_cast<const std::uint8_t*>(header->uuid.bytes().data()),
                                 why.data()) == 0);
        const std::vector<std::byte> rubbish(store::kBlockBytes, std::byte{0x5a});
        for (const std::uint64_t slot : {0, 1})
            REQUIRE(blocks.write(slotBlock(engine.get().super, slot), 1, rubbish.data()) == 0);
    }

    static std::uint64_t slotBlock(const cow_super& super, std::uint64_t slot) {
        return super.slot_block + slot * super.slot_blocks;
    }

    /// In front of those of this machine: cowsnap-store on the images. It asks, and is answered.
    void makePrograms() const {
        std::filesystem::create_directory(programs);
        const auto program = programs / "cowsnap-store";
        std::ofstream(program) << "#!/bin/bash\nwords=()\nfor word; do\n"
                               << "[[ $word != /dev/* ]] || word=" << images.string()
                               << "/${word##*/}\nwords+=(\"$word\")\ndone\nexec "
                               << COWSNAP_STORE_PROGRAM << " \"${words[@]}\" --yes\n";
        std::filesystem::permissions(program, std::filesystem::perms::owner_all);
        std::filesystem::create_symlink(COWSNAP_CLI, programs / "snapd-cli");
    }

    /// What was written to the slots of the images is what the fake machine's disks have.
    void takeOverSlots() {
        store::DeviceBlocks blocks({imageOf(kFirst), imageOf(kSecond)},
                                   store::DeviceBlocks::Access::ReadOnly);
        store::Engine engine(blocks);
        REQUIRE(engine.probe() == 0);
        constexpr std::uint64_t slot_bytes = kSlotSectors * kSectorBytes;
        std::vector<std::byte> slot(slot_bytes);
        for (const std::uint64_t number : {0, 1}) {
            REQUIRE(blocks.read(slotBlock(engine.get().super, number),
                                slot_bytes / store::kBlockBytes, slot.data()) == 0);
            machine.write(kFirst, kSlotBlock * store::kBlockBytes + number * slot_bytes, slot);
        }
    }
};

}  // namespace

TEST_CASE("what a store with damaged metadata says to type is typed as it stands, and mends it") {
    RepairBed bed;
    bed.damage();
    const bool in_use = GENERATE(false, true);
    if (!in_use)
        bed.machine.reboot();
    bed.startDaemon();
    const std::string problem = RepairBed::problem();
    INFO(problem);
    CHECK_THAT(problem, Contains("both metadata slots"));
    const auto commands = wordsBetweenQuotes(problem);
    REQUIRE(commands.size() == (in_use ? 5 : 2));
    if (in_use) {
        CHECK_THAT(problem, Contains("Unmount what is mounted from"));
        CHECK(commands[0] == "dmsetup remove cowsnap-one");
    } else {
        // Nothing of the daemon's is on the devices that cowsnap-store wants for itself.
        CHECK(bed.machine.mappedNames().empty());
    }
    for (const auto& command : commands)
        bed.type(command);
    const CliResult stores = runCli({"store", "list", "-o", "name,state", "--no-headings"});
    CHECK(stores.output == "main  active\n");
    const CliResult origins = runCli({"origin", "list", "-o", "name,state", "--no-headings"});
    CHECK(origins.output == "one  attached\n");
    bed.type("cowsnap-store check /dev/store \"/dev/it's \\$(touch no) b\"");
}

TEST_CASE("a store that cannot be used is closed only if that is insisted on, and not in silence") {
    RepairBed bed;
    bed.damage();
    SECTION("what stands on it keeps it") {
        bed.startDaemon();
        const CliResult refused = runCli({"store", "close", "main", "--force", "--yes"});
        CHECK(refused.code == 5);
        CHECK_THAT(refused.errors, Contains("dmsetup remove cowsnap-one"));
        CHECK(contains(bed.machine.mappedNames(), "cowsnap-one"));
    }
    SECTION("else the boot holds nothing back for it any more") {
        bed.machine.reboot();
        bed.startDaemon();
        const StoreRegistry registry(bed.directory.path() / "state");
        const CliResult refused = runCli({"store", "close", "main", "--yes"});
        INFO(refused.errors);
        CHECK(refused.code == 5);
        CHECK_THAT(refused.errors, Contains("the boot holds back one for it") &&
                                       Contains("snapd-cli store close main --force"));
        REQUIRE(registry.read().size() == 1);
        CHECK(registry.read().front().closed.size() == 1);
        const CliResult closed = runCli({"store", "close", "main", "--force", "--yes"});
        INFO(closed.errors);
        CHECK(closed.code == 0);
        CHECK(registry.read().empty());
        const auto warned = bed.with("the boot does not hold back one of the store main any more");
        REQUIRE(warned.size() == 1);
        CHECK(warned[0].level == spdlog::level::warn);
    }
}

TEST_CASE("prune ends with 7 if a store cannot be looked at, and names it") {
    RepairBed bed;
    REQUIRE(runCli({"store", "create", "/dev/spare", "--name", "other"}).code == 0);
    REQUIRE(runCli({"create", "/dev/two", "--store", "other", "--name", "old", "--expires",
                    "1971-01-01"})
                .code == 0);
    bed.stopDaemon();
    bed.machine.reboot();
    bed.machine.renameDisk(kFirst, "/dev/away");
    bed.machine.setSerial("/dev/away", "");
    bed.startDaemon();
    const CliResult look = runCli({"prune", "--dry-run", "-o", "action,name", "--no-headings"});
    INFO(look.errors);
    CHECK(look.code == 7);
    CHECK_THAT(look.output, Contains("failed  main\n") && Contains("delete  old\n"));
    const CliResult pruned = runCli({"prune", "--yes"});
    CHECK(pruned.code == 7);
    CHECK_THAT(pruned.errors, Contains("not deleted: main (the store cannot be used: ") &&
                                  Contains("deleted: old"));
    CHECK(runCli({"prune", "--yes"}).code == 7);
}
