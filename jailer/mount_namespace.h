// SPDX-License-Identifier: Apache-2.0
//
// The mount namespace of the jail: one mount, the jail's root, and what the operator mounted below it.
//
// How to get there was measured, on Linux 6.18 with 2 cores, in µs to the jail's root for one jail alone, with 20
// mounts on the host, and with 520:
//
//   unshare, make all mounts slaves, bind the root to itself, pivot_root, detach       500   1,500 to 2,300
//   unshare, move a clone of the root over "/", chroot                                 130     700
//   the same as the first, from a namespace that holds 1 or 2 mounts                   130     130
//   chroot to a detached clone (open_tree), no namespace                                80      80
//   chroot alone                                                                        40      40
//
// unshare(CLONE_NEWNS) copies every mount of the namespace it starts from, under one lock for the whole host, and all
// but one are then thrown away. The third line has none of that cost and all of the isolation, so that is what is done
// where the kernel lets its own small namespace be found (Linux 6.12: NS_MNT_GET_NEXT); elsewhere it is the first.
//
// The fourth line would be cheaper still, and a way out of it is not known: a detached clone has no parent to climb to.
// It was not taken because file systems that the host mounts later below the root would no longer reach the jail (Kata
// adds drives that way), and because the process would stay in the host's namespace, to which one capability too many,
// or a bug, gives access again. The fifth can be left by anything that moves a directory out of the jail.
#pragma once

#include "jailer/path.h"

namespace wisp::jailer {

/// Makes `root` the root, and nothing else reachable: new mount namespace, in which `root` receives the host's later
/// mounts below it and gives none back. The process's working directory is the new root.
Result<void> enter_root(const Directory& root);

}  // namespace wisp::jailer
