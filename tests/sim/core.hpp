// SPDX-License-Identifier: GPL-2.0-or-later
// dm-target/core as the simulator sees it. Kernel C in a C++ translation unit: no warnings about
// it.
#ifndef COWSNAP_TESTS_SIM_CORE_HPP
#define COWSNAP_TESTS_SIM_CORE_HPP

#pragma GCC system_header

extern "C" {
#include "store.h"
}

#endif
