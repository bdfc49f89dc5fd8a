// Holds the other ends of many connections, checks every event on each, and counts: what loads/reader.ts does, at a
// cost that never limits a server. It polls and never sleeps: a server would pay for waking it, the more the slower it
// is, and clients elsewhere cost no server that.
//   cc -O2 -o reader reader.c
//
// Told on standard input, one line each, words parted by tabs; answers each with a line of JSON.
//   open  <port> <count> <topics> <bytes> <sample> <never 0|1> <group> <at once> <path> <header lines, \x01 for \r\n>
//         <first 0|1> <places, parted by spaces: `{place}` in a header line is the first for the first connection, …>
//         <most that wait for their first byte, 0: no limit>
//   reset · await <events> <group> <ms without any> · lap <group> · close <group> · calm <0|1>        a group of no name: all

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum state { BETWEEN, SEQ, TIME, FILLING };

struct connection {
  int fd, epoll, measures, never, bytes, left, head;
  enum state state;
  long events, disorder, received, receivedBefore;
  int64_t seq, last, time;
  char group[16];
  char *request; // until it is sent
};

#define MOST 20000
static struct connection all[MOST];
static int used = 0, unused = 0, connecting = 0, unanswered = 0;
// Those that are read before all others have one of their own.
static int rest, first, firsts = 0;
static long goneEvents, goneDisorder, bytes, negative, lost;
static int64_t lastByte, since, cpuSince;

// ── latencies: buckets of 1/64 of a power of two, as HdrHistogram has them ───────────────────────────────

#define FINE 64
struct latencies {
  long buckets[64 * FINE], count;
  double sum;
  int64_t most;
};
// Those since the last lap, and those before it.
static struct latencies lap, total;

static int bucketOf(int64_t value) {
  if (value < FINE) return (int)value;
  int shift = 63 - __builtin_clzll((uint64_t)value) - 6;
  return (shift + 1) * FINE + (int)((value >> shift) - FINE);
}

static int64_t highest(int bucket) {
  if (bucket < FINE) return bucket;
  int shift = bucket / FINE - 1;
  return (((int64_t)(bucket % FINE + FINE) + 1) << shift) - 1;
}

static void record(int64_t value) {
  if (value < 0) negative++, value = 0;
  lap.buckets[bucketOf(value)]++;
  lap.count++;
  lap.sum += value;
  if (value > lap.most) lap.most = value;
}

static void endLap(void) {
  for (int i = 0; i < 64 * FINE; i++) total.buckets[i] += lap.buckets[i];
  total.count += lap.count;
  total.sum += lap.sum;
  if (lap.most > total.most) total.most = lap.most;
  memset(&lap, 0, sizeof lap);
}

static double percentile(const struct latencies *of, double percent) {
  long wanted = (long)(of->count * percent / 100 + 0.999999), seen = 0;
  for (int i = 0; i < 64 * FINE; i++)
    if ((seen += of->buckets[i]) >= wanted && seen > 0)
      return (highest(i) < of->most ? highest(i) : of->most) / 1000.0;
  return 0;
}

// ── reading ─────────────────────────────────────────────────────────────────────────────────────────────

