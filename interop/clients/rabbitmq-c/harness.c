#include "harness.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static jmp_buf failed;
static char why[400];

void fail(const char *format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(why, sizeof why, format, values);
  va_end(values);
  longjmp(failed, 1);
}

const char *env(const char *name) {
  const char *value = getenv(name);
  if (value == NULL) fail("%s is not set", name);
  return value;
}

const char *prefixed(const char *name) {
  size_t size = strlen(env("AMQP_PREFIX")) + strlen(name) + 2;
  char *whole = malloc(size);
  snprintf(whole, size, "%s-%s", env("AMQP_PREFIX"), name);
  return whole;
}

const char *control(const char *format, ...) {
  static char answer[4096];
  char request[200];
  va_list values;
  va_start(values, format);
  vsnprintf(request, sizeof request - 1, format, values);
  va_end(values);
  strcat(request, "\n");
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(env("AMQP_CONTROL")))};
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  int line = socket(AF_INET, SOCK_STREAM, 0);
  if (connect(line, (struct sockaddr *)&address, sizeof address) != 0) fail("no control");
  CHECK(write(line, request, strlen(request)) == (ssize_t)strlen(request));
  size_t length = 0;
  ssize_t got;
  while (length < sizeof answer - 1 && (got = read(line, answer + length, sizeof answer - 1 - length)) > 0) {
    length += got;
    if (answer[length - 1] == '\n') break;
  }
  close(line);
  answer[length > 0 ? length - 1 : 0] = '\0';
  if (strncmp(answer, "ok", 2) != 0) fail("%.40s: %.300s", request, answer);
  return answer[2] == ' ' ? answer + 3 : answer + 2;
}

void pause_ms(int milliseconds) {
  nanosleep(&(struct timespec){milliseconds / 1000, milliseconds % 1000 * 1000000L}, NULL);
}

static void print_quoted(const char *text) {
  putchar('"');
  for (; *text != '\0'; text++) {
    if (*text == '"' || *text == '\\') {
      printf("\\%c", *text);
    } else if (*text < ' ' || *text > '~') {
      putchar('?');
    } else {
      putchar(*text);
    }
  }
  putchar('"');
}

static void play_one(const char *name, const struct scenario *scenarios) {
  const char *volatile outcome = "failed";
  const char *volatile detail = why;
  strcpy(why, "the program does not know this scenario");
  if (setjmp(failed) == 0) {
    for (; scenarios->name != NULL; scenarios++) {
      if (strcmp(scenarios->name, name) == 0) {
        detail = scenarios->play();
        outcome = "ok";
        break;
      }
    }
  }
  printf("{\"scenario\": \"%s\", \"outcome\": \"%s\", \"detail\": ", name, outcome);
  print_quoted(detail);
  puts("}");
  fflush(stdout);
}

int play(int count, char **names, const struct scenario *scenarios) {
  for (int i = 0; i < count; i++) play_one(names[i], scenarios);
  return 0;
}
