// SPDX-License-Identifier: GPL-2.0-or-later
// What ListSnapshots answers: snapshots, origins and stores as JSON. Knows the published objects
// only.
#ifndef COWSNAP_DAEMON_BUS_LISTING_H
#define COWSNAP_DAEMON_BUS_LISTING_H

#include <string>

#include "bus/objects.h"

namespace cowsnap {

/// Version of the document.
inline constexpr int kListingSchema = 1;

/// All properties of all snapshots, origins and stores, as they were announced.
std::string snapshotListing(const Objects& objects);

}  // namespace cowsnap

#endif
