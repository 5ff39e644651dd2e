// SPDX-License-Identifier: GPL-2.0-or-later
// The table.
#include "bus/permissions.h"

#include "model/published.h"

namespace cowsnap {

const std::map<std::pair<std::string, std::string>, std::string_view>& neededActions() {
    static const std::map<std::pair<std::string, std::string>, std::string_view> actions{
        {{kManagerInterface, "CreateStore"}, kActionManageStore},
        // It has the daemon look into each device.
        {{kManagerInterface, "ListStoreCandidates"}, kActionManageStore},
        {{kManagerInterface, "OpenStore"}, kActionManageStore},
        {{kManagerInterface, "Attach"}, kActionManageStore},
        {{kManagerInterface, "CreateSnapshots"}, kActionCreate},
        {{kManagerInterface, "DeleteSnapshots"}, kActionDelete},
        {{kManagerInterface, "HoldSnapshots"}, kActionModify},
        {{kManagerInterface, "ReleaseSnapshots"}, kActionModify},
        {{kManagerInterface, "Prune"}, kActionDelete},
        {{kManagerInterface, "GetMetrics"}, kNoAction},
        // It makes the kernel and the daemon work, so not everybody may.
        {{kManagerInterface, "Refresh"}, kActionManageDaemon},
        {{kManagerInterface, "ListJobs"}, kNoAction},
        {{kManagerInterface, "ListSnapshots"}, kNoAction},
        {{kManagerInterface, "Reload"}, kActionManageDaemon},
        {{kManagerInterface, "SetLogLevel"}, kActionManageDaemon},
        {{kStoreInterface, "Extend"}, kActionManageStore},
        {{kStoreInterface, "SetAutoextend"}, kActionManageStore},
        {{kStoreInterface, "Check"}, kActionManageStore},
        {{kStoreInterface, "Close"}, kActionManageStore},
        {{kOriginInterface, "Detach"}, kActionManageStore},
        {{kOriginInterface, "CancelRollback"}, kActionRollback},
        {{kOriginInterface, "SetBootPolicy"}, kActionManageStore},
        {{kSnapshotInterface, "Delete"}, kActionDelete},
        {{kSnapshotInterface, "Rename"}, kActionModify},
        {{kSnapshotInterface, "SetDescription"}, kActionModify},
        {{kSnapshotInterface, "SetTags"}, kActionModify},
        {{kSnapshotInterface, "ChangeTags"}, kActionModify},
        {{kSnapshotInterface, "SetExpiry"}, kActionModify},
        {{kSnapshotInterface, "Hold"}, kActionModify},
        {{kSnapshotInterface, "Release"}, kActionModify},
        {{kSnapshotInterface, "Rollback"}, kActionRollback},
        {{kSnapshotInterface, "Activate"}, kActionActivate},
        {{kSnapshotInterface, "Deactivate"}, kActionActivate},
        {{kJobInterface, "Cancel"}, kActionCancelJob},
    };
    return actions;
}

}  // namespace cowsnap
