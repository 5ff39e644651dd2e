// SPDX-License-Identifier: GPL-2.0-or-later
// modprobe without a shell, and the version rule of proto/cowsnap_dm.h.
#include "dm/module.h"

#include <spawn.h>
#include <spdlog/spdlog.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "base/error.h"
#include "cowsnap_dm.h"
#include "dm/lib_device_mapper.h"

namespace cowsnap {

namespace {

/// Runs modprobe for dm-cow-snap. Failed says what modprobe did.
void loadModule() {
    std::string program = "modprobe";
    std::string module = "dm-cow-snap";
    std::array<char*, 3> arguments{program.data(), module.data(), nullptr};
    std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
    std::array<char*, 2> environment{path.data(), nullptr};
    pid_t child = 0;
    for (const char* const candidate : {"/usr/sbin/modprobe", "/sbin/modprobe"}) {
        if (::access(candidate, X_OK) != 0)
            continue;
        const int result = ::posix_spawn(&child, candidate, nullptr, nullptr, arguments.data(),
                                         environment.data());
        if (result != 0)
            failErrno(result, fmt::format("cannot run {}", candidate));
        int status = 0;
        while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {
        }
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
            utsname kernel{};
            ::uname(&kernel);
            fail(ErrorKind::Failed,
                 "\"modprobe {}\" failed: if the running kernel has no such module, install its "
                 "headers (linux-headers-{}) and run \"dkms autoinstall\"; if only its initramfs "
                 "has none, run \"update-initramfs -u -k all\"",
                 module, kernel.release);
        }
        return;
    }
    fail(ErrorKind::NotFound, "there is no modprobe to load the module {}", module);
}

}  // namespace

std::unique_ptr<DeviceMapper> openDeviceMapper() {
    if (::access("/sys/module/dm_cow_snap", F_OK) != 0) {
        try {
            loadModule();
        } catch (const Error& error) {
            spdlog::error("{}", error.what());
        }
    }
    return std::make_unique<LibDeviceMapper>();
}

void requireModule(DeviceMapper& mapper) {
    const auto version = mapper.targetVersion(COWSNAP_TARGET_STORE);
    if (!version)
        fail(ErrorKind::NotSupported,
             "the kernel module is not loaded: run \"modprobe dm-cow-snap\"");
    if (version->major != COWSNAP_DM_VERSION_MAJOR)
        fail(ErrorKind::NotSupported,
             "the kernel module has version {}.{}.{}, this program needs {}.x: install parts of "
             "one version",
             version->major, version->minor, version->patch, COWSNAP_DM_VERSION_MAJOR);
}

bool canWatch(DeviceMapper& mapper) {
    const auto version = mapper.targetVersion(COWSNAP_TARGET_ORIGIN);
    return version && version->minor >= 3;
}

namespace {

void requireMinor(DeviceMapper& mapper, unsigned minor, std::string_view what,
                  std::string_view else_do) {
    requireModule(mapper);
    const auto version = mapper.targetVersion(COWSNAP_TARGET_ORIGIN);
    if (!version || version->minor < minor)
        fail(ErrorKind::NotSupported,
             "the kernel module has version {}.{}.{}, {} needs {}.{}: install parts of one version "
             "and load the module again{}",
             version ? version->major : 0, version ? version->minor : 0,
             version ? version->patch : 0, what, COWSNAP_DM_VERSION_MAJOR, minor, else_do);
}

}  // namespace

void requireInterposing(DeviceMapper& mapper) {
    requireMinor(mapper, 1, "interposing a device in use",
                 ", or stack the origin over the device while nobody uses it");
}

void requireRollback(DeviceMapper& mapper) {
    requireMinor(mapper, 2, "rolling back", "");
}

}  // namespace cowsnap
