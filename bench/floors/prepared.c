// The floor of catching up: an HTTP/1.1 server that has the whole answer to each returning client ready, byte
// for byte as ours sends it: the head, the block of `sluice:ready`, then the missed events with their ids, in
// chunks of at most 60 KiB. For a client it accepts, reads the request, and writes. Each client has an offset
// into the bytes that all who return from the same place share, so that a slow reader holds up no other.
// Speaks the protocol of loads/host.ts, for the topics `t0` and `t1`. Only `t1` can be caught up with: with the
// events of its last turn that had several.   cc -O2 -o prepared prepared.c

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define MOST 20000
#define PAGE 61440
#define EPOCH 1795408776829004LL

struct bytes {
  char *at;
  size_t length;
};

struct connection {
  int fd, topic; // topic -1: the request has not come yet
  struct bytes left;
};

static struct connection all[MOST];
static int used = 0, unused = 0, queue, timer;
static long head = 0;     // the newest seq of both topics
static long published[2]; // how many events each topic has had

// The events that can be missed, the seq of the first and of the one of its topic before it, and for each place
// the answer to a client that returns from there.
static struct bytes *missable, *answers;
static long firstSeq = 0, seqBefore = 0, count = 0;

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

// ── events and answers ──────────────────────────────────────────────────────────────────────────────────

// As the others' texts: `@<n> <time> `, filled up with x.
static size_t frame(char *to, int topic, int64_t time, int bytes) {
  size_t id = sprintf(to, "id: %lld-%ld\ndata: ", EPOCH, ++head);
  size_t length = sprintf(to + id, "@%ld %lld ", ++published[topic], (long long)time);
  for (; length < (size_t)bytes; length++) to[id + length] = 'x';
  memcpy(to + id + length, "\n\n", 2);
  return id + length + 2;
}

static size_t chunk(char *to, const char *bytes, size_t length) {
  size_t size = sprintf(to, "%zx\r\n", length);
  memcpy(to + size, bytes, length);
  memcpy(to + size + length, "\r\n", 2);
  return size + length + 2;
}

static size_t greeting(char *to, int topic, long seq) {
  char block[256];
  size_t length = sprintf(to, "HTTP/1.1 200 OK\r\nCache-Control: no-store, no-transform\r\nX-Accel-Buffering: no\r\n"
                              "Content-Type: text/event-stream\r\nVary: Accept-Encoding\r\n"
                              "Date: Sun, 29 Nov 2026 07:26:23 GMT\r\nConnection: keep-alive\r\n"
                              "Keep-Alive: timeout=5\r\nTransfer-Encoding: chunked\r\n\r\n");
  size_t size = sprintf(block, "retry: 2000\nid: %lld-%ld\nevent: sluice:ready\ndata: {\"topics\":[\"t%d\"]}\n\n", EPOCH,
                        seq, topic);
  return length + chunk(to + length, block, size);
}

// Fills a page with the events from `*next` on, as many as fit, and at least one.
static size_t nextPage(char *page, long *next) {
  size_t length = 0;
  for (; *next < count && (length == 0 || length + missable[*next].length <= PAGE); ++*next) {
    memcpy(page + length, missable[*next].at, missable[*next].length);
    length += missable[*next].length;
  }
  return length;
}

static struct bytes answerFrom(long place) {
  static char page[2 * PAGE];
  size_t most = 1024;
  for (long i = place; i < count; i++) most += missable[i].length + 32;
  struct bytes answer = {.at = malloc(most)};
  answer.length = greeting(answer.at, 1, place == 0 ? seqBefore : firstSeq - 1 + place);
  for (long next = place; next < count;) {
    size_t length = nextPage(page, &next);
    answer.length += chunk(answer.at + answer.length, page, length);
  }
  return answer;
}

static void prepare(struct bytes *events, long first, long before, long size) {
  for (long i = 0; i < count; i++) free(missable[i].at), free(answers[i].at);
  free(missable), free(answers);
  missable = events, firstSeq = first, seqBefore = before, count = size;
  answers = calloc(size, sizeof *answers);
  for (long place = 0; place < size; place++) answers[place] = answerFrom(place);
}

// ── connections ─────────────────────────────────────────────────────────────────────────────────────────

static void leave(struct connection *c) {
  close(c->fd);
  c->fd = -1;
  unused++;
}

static struct connection *place(void) {
  static int next = 0;
  if (unused == 0) return used < MOST ? &all[used++] : NULL;
  while (all[next].fd >= 0) next = (next + 1) % used;
  unused--;
  return &all[next];
}

static void wait(struct connection *c, int operation, uint32_t events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(queue, operation, c->fd, &event);
}

