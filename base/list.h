// SPDX-License-Identifier: Apache-2.0
//
// TaggedList: objects linked by a node that each of them has for this list. It owns nothing and allocates nothing; an
// object leaves in constant time, also when it is destroyed.
//
// Threads: one at a time.
#pragma once

#include "base/check.h"

namespace wisp {

/// Base of what can be in a TaggedList<T, Tag>; the tag tells the lists of one type apart.
template <class T, class Tag>
class ListNode {
public:
    ListNode() = default;
    ListNode(const ListNode&) = delete;
    ListNode& operator=(const ListNode&) = delete;
    ~ListNode() { leave(); }

    bool linked() const { return next_ != nullptr; }
    void leave() {
        if (!linked()) return;
        previous_->next_ = next_;
        next_->previous_ = previous_;
        next_ = previous_ = nullptr;
    }

private:
    template <class U, class V>
    friend class TaggedList;
    ListNode* next_ = nullptr;
    ListNode* previous_ = nullptr;
};

template <class T, class Tag>
class TaggedList {
public:
    using Node = ListNode<T, Tag>;
    TaggedList() { head_.next_ = head_.previous_ = &head_; }
    ~TaggedList() {
        while (!empty()) head_.next_->leave();
        head_.next_ = head_.previous_ = nullptr;
    }

    bool empty() const { return head_.next_ == &head_; }
    T& front() {
        CHECK(!empty());
        return static_cast<T&>(*head_.next_);
    }
    /// Puts an object at the end; one that is in the list already stays where it is.
    void push_back(T& object) {
        Node& node = object;
        if (node.linked()) return;
        node.previous_ = head_.previous_;
        node.next_ = &head_;
        head_.previous_->next_ = &node;
        head_.previous_ = &node;
    }
    T& pop_front() {
        T& object = front();
        static_cast<Node&>(object).leave();
        return object;
    }

private:
    Node head_;
};

}  // namespace wisp
