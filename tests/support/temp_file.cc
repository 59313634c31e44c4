// SPDX-License-Identifier: Apache-2.0
#include "tests/support/temp_file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <catch2/catch.hpp>

namespace wisp::test {

TempFile::TempFile(std::string_view content) {
    const char* folder = getenv("TMPDIR");
    path_ = std::string(folder ? folder : "/tmp") + "/wisp-test-XXXXXX";
    {
        const OwnedFd writer(mkostemp(path_.data(), O_CLOEXEC));
        REQUIRE(writer.valid());
        REQUIRE(write_all(writer.get(), content.data(), content.size(), path_).has_value());
    }
    auto reader = open_file(path_, O_RDONLY);
    REQUIRE(reader.has_value());
    fd_ = *std::move(reader);
}

TempFile::TempFile(uint64_t size) : TempFile(std::string_view()) {
    resize(size);
}

void TempFile::resize(uint64_t size) const {
    CHECK(truncate(path_.c_str(), static_cast<off_t>(size)) == 0);
}

TempFile::~TempFile() {
    unlink(path_.c_str());
}

std::string TempFile::content() const {
    auto text = read_file(path_, 1ull << 32);
    REQUIRE(text.has_value());
    return *std::move(text);
}

}  // namespace wisp::test