static int64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static int64_t cpu(void) {
  struct rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

static void event(struct connection *c) {
  c->left = c->bytes > c->head ? c->bytes - c->head : 0;
  c->state = c->left > 0 ? FILLING : BETWEEN;
  c->events++;
  if (c->last != 0 && c->seq != c->last + 1) c->disorder++;
  c->last = c->seq;
  if (c->measures) record(now() - c->time);
}

static void follow(struct connection *c, const char *chunk, ssize_t length) {
  for (ssize_t i = 0; i < length;) {
    if (c->state == FILLING) {
      ssize_t skipped = c->left < length - i ? c->left : length - i;
      i += skipped;
      if ((c->left -= skipped) == 0) c->state = BETWEEN;
      continue;
    }
    char byte = chunk[i++];
    if (c->state == BETWEEN) {
      const char *at = byte == '@' ? chunk + i - 1 : memchr(chunk + i, '@', length - i);
      if (at == NULL) return;
      i = at - chunk + 1;
      c->state = SEQ, c->seq = c->time = 0, c->head = 1;
    } else if (c->head++, byte == ' ') {
      if (c->state == SEQ) c->state = TIME;
      else event(c);
    } else if (c->state == SEQ) c->seq = c->seq * 10 + byte - '0';
    else c->time = c->time * 10 + byte - '0';
  }
}

static void leave(struct connection *c) {
  close(c->fd);
  c->fd = -1;
  unused++;
  if (c->epoll == first) firsts--;
  if (c->received == 0) unanswered--;
  if (c->request == NULL) return;
  free(c->request);
  c->request = NULL;
  connecting--;
}

static void lose(struct connection *c) {
  leave(c);
  goneEvents += c->events;
  goneDisorder += c->disorder;
  lost++;
}

static void take(struct connection *c) {
  static char buffer[1 << 16];
  ssize_t length = read(c->fd, buffer, sizeof buffer);
  if (length > 0) {
    bytes += length;
    if (c->received == 0) unanswered--;
    c->received += length;
    lastByte = now();
    follow(c, buffer, length);
  } else if (length == 0 || errno != EAGAIN) lose(c);
}

static void ask(struct connection *c) {
  if (write(c->fd, c->request, strlen(c->request)) < 0) return lose(c);
  free(c->request);
  c->request = NULL;
  connecting--;
  // Of one that never reads it is only told when it breaks.
  struct epoll_event event = {.events = c->never ? 0 : EPOLLIN, .data.ptr = c};
  epoll_ctl(c->epoll, EPOLL_CTL_MOD, c->fd, &event);
}

static int orderWaits = 0;

static void handle(struct connection *c) {
  if (c == NULL) orderWaits = 1;
  else if (c->fd < 0) return;
  else if (c->request != NULL) ask(c);
  else if (c->never) lose(c);
  else take(c);
}

static void readFirst(void) {
  struct epoll_event events[512];
  int count = firsts > 0 ? epoll_wait(first, events, 512, 0) : 0;
  for (int i = 0; i < count; i++) handle(events[i].data.ptr);
}

static int isCalm = 0;

// What a server pays on top for a reader that is there at once, on the same machine, is not the server's cost: a calm
// reader looks once a millisecond, and neither has to be woken nor holds a lock that the server's kernel side wants.
static void readAll(void) {
  if (isCalm) usleep(1000);
  struct epoll_event events[512];
  readFirst();
  int count = epoll_wait(rest, events, 512, 0);
  for (int i = 0; i < count; i++) {
    handle(events[i].data.ptr);
    if (i % 8 == 7) readFirst();
  }
}

// ── what it is told ─────────────────────────────────────────────────────────────────────────────────────

static int isIn(const struct connection *c, const char *group) {
  return c->fd >= 0 && (*group == 0 || strcmp(group, c->group) == 0);
}

static long countEvents(const char *group) {
  long events = *group == 0 ? goneEvents : 0;
  for (int i = 0; i < used; i++)
    if (isIn(&all[i], group)) events += all[i].events;
  return events;
}

static void report(const struct latencies *of, const char *group) {
  long events = countEvents(group), disorder = *group == 0 ? goneDisorder : 0;
  long silent = 0, open = 0, answered = 0, heard = 0;
  for (int i = 0; i < used; i++) {
    struct connection *c = &all[i];
    if (!isIn(c, group)) continue;
    open++;
    disorder += c->disorder;
    silent += c->events == 0;
    answered += c->received > 0;
    heard += c->received > c->receivedBefore;
  }
  printf("{\"open\":%ld,\"lost\":%ld,\"answered\":%ld,\"heard\":%ld,\"events\":%ld,\"bytes\":%ld,\"disorder\":%ld,"
         "\"silent\":%ld,\"negative\":%ld,\"last\":%lld,\"cpu\":%lld,\"elapsed\":%lld,\"latency\":{\"count\":%ld,"
         "\"mean\":%.3f,\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}}\n",
         open, lost, answered, heard, events, bytes, disorder, silent, negative, (long long)lastByte,
         (long long)(cpu() - cpuSince), (long long)(now() - since), of->count,
         of->count ? of->sum / of->count / 1000 : 0, percentile(of, 50), percentile(of, 90), percentile(of, 99),
         percentile(of, 99.9), of->most / 1000.0);
  fflush(stdout);
}

static void reset(void) {
  memset(&lap, 0, sizeof lap);
  memset(&total, 0, sizeof total);
  goneEvents = goneDisorder = bytes = negative = lost = 0;
  for (int i = 0; i < used; i++) {
    all[i].events = all[i].disorder = 0;
    all[i].receivedBefore = all[i].received;
  }
  since = now();
  cpuSince = cpu();
}

static struct connection *place(void) {
  static int next = 0;
  if (unused == 0) return used < MOST ? &all[used++] : NULL;
  while (all[next].fd >= 0) next = (next + 1) % used;
  unused--;
  return &all[next];
}

static char *requestOf(char **word, int topic, const char *place) {
  char *request = malloc(16384), *at = strstr(word[9], "{topic}");
  int length = at == NULL ? sprintf(request, "GET %s", word[9])
                          : sprintf(request, "GET %.*st%d%s", (int)(at - word[9]), word[9], topic, at + 7);
  length += sprintf(request + length, " HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n%s", word[1],
                    "Accept: text/event-stream\r\n"); // as EventSource asks; some servers stream to no other
  for (char *h = word[10]; *h && length < 15000; h++) {
    if (*h == '{' && strncmp(h, "{place}", 7) == 0) length += sprintf(request + length, "%.255s", place), h += 6;
    else length += *h == 1 ? sprintf(request + length, "\r\n") : sprintf(request + length, "%c", *h);
  }
  sprintf(request + length, "\r\n");
  return request;
}

// One that never reads takes next to nothing, in segments as they are outside this machine, so that its server has the
// rest: else ten thousand of them are for the kernel to hold, with megabytes each.
static void takeLittle(int fd) {
  int window = 4096, segment = 1400;
  setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &window, sizeof window);
  setsockopt(fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment);
}

