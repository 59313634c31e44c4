// SPDX-License-Identifier: Apache-2.0
#include "jailer/file_owner.h"

#include <sys/fsuid.h>

#include "jailer/capabilities.h"

namespace wisp::jailer {

namespace {

Result<void> set_file_owner(uid_t uid, gid_t gid) {
    setfsgid(gid);
    setfsuid(uid);
    // Neither call reports an error; asking for an impossible id changes nothing and returns the present one.
    if (static_cast<uid_t>(setfsuid(static_cast<uid_t>(-1))) != uid ||
        static_cast<gid_t>(setfsgid(static_cast<gid_t>(-1))) != gid)
        return fail("cannot make files as uid %u, gid %u; run the jailer as root, in a user namespace that maps them",
                    uid, gid);
    return {};
}

}  // namespace

Result<void> make_files_as(uid_t uid, gid_t gid) {
    const CapabilitySets sets = TRY(read_capabilities());
    TRY(set_file_owner(uid, gid));
    // The kernel takes CAP_MKNOD and its like away with a user id other than 0; making device nodes needs it back.
    return write_capabilities(sets);
}

Result<void> make_files_as_root() {
    return set_file_owner(0, 0);
}

}  // namespace wisp::jailer
