// SPDX-License-Identifier: GPL-2.0-or-later
#include "model/told_events.h"

#include <spdlog/spdlog.h>

#include <charconv>

#include "base/durable_file.h"
#include "base/error.h"

namespace cowsnap {

std::filesystem::path ToldEvents::fileOf(const Uuid& store) const {
    return directory_ / fmt::format("told-{}", store.dashed());
}

std::uint64_t ToldEvents::last(const Uuid& store) const {
    try {
        const std::string text = readIfThere(fileOf(store)).value_or("0\n");
        std::uint64_t number = 0;
        const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), number);
        if (code == std::errc() && std::string_view(end) == "\n")
            return number;
        spdlog::warn("{} is no number: all events that the kernel remembers are told again",
                     fileOf(store).string());
    } catch (const Error& error) {
        spdlog::warn("all events that the kernel remembers are told again: {}", error.what());
    }
    return 0;
}

void ToldEvents::put(const Uuid& store, std::uint64_t last) const {
    try {
        writeDurably(fileOf(store), fmt::format("{}\n", last));
    } catch (const Error& error) {
        spdlog::warn("the next daemon will tell events again: {}", error.what());
    }
}

void ToldEvents::forget(const Uuid& store) const {
    try {
        removeDurably(fileOf(store));
    } catch (const Error& error) {
        spdlog::warn("the next daemon may not tell events: {}", error.what());
    }
}

}  // namespace cowsnap
