// SPDX-License-Identifier: GPL-2.0-or-later
// stores.json: written to a temporary file, synced, renamed, directory synced.
#include "meta/registry.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <sstream>

#include "base/error.h"
#include "base/file_descriptor.h"
#include "meta/metadata.h"

namespace cowsnap {

namespace {

using nlohmann::json;

constexpr int kRegistrySchema = 1;
constexpr const char* kFileName = "stores.json";

void writeAll(int descriptor, std::string_view text, const std::string& path) {
    while (!text.empty()) {
        const ssize_t count = ::write(descriptor, text.data(), text.size());
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            failErrno(errno, fmt::format("cannot write {}", path));
        text.remove_prefix(static_cast<std::size_t>(count));
    }
}

void syncDirectory(const std::filesystem::path& directory) {
    const FileDescriptor descriptor(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!descriptor || ::fsync(descriptor.get()) != 0)
        failErrno(errno, fmt::format("cannot sync the directory {}", directory.string()));
}

}  // namespace

std::vector<RegisteredStore> StoreRegistry::read() const {
    const auto path = directory_ / kFileName;
    std::ifstream file(path);
    if (!file) {
        std::error_code code;
        if (!std::filesystem::exists(path, code) && !code)
            return {};
        fail(ErrorKind::Failed, "cannot read {}", path.string());
    }
    std::ostringstream text;
    text << file.rdbuf();
    std::vector<RegisteredStore> stores;
    try {
        const json document = json::parse(text.str());
        if (document.at("schema").get<int>() != kRegistrySchema)
            fail(ErrorKind::NotSupported, "{} has another version than {}: update cowsnap",
                 path.string(), kRegistrySchema);
        for (const auto& entry : document.at("stores")) {
            const auto uuid = Uuid::parse(entry.at("uuid").get<std::string>());
            if (!uuid)
                fail(ErrorKind::Failed, "{} names a store by something that is no UUID",
                     path.string());
            RegisteredStore store{*uuid, entry.at("name").get<std::string>(), {}};
            for (const auto& device : entry.at("devices"))
                store.devices.push_back(deviceIdentityFromJson(device));
            stores.push_back(std::move(store));
        }
    } catch (const json::exception& error) {
        fail(ErrorKind::Failed,
             "cannot understand {} ({}); it can be deleted, then open the stores again",
             path.string(), error.what());
    }
    return stores;
}

void StoreRegistry::put(const RegisteredStore& store) const {
    auto stores = read();
    const auto found = std::find_if(stores.begin(), stores.end(),
                                    [&](const auto& known) { return known.uuid == store.uuid; });
    if (found == stores.end())
        stores.push_back(store);
    else
        *found = store;
    write(stores);
}

void StoreRegistry::remove(const Uuid& uuid) const {
    auto stores = read();
    std::erase_if(stores, [&](const auto& store) { return store.uuid == uuid; });
    write(stores);
}

void StoreRegistry::write(const std::vector<RegisteredStore>& stores) const {
    json entries = json::array();
    for (const auto& store : stores) {
        json devices = json::array();
        for (const auto& device : store.devices)
            devices.push_back(toJson(device));
        entries.push_back(
            {{"uuid", store.uuid.dashed()}, {"name", store.name}, {"devices", devices}});
    }
    const json document = {{"schema", kRegistrySchema}, {"stores", entries}};
    std::filesystem::create_directories(directory_);
    const auto path = directory_ / kFileName;
    const std::string temporary = path.string() + ".new";
    {
        const FileDescriptor descriptor(
            ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR));
        if (!descriptor)
            failErrno(errno, fmt::format("cannot write {}", temporary));
        writeAll(descriptor.get(),
                 document.dump(2, ' ', false, json::error_handler_t::replace) + "\n", temporary);
        if (::fsync(descriptor.get()) != 0)
            failErrno(errno, fmt::format("cannot sync {}", temporary));
    }
    if (::rename(temporary.c_str(), path.c_str()) != 0)
        failErrno(errno, fmt::format("cannot rename {}", temporary));
    syncDirectory(directory_);
}

}  // namespace cowsnap
