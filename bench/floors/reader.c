// Holds the other ends of many connections, checks every event on each, and counts: what loads/reader.ts does, at a
// cost that never limits a server. It polls and never sleeps: a server would pay for waking it, the more the slower it
// is, and clients elsewhere cost no server that.
//   cc -O2 -o reader reader.c
//
// Told on standard input, one line each, words parted by tabs; answers each with a line of JSON.
//   open  <port> <count> <topics> <bytes> <sample> <never 0|1> <group> <at once> <path> <header lines, \x01 for \r\n>
//   reset · await <events> · close <group, * for all> · calm <0|1> · report

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
  int fd, measures, never, bytes, left, head;
  enum state state;
  long events, disorder, received;
  int64_t seq, last, time;
  char group[16];
};

#define MOST 20000
static struct connection all[MOST];
static int used = 0, epoll;
static long goneEvents, goneDisorder, bytes, negative, lost;
static int64_t lastByte, since, cpuSince;

// ── latencies: buckets of 1/64 of a power of two, as HdrHistogram has them ───────────────────────────────

#define FINE 64
static long buckets[64 * FINE], measured;
static double sum;
static int64_t most;

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
  buckets[bucketOf(value)]++;
  measured++;
  sum += value;
  if (value > most) most = value;
}

static double percentile(double percent) {
  long wanted = (long)(measured * percent / 100 + 0.999999), seen = 0;
  for (int i = 0; i < 64 * FINE; i++)
    if ((seen += buckets[i]) >= wanted && seen > 0) return (highest(i) < most ? highest(i) : most) / 1000.0;
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

static void forget(struct connection *c) {
  close(c->fd);
  c->fd = -1;
  goneEvents += c->events;
  goneDisorder += c->disorder;
}

static void take(struct connection *c) {
  static char buffer[1 << 16];
  ssize_t length = read(c->fd, buffer, sizeof buffer);
  if (length > 0) {
    bytes += length;
    c->received += length;
    lastByte = now();
    follow(c, buffer, length);
  } else if (length == 0 || errno != EAGAIN) {
    forget(c);
    lost++;
  }
}

static int orderWaits = 0;

static int isCalm = 0;

// What a server pays on top for a reader that is there at once, on the same machine, is not the server's cost: a calm
// reader looks once a millisecond, and neither has to be woken nor holds a lock that the server's kernel side wants.
static void readAll(void) {
  if (isCalm) usleep(1000);
  struct epoll_event events[512];
  int count = epoll_wait(epoll, events, 512, 0);
  for (int i = 0; i < count; i++) {
    if (events[i].data.ptr == NULL) orderWaits = 1;
    else if (((struct connection *)events[i].data.ptr)->fd >= 0) take(events[i].data.ptr);
  }
}

// ── what it is told ─────────────────────────────────────────────────────────────────────────────────────

static long countEvents(void) {
  long events = goneEvents;
  for (int i = 0; i < used; i++)
    if (all[i].fd >= 0) events += all[i].events;
  return events;
}

static void report(void) {
  long events = goneEvents, disorder = goneDisorder, silent = 0, open = 0, answered = 0;
  for (int i = 0; i < used; i++) {
    struct connection *c = &all[i];
    if (c->fd < 0) continue;
    open++;
    events += c->events;
    disorder += c->disorder;
    silent += c->events == 0;
    answered += c->received > 0;
  }
  printf("{\"open\":%ld,\"lost\":%ld,\"answered\":%ld,\"events\":%ld,\"bytes\":%ld,\"disorder\":%ld,\"silent\":%ld,"
         "\"negative\":%ld,\"last\":%lld,\"cpu\":%lld,\"elapsed\":%lld,\"latency\":{\"count\":%ld,\"mean\":%.3f,"
         "\"p50\":%.3f,\"p90\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}}\n",
         open, lost, answered, events, bytes, disorder, silent, negative, (long long)lastByte,
         (long long)(cpu() - cpuSince), (long long)(now() - since), measured, measured ? sum / measured / 1000 : 0,
         percentile(50), percentile(90), percentile(99), percentile(99.9), most / 1000.0);
  fflush(stdout);
}

static void reset(void) {
  memset(buckets, 0, sizeof buckets);
  measured = most = sum = goneEvents = goneDisorder = bytes = negative = lost = 0;
  for (int i = 0; i < used; i++) all[i].events = all[i].disorder = 0;
  since = now();
  cpuSince = cpu();
}

static void openOne(char **word, int i, int topics) {
  char request[8192], path[2048];
  struct connection *c = NULL;
  for (int k = 0; k < used && c == NULL; k++)
    if (all[k].fd < 0) c = &all[k];
  if (c == NULL && used == MOST) return;
  if (c == NULL) c = &all[used++];
  *c = (struct connection){.bytes = atoi(word[4]), .never = atoi(word[6])};
  c->measures = atoi(word[5]) > 0 && i % atoi(word[5]) == 0;
  snprintf(c->group, sizeof c->group, "%s", word[7]);
  char *topic = strstr(word[9], "{topic}");
  if (topic == NULL) snprintf(path, sizeof path, "%s", word[9]);
  else snprintf(path, sizeof path, "%.*st%d%s", (int)(topic - word[9]), word[9], i % topics, topic + 7);
  int length = snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%s\r\n%s", path, word[1],
                        "Accept: text/event-stream\r\n"); // as EventSource asks; some servers stream to no other
  for (char *h = word[10]; *h && length < 8000; h++)
    length += *h == 1 ? sprintf(request + length, "\r\n") : sprintf(request + length, "%c", *h);
  length += sprintf(request + length, "\r\n");
  struct sockaddr_in to = {
      .sin_family = AF_INET, .sin_port = htons(atoi(word[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  c->fd = socket(AF_INET, SOCK_STREAM, 0);
  if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&to, sizeof to) || write(c->fd, request, length) < 0) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
    lost++;
    return;
  }
  fcntl(c->fd, F_SETFL, O_NONBLOCK);
  struct epoll_event in = {.events = EPOLLIN, .data.ptr = c};
  if (!c->never) epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &in);
}

