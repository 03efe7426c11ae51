/*
 * What the C drivers of the bench share: packets, the clock, and a dialogue of one line per request and one per answer.
 * The including file supplies a session and these four functions.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

typedef struct session session;

/* A fresh session for both directions, or NULL where the suite is not there. */
static session *open_session(const char *suite);
static void close_session(session *s);
/* In place, with room behind the packet; the new length, or -1. */
static int protect(session *s, uint8_t *packet, int length);
static int unprotect(session *s, uint8_t *packet, int length);

enum { HEADER = 12, ROOM = 32, WARM_PACKETS = 64 };

static const uint8_t MASTER_KEY = 0x5a;
static const uint8_t MASTER_SALT = 0xa5;

/* The packets of a workload: `count` slots of `slot` octets. */
static uint8_t *packets;
static int *lengths;
static int count, payload, slot;
static char suite[64];

static uint64_t now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Fresh plain packets; `first` is the sequence number of slot 0. */
static void lay_out(unsigned first) {
  for (int i = 0; i < count; i++) {
    uint8_t *p = packets + (size_t)i * slot;
    unsigned sequence = first + i;
    memset(p, 0, HEADER);
    memset(p + HEADER, 0x42, payload);
    p[0] = 0x80;
    p[2] = sequence >> 8;
    p[3] = sequence;
    p[11] = 1;
    lengths[i] = HEADER + payload;
  }
}

static void fail(const char *what) {
  printf("error %s\n", what);
  fflush(stdout);
  exit(1);
}

static void begin(int octets, int number) {
  session *s = open_session(suite);
  if (s == NULL) {
    puts("none");
    return;
  }
  close_session(s);
  payload = octets;
  count = number;
  slot = (HEADER + octets + ROOM + 15) & ~15;
  free(packets);
  free(lengths);
  packets = aligned_alloc(16, (size_t)slot * count);
  lengths = calloc(count, sizeof *lengths);
  puts("ok");
}

/* Nanoseconds of protect and of unprotect in one fresh session, after a burst that brings memory into the caches. */
static void round_of(int bursts) {
  session *s = open_session(suite);
  uint64_t sealing = 0, opening = 0;
  for (int burst = 0; burst <= bursts; burst++) {
    int failures = 0;
    lay_out((unsigned)burst * count);
    uint64_t t0 = now();
    for (int i = 0; i < count; i++) lengths[i] = protect(s, packets + (size_t)i * slot, lengths[i]);
    uint64_t t1 = now();
    for (int i = 0; i < count; i++) failures += unprotect(s, packets + (size_t)i * slot, lengths[i]) < 0;
    uint64_t t2 = now();
    if (failures > 0) fail("packets did not open");
    if (burst == 0) continue;
    sealing += t1 - t0;
    opening += t2 - t1;
  }
  close_session(s);
  printf("%llu %llu\n", (unsigned long long)sealing, (unsigned long long)opening);
}

static int ascending(const void *a, const void *b) {
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

/* Percentiles of single calls: protect p50, p99, unprotect p50, p99. The clock itself is within. */
static void latency(int bursts) {
  session *s = open_session(suite);
  size_t calls = (size_t)bursts * count;
  uint64_t *sealing = calloc(calls, sizeof *sealing), *opening = calloc(calls, sizeof *opening);
  for (int burst = 0; burst < bursts; burst++) {
    lay_out((unsigned)burst * count);
    for (int i = 0; i < count; i++) {
      uint64_t t = now();
      lengths[i] = protect(s, packets + (size_t)i * slot, lengths[i]);
      sealing[(size_t)burst * count + i] = now() - t;
    }
    for (int i = 0; i < count; i++) {
      uint64_t t = now();
      if (unprotect(s, packets + (size_t)i * slot, lengths[i]) < 0) fail("a packet did not open");
      opening[(size_t)burst * count + i] = now() - t;
    }
  }
  close_session(s);
  qsort(sealing, calls, sizeof *sealing, ascending);
  qsort(opening, calls, sizeof *opening, ascending);
  printf("%llu %llu %llu %llu\n", (unsigned long long)sealing[calls / 2], (unsigned long long)sealing[calls * 99 / 100],
         (unsigned long long)opening[calls / 2], (unsigned long long)opening[calls * 99 / 100]);
  free(sealing);
  free(opening);
}

static long resident(void) {
  long size = 0, pages = 0;
  FILE *f = fopen("/proc/self/statm", "r");
  if (f == NULL || fscanf(f, "%ld %ld", &size, &pages) != 2) pages = 0;
  if (f != NULL) fclose(f);
  return pages * sysconf(_SC_PAGESIZE);
}

/* Resident octets per session that has carried some packets, with as many sessions there before: what comes once is not counted. */
static void memory(int sessions) {
  session **held = calloc(2 * sessions, sizeof *held);
  long before = 0;
  for (int k = 0; k < 2 * sessions; k++) {
    if (k == sessions) before = resident();
    held[k] = open_session(suite);
    lay_out(0);
    for (int i = 0; i < WARM_PACKETS && i < count; i++) {
      int length = protect(held[k], packets + (size_t)i * slot, lengths[i]);
      if (unprotect(held[k], packets + (size_t)i * slot, length) < 0) fail("a packet did not open");
    }
  }
  printf("%ld\n", (resident() - before) / sessions);
  for (int k = 0; k < 2 * sessions; k++) close_session(held[k]);
  free(held);
}

int main(void) {
  char line[128];
  int a, b;
  while (fgets(line, sizeof line, stdin) != NULL) {
    if (sscanf(line, "begin %63s %d %d", suite, &a, &b) == 3) begin(a, b);
    else if (sscanf(line, "round %d", &a) == 1) round_of(a);
    else if (sscanf(line, "latency %d", &a) == 1) latency(a);
    else if (sscanf(line, "memory %d", &a) == 1) memory(a);
    else puts("error unknown request");
    fflush(stdout);
  }
  return 0;
}
