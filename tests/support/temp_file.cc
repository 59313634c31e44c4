// SPDX-License-Identifier: Apache-2.0
#include "tests/support/temp_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>

#include "base/check.h"
#include "base/fd.h"

namespace wisp::test {

TempFile::TempFile(uint64_t size) {
    const char* folder = getenv("TMPDIR");
    path_ = std::string(folder ? folder : "/tmp") + "/wisp-test-XXXXXX";
    const OwnedFd file(mkstemp(path_.data()));
    CHECK(file.valid());
    resize(size);
}

TempFile::TempFile(std::string_view content) : TempFile(uint64_t{0}) {
    const auto file = open_file(path_, O_WRONLY);
    CHECK(file && write_all(file->get(), content.data(), content.size(), path_));
}

TempFile::~TempFile() { unlink(path_.c_str()); }

void TempFile::resize(uint64_t size) const { CHECK(truncate(path_.c_str(), static_cast<off_t>(size)) == 0); }

std::string TempFile::content() const {
    auto text = read_file(path_, 1 << 30);
    CHECK(text.has_value());
    return *std::move(text);
}

}  // namespace wisp::test
