/* Where the broker is, the control line, and the JSON line for each scenario. Knows no client library. */
#ifndef HARNESS_H
#define HARNESS_H

#include <stdbool.h>
#include <stddef.h>

#define PATIENCE 30

struct scenario {
  const char *name;
  /* A word of detail, or "". */
  const char *(*play)(void);
};

/* Ends the scenario that is being played. */
_Noreturn void fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
#define CHECK(condition) \
  do { \
    if (!(condition)) fail("line %d: %s", __LINE__, #condition); \
  } while (0)

const char *env(const char *name);
/* "PREFIX-name", valid until the program ends. */
const char *prefixed(const char *name);
/* What the runner says behind `ok`; valid until the next call. */
const char *control(const char *format, ...) __attribute__((format(printf, 1, 2)));
void pause_ms(int milliseconds);
int play(int count, char **names, const struct scenario *scenarios);

#endif
