// SPDX-License-Identifier: Apache-2.0
#include "base/result.h"

#include <catch2/catch.hpp>

#include <memory>
#include <vector>

using namespace wisp;

namespace {

Result<std::vector<int>> value_of(Result<std::vector<int>>& variable) {
    return TRY(variable);
}
Result<std::unique_ptr<int>> move_only() {
    return TRY(Result<std::unique_ptr<int>>(std::make_unique<int>(5)));
}
Result<int> nested(Result<int> inner) {
    return TRY(Result<int>(TRY(inner) + 1));
}
Result<void> with_context(const Result<int>& inner) {
    TRY_CONTEXT("drive rootfs", inner);
    return {};
}

}  // namespace

TEST_CASE("TRY leaves a variable as it was, and can be used on it again") {
    Result<std::vector<int>> variable = std::vector{1, 2, 3};
    CHECK(value_of(variable)->size() == 3);
    CHECK(value_of(variable)->size() == 3);
    variable = fail("no");
    CHECK(value_of(variable).error().message == "no");
    CHECK(value_of(variable).error().message == "no");
}

TEST_CASE("TRY moves out of a temporary, nests, and carries errors up") {
    CHECK(**move_only() == 5);
    CHECK(*nested(4) == 5);
    CHECK(nested(fail("no %d", 7)).error().message == "no 7");
}

TEST_CASE("TRY_CONTEXT says what was being done") {
    CHECK(with_context(1));
    CHECK(with_context(fail("cannot open it")).error().message == "drive rootfs: cannot open it");
}

TEST_CASE("errors of system calls keep their errno and its text") {
    errno = ENOENT;
    const auto result = Result<void>(fail_errno("cannot open %s", "/x"));
    CHECK(result.error().errno_value == ENOENT);
    CHECK(result.error().message == "cannot open /x: No such file or directory");
}
