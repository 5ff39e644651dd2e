// SPDX-License-Identifier: GPL-2.0-or-later
// What the boot does with fail-closed origins that are not attached. Knows nothing of D-Bus.
//
// Who knows the policy, and since when:
//
//   the store's metadata       the authority, once the store runs (schema 4)
//   stores.json, "fail_closed" what the metadata said last: the daemon writes it whenever that
//   changes. It is all there is
//                              while the store cannot be read. The initramfs has a copy of when it
//                              was made
//   withheld.json in /run      which of them are not attached, and why: of this boot alone. udev's
//   rule and the scripts of
//                              the initramfs ask it, by "cowsnap-activate --withheld DEVICE"
//
// A fail-closed origin is in one of these states:
//
//   withheld  its device, and what stands on it, is not SYSTEMD_READY: nothing mounts or assembles
//   it by itself released  its cow-origin is there, or this boot does not ask for that
//
//   initramfs     cowsnap-activate attaches, or withholds. If what is to be the root file system
//   stands on a withheld origin
//                 the boot stops with a shell, and tries again when that is left. Others are the
//                 real system's affair
//   before udevd  cowsnap-withhold.service withholds all that stores.json has and that are not
//   attached sysinit       cowsnap-activate.service attaches: released; or says why not: withheld
//   on. Mounts wait for their time
//                 limit and fail
//   later         the daemon attaches (its start, "origin attach", "store open"): released
//
// What can fail, and what comes of it:
//
//   the kernel has no module, the store's device is missing or damaged, its metadata cannot be
//   read:
//                         what stores.json has is withheld
//   the store runs, the origin's device is missing, another one, or refused by the kernel: what the
//   metadata has is withheld stores.json says otherwise than metadata that can be read: the
//   metadata is right the root file system is mounted (without an initramfs of cowsnap's): it is
//   not withheld; that would come too late and
//                         keep the machine from starting
//   stores.json cannot be understood, or is an older copy without the entry, and the store cannot
//   be read: nobody knows of
//                         the policy; the boot goes on, and the log tells what failed
//   withheld.json cannot be written: as that; it is in a file system in memory
//   it cannot be read, or the root file system's device is not found while it is there: the
//   initramfs mounts nothing
//   cowsnap.policy=fail-open on the kernel's command line: nothing is withheld in this boot
#ifndef COWSNAP_ASSEMBLY_BOOT_POLICY_H
#define COWSNAP_ASSEMBLY_BOOT_POLICY_H

#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "block/block_devices.h"
#include "dm/device_mapper.h"
#include "meta/metadata.h"
#include "meta/registry.h"

namespace cowsnap {

inline constexpr std::string_view kDefaultRunDirectory = "/run/cowsnap";

/// The word on the kernel's command line by which all origins are fail-open in that boot.
inline constexpr std::string_view kFailOpenWord = "cowsnap.policy=fail-open";
bool failsOpenNow(std::string_view kernel_command_line);

/// Whether the boot must not mount the device of this origin without it: as its policy says, and
/// while a rollback copies back, as the device is in neither state then.
bool closedAtBoot(const OriginRecord& origin);
/// The origins of which that is true.
std::vector<ClosedOrigin> closedAtBoot(const Metadata& metadata);
/// Those whose policy says so: what the registry has.
std::vector<ClosedOrigin> failClosedOrigins(const Metadata& metadata);

struct WithheldOrigin {
    ClosedOrigin origin;
    std::string reason;
};
/// What is said of it, in one line.
std::string withheldText(const WithheldOrigin& withheld);
/// How to go on.
inline constexpr std::string_view kWithheldAdvice =
    "mend that, and start again; or add cowsnap.policy=fail-open to the kernel's command line to "
    "start once all the same: then the snapshots of what is written are stale";

/// Those of closed that have no cow-origin among mapped, each with its reason.
std::vector<WithheldOrigin> notAttached(
    const std::vector<ClosedOrigin>& closed, const std::vector<MappedDevice>& mapped,
    const std::function<std::string(const ClosedOrigin&)>& reasonOf);

/// withheld.json, which is there only if an origin is withheld.
class WithheldOrigins {
public:
    explicit WithheldOrigins(const std::filesystem::path& directory)
        : path_(directory / "withheld.json") {}

    /// Failed if the file is not understood.
    std::vector<WithheldOrigin> read() const;
    void write(const std::vector<WithheldOrigin>& withheld) const;

private:
    std::filesystem::path path_;
};

/// The withheld origin that the device at path is, or stands on; nothing if there is none, or if
/// the root file system, which is mounted from the device root, stands on it. The path may be that
/// of a cow-origin that is not there. links are more links to the device than /dev has yet.
std::optional<WithheldOrigin> withheldBelow(BlockDevices& devices,
                                            const std::vector<WithheldOrigin>& withheld,
                                            const std::string& path,
                                            const std::set<std::string>& links,
                                            std::optional<DeviceNumber> root);

/// Has udev look again at the device of an origin that was attached, if it may be withheld.
void releaseOrigin(BlockDevices& devices, const OriginRecord& origin, const BlockDevice& device);

}  // namespace cowsnap

#endif