static void openOne(char **word, int i, int topics, const char *from) {
  struct connection *c = place();
  if (c == NULL) return;
  int isFirst = atoi(word[11]);
  *c = (struct connection){.bytes = atoi(word[4]), .never = atoi(word[6]), .epoll = isFirst ? first : rest};
  c->measures = atoi(word[5]) > 0 && i % atoi(word[5]) == 0;
  snprintf(c->group, sizeof c->group, "%s", word[7]);
  c->request = requestOf(word, i % topics, from);
  firsts += isFirst;
  connecting++, unanswered++;
  struct sockaddr_in to = {
      .sin_family = AF_INET, .sin_port = htons(atoi(word[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  if (c->never) takeLittle(c->fd);
  struct epoll_event event = {.events = EPOLLOUT, .data.ptr = c};
  int isBegun = connect(c->fd, (struct sockaddr *)&to, sizeof to) == 0 || errno == EINPROGRESS;
  if (!isBegun || epoll_ctl(c->epoll, EPOLL_CTL_ADD, c->fd, &event)) lose(c);
}

static void openAll(char **word) {
  static char *places[MOST];
  int count = atoi(word[2]), topics = atoi(word[3]), atOnce = atoi(word[8]), most = atoi(word[13]), known = 0;
  for (char *left = word[12]; left != NULL && known < MOST;) places[known++] = strsep(&left, " ");
  for (int i = 0; i < count; i++) {
    openOne(word, i, topics > 0 ? topics : 1, known > 0 ? places[i % known] : "");
    int waits = i % 50 == 49;
    for (; waits || connecting >= atOnce || (most > 0 && unanswered >= most); waits = 0) readAll();
  }
  while (connecting > 0) readAll();
}

// Until so many have come, or nothing has come for as long.
static void await(long wanted, const char *group, int64_t patience) {
  long before = -1;
  int64_t moved = now();
  for (long seen = countEvents(group); seen < wanted && now() - moved < patience; seen = countEvents(group)) {
    if (seen != before) moved = now();
    before = seen;
    for (int64_t until = now() + 5000; now() < until;) readAll();
  }
}

static void closeAll(const char *group) {
  for (int i = 0; i < used; i++)
    if (isIn(&all[i], group)) leave(&all[i]);
}

static void obey(char *line) {
  char *word[14], *left = line;
  for (int i = 0; i < 14; i++) word[i] = left ? strsep(&left, "\t") : "";
  if (strcmp(word[0], "lap") == 0) {
    report(&lap, word[1]);
    return endLap();
  }
  if (strcmp(word[0], "open") == 0) openAll(word);
  else if (strcmp(word[0], "reset") == 0) reset();
  else if (strcmp(word[0], "await") == 0) await(atol(word[1]), word[2], atol(word[3]) * 1000);
  else if (strcmp(word[0], "calm") == 0) isCalm = atoi(word[1]);
  else if (strcmp(word[0], "close") == 0) closeAll(word[1]);
  endLap();
  report(&total, strcmp(word[0], "await") == 0 ? word[2] : "");
}

int main(void) {
  static char line[1 << 20];
  rest = epoll_create1(0);
  first = epoll_create1(0);
  struct epoll_event in = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(rest, EPOLL_CTL_ADD, 0, &in);
  reset();
  for (;;) {
    readAll();
    if (!orderWaits) continue;
    orderWaits = 0;
    size_t length = 0;
    // One order at a time: the next is given after the answer.
    do {
      ssize_t got = read(0, line + length, sizeof line - 1 - length);
      if (got <= 0) return 0;
      length += got;
    } while (line[length - 1] != '\n');
    line[length - 1] = 0;
    obey(line);
    orderWaits = 0;
  }
}
