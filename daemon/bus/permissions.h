// SPDX-License-Identifier: GPL-2.0-or-later
// Which polkit action each method of org.cowsnap1.* needs: the one table of who may do what.
// packaging/polkit/org.cowsnap1.policy says who has them. Knows neither polkit nor calls.
#ifndef COWSNAP_DAEMON_BUS_PERMISSIONS_H
#define COWSNAP_DAEMON_BUS_PERMISSIONS_H

#include <map>
#include <string>
#include <string_view>
#include <utility>

namespace cowsnap {

inline constexpr std::string_view kActionCreate = "org.cowsnap1.create";
inline constexpr std::string_view kActionDelete = "org.cowsnap1.delete";
inline constexpr std::string_view kActionModify = "org.cowsnap1.modify";
inline constexpr std::string_view kActionRollback = "org.cowsnap1.rollback";
inline constexpr std::string_view kActionActivate = "org.cowsnap1.activate";
inline constexpr std::string_view kActionManageStore = "org.cowsnap1.manage-store";
inline constexpr std::string_view kActionManageDaemon = "org.cowsnap1.manage-daemon";
/// Only for the jobs of other users: one's own one may always cancel.
inline constexpr std::string_view kActionCancelJob = "org.cowsnap1.cancel-job";
/// Everybody may.
inline constexpr std::string_view kNoAction;

/// By interface and name. A method that is not here may be called by nobody.
const std::map<std::pair<std::string, std::string>, std::string_view>& neededActions();

}  // namespace cowsnap

#endif
