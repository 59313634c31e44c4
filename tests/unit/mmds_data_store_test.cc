// SPDX-License-Identifier: Apache-2.0
#include "vmm/mmds/data_store.h"

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

TEST_CASE("a path finds its value") {
    DataStore store(1000);
    CHECK(store.find("/"));
    CHECK_FALSE(store.find("/a"));
    REQUIRE(store.put(json(R"({"a":{"list":["x",{"k":"v"}],"s":"text"}})")));
    CHECK(store.find("/a/s")->text == "text");
    CHECK(store.find("a/s/")->text == "text");
    CHECK(store.find("//a//list/1/k")->text == "v");
    CHECK_FALSE(store.find("/a/list/2"));
    CHECK_FALSE(store.find("/a/list/01"));
    CHECK_FALSE(store.find("/a/list/-1"));
    CHECK_FALSE(store.find("/a/s/x"));
    CHECK(to_imds_text(*store.find("/a")) == "list\ns");
    CHECK(to_imds_text(*store.find("")) == "a/");
    CHECK_FALSE(to_imds_text(*store.find("/a/list")));
}
