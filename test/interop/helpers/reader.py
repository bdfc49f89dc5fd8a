"""Reads a stream as docs/protocol.md says, with nothing but the standard library, and prints what happens as JSON lines.

Usage: reader.py URL [POSITION]. Each line on standard input is an order: `cut` leaves the connection and comes back.
Needs Python 3.9.
"""

import email.utils
import http.client
import json
import queue
import random
import re
import sys
import threading
import time
import urllib.parse

MAX_BYTES = 2 * 1024 * 1024


ID = re.compile(r"(0|[1-9][0-9]{0,15})-(0|[1-9][0-9]{0,15})")


def is_repeated(id, position):
    """Whether a client at this position has had the event. `id` is None where the event has no id line of its own."""
    new, old = ID.fullmatch(id or ""), ID.fullmatch(position)
    return bool(new and old and new[1] == old[1] and int(new[2]) <= int(old[2]))


def word_of(body):
    """The word in the answer of a server; None in that of a proxy, which may be anything."""
    try:
        return json.loads(body)["error"]
    except (ValueError, TypeError, KeyError):
        return None


def say(**what):
    print(json.dumps(what), flush=True)


class Blocks:
    """Makes blocks of bytes that are cut anywhere."""

    def __init__(self):
        self.buffer = b""
        self.is_first = True
        self.last_byte_was_cr = False
        self.clear()

    def clear(self):
        self.data, self.type, self.id, self.retry = [], "", None, None

    def feed(self, chunk):
        for byte in chunk:
            if byte == 0x0A and self.last_byte_was_cr:
                self.last_byte_was_cr = False
                continue
            self.last_byte_was_cr = byte == 0x0D
            if byte not in (0x0A, 0x0D):
                self.buffer += bytes((byte,))
                if len(self.buffer) > MAX_BYTES:
                    raise ValueError("a line is too long")
                continue
            line, self.buffer = self.buffer, b""
            if self.is_first and line.startswith(b"\xef\xbb\xbf"):
                line = line[3:]
            self.is_first = False
            if line:
                self.field(line.decode("utf-8", "replace"))
            else:
                yield self.id, self.retry, self.type, self.data
                self.clear()

    def field(self, line):
        if line.startswith(":"):
            return
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "data":
            self.data.append(value)
        elif name == "event":
            self.type = value
        elif name == "id" and "\0" not in value:
            self.id = value
        elif name == "retry" and value.isascii() and value.isdigit():
            self.retry = int(value)


class Reader:
    def __init__(self, url, position):
        self.url = urllib.parse.urlsplit(url)
        self.position = position
        self.retry = 2000
        self.failures = 0
        self.not_before = 0.0
        self.silence = None
        self.orders = queue.Queue()

    def run(self):
        while True:
            try:
                if self.attempt():
                    return
            except (OSError, http.client.HTTPException) as error:
                self.failures += 1
                say(broken=type(error).__name__)
            self.wait()

    def wait(self):
        wanted = time.monotonic() + self.retry / 1000
        jitter = random.uniform(0, min(10, 0.25 * 2 ** min(self.failures, 6)))
        time.sleep(max(0, max(wanted, self.not_before) - time.monotonic()) + jitter)

    def attempt(self):
        """One connection. Answers whether it was the last one."""
        headers = {"Accept": "text/event-stream"}
        if self.position:
            headers["Last-Event-ID"] = self.position
        connection = http.client.HTTPConnection(self.url.hostname, self.url.port, timeout=self.silence or 60)
        try:
            connection.request("GET", f"{self.url.path}?{self.url.query}", headers=headers)
            response = connection.getresponse()
            if response.status == 204:
                say(end=204)
                return True
            if response.status in (408, 425, 429) or response.status >= 500:
                self.failures += 1
                say(refused=response.status, word=word_of(response.read(8192)))
                self.come_back_after(response.getheader("Retry-After"))
                return False
            kind = (response.getheader("Content-Type") or "").partition(";")[0].strip().lower()
            if response.status != 200 or kind != "text/event-stream":
                say(failed=response.status)
                return True
            return self.read(connection, response)
        finally:
            connection.close()

    def come_back_after(self, text):
        if text is None:
            return
        if text.isdigit():
            seconds = int(text)
        else:
            seconds = email.utils.parsedate_to_datetime(text).timestamp() - time.time()
        self.not_before = time.monotonic() + seconds

    def read(self, connection, response):
        blocks = Blocks()
        while chunk := response.read1(65536):
            for block in blocks.feed(chunk):
                if self.process(connection, *block):
                    return True
            # An order counts after the block before it, as a cut of the network would come.
            if not self.orders.empty() and self.orders.get() == "cut":
                return False
        return False

    def process(self, connection, id, retry, type, data):
        if retry is not None:
            self.retry = retry
        is_last = False
        if data:
            self.failures = 0
            type, text = type or "message", "\n".join(data)
            if not type.startswith("sluice:") and is_repeated(id, self.position):
                return False
            control = json.loads(text) if type.startswith("sluice:") else {}
            if type == "sluice:ready":
                terms = control.get("heartbeat")
                if terms:
                    self.silence = terms["interval"] * (terms["missed"] + 1) / 1000
                    connection.sock and connection.sock.settimeout(self.silence)
                say(ready=id, topics=control["topics"])
            elif type == "sluice:gap":
                say(gap=control["reason"], start=control["from"], to=control["to"], topics=control["topics"])
            elif type == "sluice:refused":
                self.failures += 1
                say(refused=200, word=control["error"])
            elif type in ("sluice:end", "sluice:error"):
                say(end=type)
                is_last = True
            elif not type.startswith("sluice:"):
                say(event=type, data=text, id=id if id is not None else self.position)
        # Only now is the block processed.
        if id is not None:
            self.position = id
            say(position=id)
        return is_last


def main():
    url, position = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else ""
    reader = Reader(url, position)

    def listen():
        for line in sys.stdin:
            reader.orders.put(line.strip())

    threading.Thread(target=listen, daemon=True).start()
    reader.run()


main()
