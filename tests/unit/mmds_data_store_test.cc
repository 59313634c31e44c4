// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/data_store.h"

#include <time.h>

#include <catch2/catch.hpp>

#include "vmm/config/json.h"

using namespace wisp;
using namespace wisp::mmds;

namespace {

config::Value json(const char* text) {
    return *config::parse_json_strict(text);
}

}  // namespace

TEST_CASE("the store merges as RFC 7396 says, and shows keys sorted") {
    DataStore store(1000);
    CHECK(store.to_json() == "{}");
    CHECK(store.patch(json("{}")).error().message == "The MMDS data store is not initialized.");
    REQUIRE(store.put(json(R"({"b":1,"a":{"x":[1,2],"y":"z"},"b":2})")));
    CHECK(store.to_json() == R"({"a":{"x":[1,2],"y":"z"},"b":2})");
    REQUIRE(store.patch(json(R"({"c":{"n":null,"m":1},"a":{"x":null,"w":{"v":1}},"b":null,"zz":null})")));
    CHECK(store.to_json() == R"({"a":{"w":{"v":1},"y":"z"},"c":{"m":1}})");
    REQUIRE(store.patch(json("[1]")));
    CHECK(store.to_json() == "[1]");
    REQUIRE(store.patch(json(R"({"a":{"b":{"c":1}}})")));
    CHECK(store.to_json() == R"({"a":{"b":{"c":1}}})");
}

TEST_CASE("the store keeps to its limit, and what was there stays") {
    DataStore store(10);
    REQUIRE(store.put(json(R"({"a":1})")));
    CHECK(store.put(json(R"({"a":12345678})")).error().errno_value == EFBIG);
    CHECK(store.patch(json(R"({"b":1})")).error().errno_value == EFBIG);
    CHECK(store.to_json() == R"({"a":1})");
}

TEST_CASE("a reader keeps the document that it has, whatever is written meanwhile") {
    DataStore store(1000);
    REQUIRE(store.put(json(R"({"a":"old"})")));
    const auto document = store.document();
    REQUIRE(store.patch(json(R"({"a":"new"})")));
    CHECK(find(*document, "/a")->text == "old");
    CHECK(find(*store.document(), "/a")->text == "new");
}

TEST_CASE("a path finds its value") {
    DataStore store(1000);
    CHECK_FALSE(store.document());
    REQUIRE(store.put(json(R"({"a":{"list":["x",{"k":"v"}],"s":"text"}})")));
    const auto document = store.document();
    const auto find = [&](std::string_view path) { return mmds::find(*document, path); };
    CHECK(find("/") == document.get());
    CHECK(find("/a/s")->text == "text");
    CHECK(find("a/s/")->text == "text");
    CHECK(find("//a//list/1/k")->text == "v");
    CHECK_FALSE(find("/a/list/2"));
    CHECK_FALSE(find("/a/list/01"));
    CHECK_FALSE(find("/a/list/-1"));
    CHECK_FALSE(find("/a/s/x"));
    CHECK(to_imds_text(*find("/a")) == "list\ns");
    CHECK(to_imds_text(*find("")) == "a/");
    CHECK_FALSE(to_imds_text(*find("/a/list")));
}

TEST_CASE("a merge is linear in both documents") {
    // Minutes where each new member is inserted between its neighbours; now well under 1 s.
    constexpr size_t kMembers = 100'000;
    const auto document = [](size_t first) {
        std::string text = "{";
        for (size_t i = first; i < 2 * kMembers; i += 2) text += "\"" + std::to_string(1'000'000 + i) + "\":1,";
        return text + "\"z\":1}";
    };
    DataStore store(16 << 20);
    REQUIRE(store.put(json(document(0).c_str())));
    timespec start{}, end{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
    REQUIRE(store.patch(json(document(1).c_str())));
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &end);
    CHECK(end.tv_sec - start.tv_sec < 30);
    CHECK(store.document()->members.size() == 2 * kMembers + 1);
}
