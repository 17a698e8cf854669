#include <gtest/gtest.h>

#include "server/cli/adapter_commands.h"

namespace descant::cli {
namespace {

TEST(WatchCommandTest, OneLineForEachEvent) {
  v1::WatchAdaptersResponse change;
  change.set_event(v1::ADAPTER_EVENT_SYNCED);
  EXPECT_EQ(RenderEvent(change), "synced");
  change.set_event(v1::ADAPTER_EVENT_PUBLISHED);
  v1::Adapter* adapter = change.mutable_adapter();
  adapter->set_name("a");
  adapter->set_digest("sha256:ab");
  adapter->set_version(7);
  adapter->set_state(v1::ADAPTER_STATE_READY);
  adapter->set_level(v1::ADAPTER_LEVEL_HOST);
  adapter->set_pinned(true);
  EXPECT_EQ(RenderEvent(change),
            "published  a  version 7  sha256:ab  ready  host  pinned");
  change.set_event(v1::ADAPTER_EVENT_DELETED);
  adapter->Clear();
  adapter->set_name("a\x1b[31m");
  adapter->set_digest("sha256:ab");
  EXPECT_EQ(RenderEvent(change), "deleted  a[31m  sha256:ab");
}

}  // namespace
}  // namespace descant::cli
