// SPDX-License-Identifier: GPL-2.0-or-later
#include "meta/backups.h"

#include <algorithm>
#include <system_error>

#include "base/durable_file.h"
#include "base/error.h"

namespace cowsnap {

namespace {

constexpr std::string_view kSuffix = ".json";

/// So many digits that names are in the order of generations.
std::string nameOf(std::uint64_t generation) {
    return fmt::format("{:020}{}", generation, kSuffix);
}

}  // namespace

void MetadataBackups::put(const Uuid& store, std::uint64_t generation, const std::string& body,
                          std::size_t kept) const {
    if (kept == 0)
        return;
    writeDurably(directory_ / store.dashed() / nameOf(generation), body + "\n");
    auto files = list(store);
    // A store that was made anew from an older state has higher numbers from before.
    std::erase_if(files, [&](const auto& file) { return file.filename() == nameOf(generation); });
    for (std::size_t i = kept - 1; i < files.size(); ++i)
        removeDurably(files[i]);
}

std::vector<std::filesystem::path> MetadataBackups::list(const Uuid& store) const {
    std::vector<std::filesystem::path> files;
    std::error_code code;
    for (const auto& entry : std::filesystem::directory_iterator(directory_ / store.dashed(), code))
        if (entry.path().extension() == kSuffix)
            files.push_back(entry.path());
    if (code && code != std::errc::no_such_file_or_directory)
        fail(ErrorKind::Failed, "cannot read {}: {}", (directory_ / store.dashed()).string(),
             code.message());
    std::sort(files.rbegin(), files.rend());
    return files;
}

}  // namespace cowsnap
