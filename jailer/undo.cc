// SPDX-License-Identifier: Apache-2.0
#include "jailer/undo.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace wisp::jailer {

void Undo::remove_file(int directory_fd, std::string name) {
    entries_.push_back({Kind::kFile, directory_fd, std::move(name), 0, 0, 0});
}

void Undo::remove_directory(int directory_fd, std::string name) {
    entries_.push_back({Kind::kDirectory, directory_fd, std::move(name), 0, 0, 0});
}

void Undo::restore_ownership(int fd, uid_t uid, gid_t gid, mode_t mode) {
    entries_.push_back({Kind::kOwnership, fd, {}, uid, gid, mode});
}

void Undo::roll_back() {
    for (; !entries_.empty(); entries_.pop_back()) {
        const Entry& entry = entries_.back();
        if (entry.kind == Kind::kOwnership) {
            [[maybe_unused]] const int owner_result = fchown(entry.fd, entry.uid, entry.gid);
            fchmod(entry.fd, entry.mode);
        } else {
            unlinkat(entry.fd, entry.name.c_str(), entry.kind == Kind::kDirectory ? AT_REMOVEDIR : 0);
        }
    }
}

}  // namespace wisp::jailer
