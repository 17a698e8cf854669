// Closes connections whose client floods (server/http2_meter.h), before gRPC
// reads what they sent.
//
// gRPC 1.51 has no place for such a check. So connection_watch.cc defines
// recvmsg(2) and OpenSSL's SSL_read, which libgrpc.so then calls instead of the
// libraries' own; these do the work, and what they read of a watched connection
// goes through its meter. All other reads of the process pass as they are.
#ifndef DESCANT_SERVER_CONNECTION_WATCH_H_
#define DESCANT_SERVER_CONNECTION_WATCH_H_

#include <sys/types.h>

#include <cstdint>
#include <functional>

namespace descant {

// Meters what is read from the socket `fd`, which has this inode (a closed
// socket's number may be another's later). When its client floods, the
// connection is shut down, and `on_flood` called, on any thread. Of TLS this
// sees nothing: there, what a server decrypts is metered, without being asked,
// and nobody called. Thread-safe.
void WatchConnection(int fd, ino_t inode, std::function<void()> on_flood);

// Connections closed so far. Thread-safe.
uint64_t FloodingConnections();

}  // namespace descant

#endif  // DESCANT_SERVER_CONNECTION_WATCH_H_