static void openAll(char **word) {
  int count = atoi(word[2]), topics = atoi(word[3]), atOnce = atoi(word[8]);
  for (int i = 0; i < count; i++) {
    openOne(word, i, topics > 0 ? topics : 1);
    if (i % atOnce == atOnce - 1) readAll();
  }
}

// Until so many have come, or nothing has come for a second.
static void await(long wanted) {
  long before = -1;
  int64_t moved = now();
  for (long seen = countEvents(); seen < wanted && now() - moved < 1000000; seen = countEvents()) {
    if (seen != before) moved = now();
    before = seen;
    for (int64_t until = now() + 20000; now() < until;) readAll();
  }
}

static void closeAll(const char *group) {
  for (int i = 0; i < used; i++)
    if (all[i].fd >= 0 && (strcmp(group, "*") == 0 || strcmp(group, all[i].group) == 0)) {
      close(all[i].fd);
      all[i].fd = -1;
    }
}

static void obey(char *line) {
  char *word[11] = {0}, *rest = line;
  for (int i = 0; i < 11; i++) word[i] = rest ? strsep(&rest, "\t") : "";
  if (strcmp(word[0], "open") == 0) openAll(word);
  else if (strcmp(word[0], "reset") == 0) reset();
  else if (strcmp(word[0], "await") == 0) await(atol(word[1]));
  else if (strcmp(word[0], "calm") == 0) isCalm = atoi(word[1]);
  else if (strcmp(word[0], "close") == 0) closeAll(word[1]);
  report();
}

int main(void) {
  char line[16384];
  epoll = epoll_create1(0);
  struct epoll_event in = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(epoll, EPOLL_CTL_ADD, 0, &in);
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
