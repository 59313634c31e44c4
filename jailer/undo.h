// SPDX-License-Identifier: Apache-2.0
//
// The journal of what the jail has put on the host, so that a jail that fails half-way leaves nothing behind. Only what
// this process made is in it: what was there before stays.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace wisp::jailer {

class Undo {
public:
    /// Each entry keeps the descriptor's number, not the descriptor: it must stay open until roll_back().
    void remove_file(int directory_fd, std::string name);
    void remove_directory(int directory_fd, std::string name);
    void restore_ownership(int fd, uid_t uid, gid_t gid, mode_t mode);

    /// Takes everything back, newest first, and forgets it. What cannot be taken back is left: the jail has failed
    /// already, and the reason for that is what the operator has to read.
    void roll_back();

private:
    enum class Kind { kFile, kDirectory, kOwnership };
    struct Entry {
        Kind kind;
        int fd;
        std::string name;
        uid_t uid;
        gid_t gid;
        mode_t mode;
    };
    std::vector<Entry> entries_;
};

}  // namespace wisp::jailer
