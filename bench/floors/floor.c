// The floor: an HTTP/1.1 server whose work for each connection and turn is one write(2) of the bytes that all share,
// chunk head and all. It checks nothing, remembers nothing, and waits for a reader that is full.
// Speaks the protocol of loads/host.ts, for one topic, heartbeats too.   cc -O2 -o floor floor.c

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST 20000
static int clients[MOST], count = 0;
static char body[1 << 20], batch[(1 << 20) + 32];

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void greet(int listener) {
  static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
                             "Cache-Control: no-store\r\nTransfer-Encoding: chunked\r\n\r\n";
  char request[4096];
  int one = 1, fd = accept(listener, NULL, NULL);
  if (fd < 0 || count == MOST) return;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (read(fd, request, sizeof request) > 0 && write(fd, head, sizeof head - 1) > 0) {
    fcntl(fd, F_SETFL, O_NONBLOCK);
    clients[count++] = fd;
  } else close(fd);
}

static void deliver(int i, const char *bytes, size_t length) {
  while (length > 0) {
    ssize_t written = write(clients[i], bytes, length);
    if (written >= 0) {
      bytes += written;
      length -= written;
    } else if (errno == EAGAIN) {
      struct pollfd full = {clients[i], POLLOUT, 0};
      poll(&full, 1, -1);
    } else return; // it has gone
  }
}

// As the others' texts: `@<seq> <time> `, filled up with x.
static size_t frame(char *to, long seq, int64_t time, int bytes) {
  size_t head = sprintf(to, "data: @%ld %lld ", seq, (long long)time) - 6;
  for (; head < (size_t)bytes; head++) to[6 + head] = 'x';
  memcpy(to + 6 + head, "\n\n", 2);
  return head + 8;
}

static void run(int size, int64_t interval, int64_t duration, int bytes) {
  static long seq = 0;
  int64_t begin = now(), due = begin;
  long turns = 0;
  for (; due < begin + duration || turns == 0; due = interval ? begin + turns * interval : now()) {
    int64_t early = due - now();
    if (early > 0) usleep(early);
    size_t length = 0;
    for (int i = 0; i < size; i++) length += frame(body + length, ++seq, due, bytes);
    int head = sprintf(batch, "%zx\r\n", length);
    memcpy(batch + head, body, length);
    memcpy(batch + head + length, "\r\n", 2);
    for (int i = 0; i < count; i++) deliver(i, batch, head + length + 2);
    turns++;
  }
  printf("done %ld %lld\n", turns, (long long)(now() - begin));
  fflush(stdout);
}

// Some of them every 64th of the interval, as a sweep would; an interval of 0: none.
static void beat(int64_t interval, int64_t *last, long *next) {
  static const char comment[] = "3\r\n:\n\n\r\n";
  int64_t time = now();
  for (int due = (int)(count * (time - *last) / interval); due > 0 && count > 0; due--) {
    deliver((int)(*next % count), comment, sizeof comment - 1);
    ++*next;
  }
  *last = time;
}

int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return 1;
  getsockname(listener, (struct sockaddr *)&at, &length);
  printf("port %d\n", ntohs(at.sin_port));
  fflush(stdout);
  struct pollfd events[2] = {{0, POLLIN, 0}, {listener, POLLIN, 0}};
  char line[256];
  int64_t interval = 0, last = 0;
  long next = 0;
  for (;;) {
    int ready = poll(events, 2, interval > 0 ? (int)(interval / 64000) : -1);
    if (ready < 0) return 1;
    if (ready == 0) {
      beat(interval, &last, &next);
      continue;
    }
    if (events[1].revents & POLLIN) greet(listener);
    if (!(events[0].revents & (POLLIN | POLLHUP))) continue;
    ssize_t got = read(0, line, sizeof line - 1);
    if (got <= 0) return 0;
    line[got] = 0;
    int topics, size, bytes;
    long long every, duration;
    if (sscanf(line, "run %d %d %lld %lld %d", &topics, &size, &every, &duration, &bytes) == 5)
      run(size, every, duration * 1000, bytes);
    else if (sscanf(line, "beat %lld", &every) == 1) {
      interval = every * 1000, last = now();
      printf("beating\n"), fflush(stdout);
    } else printf("gone\n"), fflush(stdout);
  }
}