// Accepts 64 at most, so that the others do not wait for all clients that connect at once.
static void greet(int listener) {
  for (int i = 0; i < 64; i++) {
    int one = 1, fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (fd < 0) return;
    struct connection *c = place();
    if (c == NULL) {
      close(fd);
      return;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    *c = (struct connection){.fd = fd, .topic = -1};
    wait(c, EPOLL_CTL_ADD, EPOLLIN);
  }
}

static void deliver(struct connection *c, int wasFull) {
  while (c->left.length > 0) {
    ssize_t written = write(c->fd, c->left.at, c->left.length);
    if (written < 0 && errno == EAGAIN) {
      if (!wasFull) wait(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    if (written < 0) return leave(c);
    c->left.at += written;
    c->left.length -= written;
  }
  if (wasFull) wait(c, EPOLL_CTL_MOD, EPOLLIN);
}

// A request comes in one piece on this machine.
static void answer(struct connection *c, const char *request) {
  static char first[1024];
  const char *id = strcasestr(request, "\r\nlast-event-id: ");
  const char *seq = id == NULL ? NULL : strchr(id + 17, '-');
  c->topic = strstr(request, "topic=t1 ") != NULL;
  long place = seq == NULL ? count : atol(seq + 1) - firstSeq + 1;
  if (place < 0) place = 0;
  c->left = c->topic == 1 && place < count
                ? answers[place]
                : (struct bytes){first, greeting(first, c->topic, seq == NULL ? head : atol(seq + 1))};
  deliver(c, 0);
  // `first` is not kept: a new connection has room for a greeting.
  if (c->fd >= 0 && c->left.at >= first && c->left.at < first + sizeof first && c->left.length > 0) leave(c);
}

static void take(struct connection *c) {
  char request[4096];
  ssize_t length = read(c->fd, request, sizeof request - 1);
  if (length < 0 && errno == EAGAIN) return;
  if (length <= 0) return leave(c);
  request[length] = 0;
  if (c->topic < 0) answer(c, request);
}

// ── publishing ──────────────────────────────────────────────────────────────────────────────────────────

static struct {
  int topics, size, bytes, isOn;
  int64_t begin, interval, duration, due;
  long turns;
} order;

// Cuts off a client that is full or still catching up: the reader then reports a lost connection.
static void publish(int topic) {
  size_t room = (size_t)order.size * (order.bytes + 128);
  char *body = malloc(room), *sent = malloc(room + 64);
  struct bytes *events = calloc(order.size, sizeof *events);
  static long newest[2];
  long first = head + 1, before = newest[topic];
  size_t length = 0;
  for (int i = 0; i < order.size; i++) {
    size_t size = frame(body + length, topic, order.due, order.bytes);
    events[i] = (struct bytes){malloc(size), size};
    memcpy(events[i].at, body + length, size);
    length += size;
  }
  newest[topic] = head;
  size_t whole = chunk(sent, body, length);
  for (int i = 0; i < used; i++) {
    struct connection *c = &all[i];
    if (c->fd < 0 || c->topic != topic) continue;
    if (c->left.length > 0 || write(c->fd, sent, whole) != (ssize_t)whole) leave(c);
  }
  if (topic == 1 && order.size > 1) {
    prepare(events, first, before, order.size);
  } else {
    for (int i = 0; i < order.size; i++) free(events[i].at);
    free(events);
  }
  free(body), free(sent);
}

static void sleepUntil(int64_t due) {
  struct itimerspec at = {.it_value = {due / 1000000, due % 1000000 * 1000}};
  timerfd_settime(timer, TFD_TIMER_ABSTIME, &at, NULL);
}

// Publishes the turns that are due. Also called between two clients, so that many returning ones do not make
// the live readers wait.
static void publishDue(void) {
  while (order.isOn && now() >= order.due) {
    for (int topic = 0; topic < order.topics; topic++) publish(topic);
    order.turns++;
    order.due = order.interval > 0 ? order.begin + order.turns * order.interval : now();
    if (order.due < order.begin + order.duration) {
      sleepUntil(order.due);
      continue;
    }
    order.isOn = 0;
    printf("done %ld %lld\n", order.turns, (long long)(now() - order.begin));
    fflush(stdout);
  }
}

static void obey(void) {
  char line[256];
  long long every, duration;
  ssize_t got = read(0, line, sizeof line - 1);
  if (got <= 0) exit(0);
  line[got] = 0;
  if (sscanf(line, "run %d %d %lld %lld %d", &order.topics, &order.size, &every, &duration, &order.bytes) == 5) {
    if (order.topics > 2) exit(1);
    order.begin = order.due = now();
    order.interval = every, order.duration = duration * 1000;
    order.turns = 0, order.isOn = 1;
  } else printf("%s\n", strncmp(line, "beat", 4) == 0 ? "beating" : "gone"), fflush(stdout);
}

int main(void) {
  struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof at;
  signal(SIGPIPE, SIG_IGN); // a client that has gone is found by its write
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (bind(listener, (struct sockaddr *)&at, sizeof at) || listen(listener, 4096)) return 1;
  getsockname(listener, (struct sockaddr *)&at, &length);
  queue = epoll_create1(0);
  timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);
  int own[3] = {0, listener, timer};
  for (int i = 0; i < 3; i++) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &own[i]};
    epoll_ctl(queue, EPOLL_CTL_ADD, own[i], &event);
  }
  printf("port %d\n", ntohs(at.sin_port));
  fflush(stdout);
  for (;;) {
    struct epoll_event events[64];
    int ready = epoll_wait(queue, events, 64, -1);
    for (int i = 0; i < ready; i++) {
      void *of = events[i].data.ptr;
      struct connection *c = of;
      uint64_t expirations;
      if (of == &own[0]) obey();
      else if (of == &own[1]) greet(listener);
      else if (of == &own[2]) (void)!read(timer, &expirations, sizeof expirations);
      else if (c->fd >= 0 && events[i].events & EPOLLOUT) deliver(c, 1);
      else if (c->fd >= 0) take(c);
      publishDue();
    }
  }
}
