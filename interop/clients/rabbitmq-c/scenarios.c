/* rabbitmq-c in the common scenarios. */
#include <amqp.h>
#include <amqp_ssl_socket.h>
#include <amqp_tcp_socket.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>

#include "harness.h"

typedef amqp_connection_state_t connection;

#define NONE amqp_empty_table
#define EMPTY amqp_empty_bytes
#define LARGE (8 * 1024 * 1024)
#define TEXT(text) ((amqp_field_value_t){AMQP_FIELD_KIND_UTF8, {.bytes = amqp_cstring_bytes(text)}})
#define INT(number) ((amqp_field_value_t){AMQP_FIELD_KIND_I32, {.i32 = (number)}})
#define ENTRY(name, ...) ((amqp_table_entry_t){amqp_cstring_bytes(name), __VA_ARGS__})

static int port(void) { return atoi(env("AMQP_PORT")); }

static int reply_code(amqp_rpc_reply_t reply) {
  if (reply.reply_type == AMQP_RESPONSE_SERVER_EXCEPTION) {
    if (reply.reply.id == AMQP_CHANNEL_CLOSE_METHOD) return ((amqp_channel_close_t *)reply.reply.decoded)->reply_code;
    if (reply.reply.id == AMQP_CONNECTION_CLOSE_METHOD)
      return ((amqp_connection_close_t *)reply.reply.decoded)->reply_code;
  }
  return reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION ? reply.library_error : 0;
}

static void good(amqp_rpc_reply_t reply) {
  if (reply.reply_type == AMQP_RESPONSE_NORMAL) return;
  if (reply.reply_type == AMQP_RESPONSE_LIBRARY_EXCEPTION) fail("%s", amqp_error_string2(reply.library_error));
  fail("the broker says %d", reply_code(reply));
}

#define GOOD(c) good(amqp_get_rpc_reply(c))

/* The library announces only some of what it can do by itself. */
static amqp_table_t capabilities(void) {
  static amqp_table_entry_t able[2], whole;
  amqp_field_value_t yes = {AMQP_FIELD_KIND_BOOLEAN, {.boolean = 1}};
  able[0] = ENTRY("consumer_cancel_notify", yes);
  able[1] = ENTRY("connection.blocked", yes);
  whole = ENTRY("capabilities", {AMQP_FIELD_KIND_TABLE, {.table = {2, able}}});
  return (amqp_table_t){1, &whole};
}

static connection try_open(int at, int heartbeat, const char *vhost, const char *password, amqp_rpc_reply_t *reply) {
  connection c = amqp_new_connection();
  amqp_socket_t *socket = amqp_tcp_socket_new(c);
  int status = amqp_socket_open(socket, env("AMQP_HOST"), at);
  if (status != AMQP_STATUS_OK) {
    *reply = (amqp_rpc_reply_t){.reply_type = AMQP_RESPONSE_LIBRARY_EXCEPTION, .library_error = status};
  } else {
    amqp_table_t able = capabilities();
    *reply = amqp_login_with_properties(c, vhost, 0, 131072, heartbeat, &able, AMQP_SASL_METHOD_PLAIN, "guest",
                                        password);
  }
  return c;
}

static connection with_channels(connection c, int channels) {
  for (int channel = 1; channel <= channels; channel++) {
    amqp_channel_open(c, channel);
    GOOD(c);
  }
  return c;
}

static connection open_at(int at, int heartbeat, int channels) {
  amqp_rpc_reply_t reply;
  connection c = try_open(at, heartbeat, "/", "guest", &reply);
  good(reply);
  return with_channels(c, channels);
}

static connection open_channels(int channels) { return open_at(port(), 0, channels); }

static const char *finish(connection c) {
  amqp_connection_close(c, AMQP_REPLY_SUCCESS);
  amqp_destroy_connection(c);
  return "";
}

static const char *text_of(amqp_bytes_t bytes) {
  char *text = calloc(1, bytes.len + 1);
  memcpy(text, bytes.bytes, bytes.len);
  return text;
}

static const char *exclusive_with(connection c, int channel, amqp_table_t arguments) {
  amqp_queue_declare_ok_t *declared = amqp_queue_declare(c, channel, EMPTY, 0, 0, 1, 0, arguments);
  GOOD(c);
  return text_of(declared->queue);
}

static const char *exclusive(connection c, int channel) { return exclusive_with(c, channel, NONE); }

static int ready(connection c, int channel, const char *queue) {
  amqp_queue_declare_ok_t *declared = amqp_queue_declare(c, channel, amqp_cstring_bytes(queue), 1, 0, 0, 0, NONE);
  GOOD(c);
  return declared->message_count;
}

static void until_ready(connection c, int channel, const char *queue, int count) {
  for (int tries = 0; ready(c, channel, queue) != count; tries++) {
    if (tries == 1000) fail("not %d messages in %s", count, queue);
    pause_ms(20);
  }
}

static void publish(connection c, int channel, const char *exchange, const char *key, bool mandatory,
                    const amqp_basic_properties_t *properties, amqp_bytes_t body) {
  int status = amqp_basic_publish(c, channel, amqp_cstring_bytes(exchange), amqp_cstring_bytes(key), mandatory, 0,
                                  properties, body);
  if (status != AMQP_STATUS_OK) fail("publish: %s", amqp_error_string2(status));
}

static void send(connection c, int channel, const char *queue, const char *body) {
  publish(c, channel, "", queue, false, NULL, amqp_cstring_bytes(body));
}

static const amqp_basic_properties_t persistent = {._flags = AMQP_BASIC_DELIVERY_MODE_FLAG, .delivery_mode = 2};

static const char *consume(connection c, int channel, const char *queue, bool no_ack) {
  amqp_basic_consume_ok_t *ok = amqp_basic_consume(c, channel, amqp_cstring_bytes(queue), EMPTY, 0, no_ack, 0, NONE);
  GOOD(c);
  return text_of(ok->consumer_tag);
}

static amqp_envelope_t next(connection c) {
  amqp_envelope_t envelope;
  good(amqp_consume_message(c, &envelope, &(struct timeval){PATIENCE, 0}, 0));
  return envelope;
}

static bool is(amqp_bytes_t bytes, const char *text) {
  return bytes.len == strlen(text) && memcmp(bytes.bytes, text, bytes.len) == 0;
}

/* Consumes these bodies and no more, in this order, and then stops consuming. */
static void expect(connection c, int channel, const char *queue, int count, const char **bodies) {
  const char *tag = consume(c, channel, queue, true);
  for (int i = 0; i < count; i++) {
    amqp_envelope_t envelope = next(c);
    if (!is(envelope.message.body, bodies[i])) fail("%s instead of %s", text_of(envelope.message.body), bodies[i]);
    amqp_destroy_envelope(&envelope);
  }
  amqp_basic_cancel(c, channel, amqp_cstring_bytes(tag));
  GOOD(c);
}

/* The next method frame with that id; other frames are left out. NULL when the time is over. */
static void *await_method(connection c, amqp_method_number_t id, int seconds) {
  static amqp_frame_t frame;
  for (;;) {
    int status = amqp_simple_wait_frame_noblock(c, &frame, &(struct timeval){seconds, 0});
    if (status == AMQP_STATUS_TIMEOUT) return NULL;
    if (status != AMQP_STATUS_OK) fail("%s", amqp_error_string2(status));
    if (frame.frame_type == AMQP_FRAME_METHOD && frame.payload.method.id == id) return frame.payload.method.decoded;
  }
}

static const char *hello(void) {
  connection c = open_channels(1);
  const char *queue = exclusive(c, 1);
  send(c, 1, queue, "Hello World!");
  expect(c, 1, queue, 1, (const char *[]){"Hello World!"});
  return finish(c);
}

static const char *work_queues(void) {
  connection c = open_channels(2);
  const char *queue = exclusive(c, 1);
  for (int channel = 1; channel <= 2; channel++) {
    amqp_basic_qos(c, channel, 0, 1, 0);
    consume(c, channel, queue, false);
  }
  publish(c, 2, "", queue, false, &persistent, amqp_cstring_bytes("one"));
  publish(c, 2, "", queue, false, &persistent, amqp_cstring_bytes("two"));
  uint64_t tag = 0;
  const char *first = "";
  int seen = 0;
  for (int i = 0; i < 2; i++) {
    amqp_envelope_t envelope = next(c);
    seen |= 1 << envelope.channel;
    if (envelope.channel == 1) first = text_of(envelope.message.body);
    if (envelope.channel == 2) tag = envelope.delivery_tag;
    amqp_destroy_envelope(&envelope);
  }
  CHECK(seen == 6);
  amqp_channel_close(c, 1, AMQP_REPLY_SUCCESS);
  CHECK(amqp_basic_ack(c, 2, tag, 0) == AMQP_STATUS_OK);
  amqp_envelope_t again = next(c);
  CHECK(again.channel == 2 && again.redelivered && is(again.message.body, first));
  CHECK(amqp_basic_ack(c, 2, again.delivery_tag, 0) == AMQP_STATUS_OK);
  amqp_destroy_envelope(&again);
  return finish(c);
}

struct listener {
  const char *patterns[3];
  int count;
  const char *expected[4];
};

static const char *routed(const char *kind, int listeners, const struct listener *each, const char **keys) {
  connection c = open_channels(1);
  const char *exchange = prefixed(kind);
  const char *queues[3];
  amqp_exchange_declare(c, 1, amqp_cstring_bytes(exchange), amqp_cstring_bytes(kind), 0, 0, 1, 0, NONE);
  GOOD(c);
  for (int i = 0; i < listeners; i++) {
    queues[i] = exclusive(c, 1);
    for (int j = 0; j < 3 && each[i].patterns[j] != NULL; j++) {
      amqp_queue_bind(c, 1, amqp_cstring_bytes(queues[i]), amqp_cstring_bytes(exchange),
                      amqp_cstring_bytes(each[i].patterns[j]), NONE);
      GOOD(c);
    }
  }
  for (; *keys != NULL; keys++) publish(c, 1, exchange, *keys, false, NULL, amqp_cstring_bytes(*keys));
  for (int i = 0; i < listeners; i++) {
    expect(c, 1, queues[i], each[i].count, (const char **)each[i].expected);
    CHECK(ready(c, 1, queues[i]) == 0);
  }
  return finish(c);
}

static const char *publish_subscribe(void) {
  const struct listener both[] = {{{""}, 1, {"news"}}, {{""}, 1, {"news"}}};
  return routed("fanout", 2, both, (const char *[]){"news", NULL});
}

static const char *routing(void) {
  const struct listener each[] = {{{"error"}, 1, {"error"}},
                                  {{"info", "warning", "error"}, 3, {"info", "error", "warning"}}};
  return routed("direct", 2, each, (const char *[]){"info", "error", "debug", "warning", NULL});
}

static const char *topics(void) {
  const struct listener each[] = {{{"kern.*"}, 1, {"kern.critical"}},
                                  {{"*.critical"}, 2, {"kern.critical", "cron.critical"}},
                                  {{"#"}, 4, {"kern.critical", "cron.info", "cron.critical", "kern.a.b"}}};
  return routed("topic", 3, each, (const char *[]){"kern.critical", "cron.info", "cron.critical", "kern.a.b", NULL});
}

static int fibonacci(int n) { return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2); }

/* Answers one request: on a connection of one thread, the server serves when the client has asked. */
static void answer(connection c) {
  amqp_envelope_t request = next(c);
  char answered[20];
  snprintf(answered, sizeof answered, "%d", fibonacci(atoi(text_of(request.message.body))));
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_CORRELATION_ID_FLAG};
  properties.correlation_id = request.message.properties.correlation_id;
  publish(c, 1, "", text_of(request.message.properties.reply_to), false, &properties, amqp_cstring_bytes(answered));
  CHECK(amqp_basic_ack(c, 1, request.delivery_tag, 0) == AMQP_STATUS_OK);
  amqp_destroy_envelope(&request);
}

static const char *rpc(void) {
  connection server = open_channels(1), client = open_channels(1);
  const char *queue = prefixed("rpc");
  amqp_queue_declare(server, 1, amqp_cstring_bytes(queue), 0, 0, 0, 1, NONE);
  GOOD(server);
  consume(server, 1, queue, false);
  const char *callbacks[] = {exclusive(client, 1), "amq.rabbitmq.reply-to"};
  for (int i = 0; i < 2; i++) {
    consume(client, 1, callbacks[i], true);
    const char *asked[] = {"5", "10"}, *expected[] = {"5", "55"};
    for (int j = 0; j < 2; j++) {
      amqp_basic_properties_t properties = {._flags = AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG,
                                            .reply_to = amqp_cstring_bytes(callbacks[i]),
                                            .correlation_id = amqp_cstring_bytes(asked[j])};
      publish(client, 1, "", queue, false, &properties, amqp_cstring_bytes(asked[j]));
      answer(server);
      amqp_envelope_t answered = next(client);
      CHECK(is(answered.message.body, expected[j]));
      CHECK(is(answered.message.properties.correlation_id, asked[j]));
      amqp_destroy_envelope(&answered);
    }
  }
  finish(client);
  return finish(server);
}

/* Waits until all up to `last` are confirmed; returns the number of the last one that was. */
static uint64_t await_confirms(connection c, uint64_t confirmed, uint64_t last) {
  while (confirmed < last) {
    amqp_basic_ack_t *ack = await_method(c, AMQP_BASIC_ACK_METHOD, PATIENCE);
    if (ack == NULL) fail("message %d was not confirmed", (int)confirmed + 1);
    confirmed = ack->multiple ? ack->delivery_tag : confirmed + 1;
  }
  return confirmed;
}

static const char *confirms(void) {
  connection c = open_channels(1);
  const char *queue = exclusive(c, 1);
  amqp_confirm_select(c, 1);
  GOOD(c);
  uint64_t confirmed = 0;
  for (uint64_t number = 1; number <= 20; number++) {
    send(c, 1, queue, "single");
    confirmed = await_confirms(c, confirmed, number);
  }
  for (int i = 0; i < 100; i++) send(c, 1, queue, "batch");
  CHECK(await_confirms(c, confirmed, 120) == 120);
  CHECK(ready(c, 1, queue) == 120);
  finish(c);
  return "one by one and in batches: the library has no callbacks";
}

static const char *confirm_window(void) {
  connection c = open_channels(1);
  const char *queue = prefixed("window");
  amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 1, 0, 0, NONE);
  GOOD(c);
  amqp_confirm_select(c, 1);
  GOOD(c);
  uint64_t confirmed = 0;
  for (uint64_t published = 0; published < 1000; published++) {
    if (published >= confirmed + 100) confirmed = await_confirms(c, confirmed, published - 99);
    publish(c, 1, "", queue, false, &persistent, amqp_cstring_bytes("x"));
  }
  CHECK(await_confirms(c, confirmed, 1000) == 1000);
  CHECK(ready(c, 1, queue) == 1000);
  amqp_queue_delete(c, 1, amqp_cstring_bytes(queue), 0, 0);
  GOOD(c);
  finish(c);
  return "at most 100 unconfirmed";
}

static const char *mandatory(void) {
  connection c = open_channels(1);
  const char *queue = exclusive(c, 1);
  amqp_confirm_select(c, 1);
  GOOD(c);
  publish(c, 1, "", queue, true, NULL, amqp_cstring_bytes("routed"));
  CHECK(await_method(c, AMQP_BASIC_ACK_METHOD, PATIENCE) != NULL);
  amqp_basic_properties_t named = {._flags = AMQP_BASIC_MESSAGE_ID_FLAG, .message_id = amqp_cstring_bytes("m1")};
  publish(c, 1, "", prefixed("nowhere"), true, &named, amqp_cstring_bytes("lost"));
  amqp_frame_t frame;
  CHECK(amqp_simple_wait_frame_noblock(c, &frame, &(struct timeval){PATIENCE, 0}) == AMQP_STATUS_OK);
  CHECK(frame.payload.method.id == AMQP_BASIC_RETURN_METHOD);
  amqp_basic_return_t *back = frame.payload.method.decoded;
  CHECK(back->reply_code == 312 && is(back->reply_text, "NO_ROUTE"));
  amqp_message_t message;
  good(amqp_read_message(c, 1, &message, 0));
  CHECK(is(message.body, "lost") && is(message.properties.message_id, "m1"));
  amqp_destroy_message(&message);
  CHECK(await_method(c, AMQP_BASIC_ACK_METHOD, PATIENCE) != NULL);
  return finish(c);
}

static const char *prefetch(void) {
  connection c = open_channels(2);
  const char *queue = exclusive(c, 1);
  for (int i = 0; i < 10; i++) send(c, 2, queue, "task");
  until_ready(c, 2, queue, 10);
  amqp_basic_qos(c, 1, 0, 3, 0);
  GOOD(c);
  consume(c, 1, queue, false);
  for (int held = 0; held < 10;) {
    uint64_t last = 0;
    for (int more = held == 9 ? 1 : 3; more > 0; more--, held++) {
      amqp_envelope_t envelope = next(c);
      last = envelope.delivery_tag;
      amqp_destroy_envelope(&envelope);
    }
    CHECK(ready(c, 2, queue) == 10 - held);
    CHECK(amqp_basic_ack(c, 1, last, 1) == AMQP_STATUS_OK);
  }
  amqp_channel_close(c, 1, AMQP_REPLY_SUCCESS);
  CHECK(ready(c, 2, queue) == 0);
  return finish(c);
}

/* basic.get until there is a message. */
static amqp_basic_get_ok_t get(connection c, const char *queue, amqp_message_t *message) {
  for (int tries = 0; tries < 1000; tries++) {
    amqp_rpc_reply_t reply = amqp_basic_get(c, 1, amqp_cstring_bytes(queue), 0);
    good(reply);
    if (reply.reply.id == AMQP_BASIC_GET_OK_METHOD) {
      amqp_basic_get_ok_t ok = *(amqp_basic_get_ok_t *)reply.reply.decoded;
      good(amqp_read_message(c, 1, message, 0));
      return ok;
    }
    pause_ms(20);
  }
  fail("no message in %s", queue);
}

static amqp_field_value_t field(amqp_table_t table, const char *name) {
  for (int i = 0; i < table.num_entries; i++) {
    if (is(table.entries[i].key, name)) return table.entries[i].value;
  }
  fail("no %s", name);
}

static amqp_table_t death(amqp_message_t message) {
  amqp_field_value_t deaths = field(message.properties.headers, "x-death");
  CHECK(deaths.kind == AMQP_FIELD_KIND_ARRAY && deaths.value.array.num_entries > 0);
  return deaths.value.array.entries[0].value.table;
}

static amqp_table_t dead_lettered_to(const char *grave, amqp_table_entry_t *entries) {
  entries[0] = ENTRY("x-dead-letter-exchange", TEXT(""));
  entries[1] = ENTRY("x-dead-letter-routing-key", TEXT(grave));
  return (amqp_table_t){2, entries};
}

static const char *dead_letter(void) {
  connection c = open_channels(1);
  amqp_table_entry_t entries[2];
  const char *grave = exclusive(c, 1);
  const char *queue = exclusive_with(c, 1, dead_lettered_to(grave, entries));
  send(c, 1, queue, "0");
  send(c, 1, queue, "1");
  amqp_message_t message;
  CHECK(amqp_basic_nack(c, 1, get(c, queue, &message).delivery_tag, 0, 1) == AMQP_STATUS_OK);
  amqp_basic_get_ok_t again = get(c, queue, &message);
  CHECK(again.redelivered && is(message.body, "0"));
  CHECK(amqp_basic_nack(c, 1, get(c, queue, &message).delivery_tag, 1, 0) == AMQP_STATUS_OK);
  for (int i = 0; i < 2; i++) {
    get(c, grave, &message);
    amqp_table_t found = death(message);
    CHECK(is(field(found, "reason").value.bytes, "rejected"));
    CHECK(is(field(found, "queue").value.bytes, queue));
    CHECK(field(found, "count").value.i64 == 1);
  }
  return finish(c);
}

static const char *priorities(void) {
  connection c = open_channels(1);
  amqp_table_entry_t most = ENTRY("x-max-priority", INT(10));
  const char *queue = exclusive_with(c, 1, (amqp_table_t){1, &most});
  const char *sent[] = {"1", "5", "9", "3"};
  for (int i = 0; i < 4; i++) {
    amqp_basic_properties_t properties = {._flags = AMQP_BASIC_PRIORITY_FLAG, .priority = atoi(sent[i])};
    publish(c, 1, "", queue, false, &properties, amqp_cstring_bytes(sent[i]));
  }
  until_ready(c, 1, queue, 4);
  expect(c, 1, queue, 4, (const char *[]){"9", "5", "3", "1"});
  return finish(c);
}

static const char *ttl(void) {
  connection c = open_channels(1);
  amqp_table_entry_t entries[3];
  const char *grave = exclusive(c, 1);
  const char *by_message = exclusive_with(c, 1, dead_lettered_to(grave, entries));
  entries[2] = ENTRY("x-message-ttl", INT(40));
  const char *by_queue = exclusive_with(c, 1, (amqp_table_t){3, entries});
  amqp_basic_properties_t soon = {._flags = AMQP_BASIC_EXPIRATION_FLAG, .expiration = amqp_cstring_bytes("40")};
  publish(c, 1, "", by_message, false, &soon, amqp_cstring_bytes("message"));
  send(c, 1, by_queue, "queue");
  int found = 0;
  for (int i = 0; i < 2; i++) {
    amqp_message_t message;
    get(c, grave, &message);
    CHECK(is(field(death(message), "reason").value.bytes, "expired"));
    found |= is(message.body, "message") ? 1 : is(message.body, "queue") ? 2 : 4;
  }
  CHECK(found == 3);
  send(c, 1, by_message, "stays");
  expect(c, 1, by_message, 1, (const char *[]){"stays"});
  return finish(c);
}

static const char *large_and_empty(void) {
  connection c = open_channels(1);
  const char *queue = exclusive(c, 1);
  unsigned char *large = malloc(LARGE);
  for (int i = 0; i < LARGE; i++) large[i] = i;
  publish(c, 1, "", queue, false, NULL, (amqp_bytes_t){LARGE, large});
  publish(c, 1, "", queue, false, NULL, EMPTY);
  consume(c, 1, queue, true);
  amqp_envelope_t first = next(c), second = next(c);
  CHECK(first.message.body.len == LARGE && memcmp(first.message.body.bytes, large, LARGE) == 0);
  CHECK(second.message.body.len == 0);
  free(large);
  amqp_destroy_envelope(&first);
  amqp_destroy_envelope(&second);
  return finish(c);
}

static amqp_table_t values(void) {
  static amqp_field_value_t array[3];
  static amqp_table_entry_t deep, nested, entries[17];
  deep = ENTRY("deep", INT(1));
  nested = ENTRY("nested", {AMQP_FIELD_KIND_TABLE, {.table = {1, &deep}}});
  array[0] = INT(1);
  array[1] = TEXT("two");
  array[2] = (amqp_field_value_t){AMQP_FIELD_KIND_TABLE, {.table = {1, &deep}}};
  amqp_bytes_t octets = {2, "\0\xff"};
  int i = 0;
  entries[i++] = ENTRY("bool", {AMQP_FIELD_KIND_BOOLEAN, {.boolean = 1}});
  entries[i++] = ENTRY("i8", {AMQP_FIELD_KIND_I8, {.i8 = -100}});
  entries[i++] = ENTRY("u8", {AMQP_FIELD_KIND_U8, {.u8 = 200}});
  entries[i++] = ENTRY("i16", {AMQP_FIELD_KIND_I16, {.i16 = -30000}});
  entries[i++] = ENTRY("u16", {AMQP_FIELD_KIND_U16, {.u16 = 60000}});
  entries[i++] = ENTRY("i32", {AMQP_FIELD_KIND_I32, {.i32 = -2147483647}});
  entries[i++] = ENTRY("u32", {AMQP_FIELD_KIND_U32, {.u32 = 4294967295u}});
  entries[i++] = ENTRY("i64", {AMQP_FIELD_KIND_I64, {.i64 = 1LL << 62}});
  entries[i++] = ENTRY("float", {AMQP_FIELD_KIND_F32, {.f32 = 1.5f}});
  entries[i++] = ENTRY("double", {AMQP_FIELD_KIND_F64, {.f64 = 2.5}});
  entries[i++] = ENTRY("decimal", {AMQP_FIELD_KIND_DECIMAL, {.decimal = {2, 1234}}});
  entries[i++] = ENTRY("string", TEXT("text \xc3\xa9"));
  entries[i++] = ENTRY("bytes", {AMQP_FIELD_KIND_BYTES, {.bytes = octets}});
  entries[i++] = ENTRY("timestamp", {AMQP_FIELD_KIND_TIMESTAMP, {.u64 = 1700000000}});
  entries[i++] = ENTRY("table", {AMQP_FIELD_KIND_TABLE, {.table = {1, &nested}}});
  entries[i++] = ENTRY("array", {AMQP_FIELD_KIND_ARRAY, {.array = {3, array}}});
  entries[i++] = ENTRY("void", {AMQP_FIELD_KIND_VOID, {0}});
  return (amqp_table_t){i, entries};
}

static bool same_value(amqp_field_value_t one, amqp_field_value_t other);

static bool same_table(amqp_table_t one, amqp_table_t other) {
  bool same = one.num_entries == other.num_entries;
  for (int i = 0; same && i < one.num_entries; i++) {
    amqp_bytes_t key = one.entries[i].key, found = other.entries[i].key;
    same = key.len == found.len && memcmp(key.bytes, found.bytes, key.len) == 0 &&
           same_value(one.entries[i].value, other.entries[i].value);
  }
  return same;
}

static bool same_value(amqp_field_value_t one, amqp_field_value_t other) {
  if (one.kind != other.kind) return false;
  switch (one.kind) {
    case AMQP_FIELD_KIND_BOOLEAN: return one.value.boolean == other.value.boolean;
    case AMQP_FIELD_KIND_I8: return one.value.i8 == other.value.i8;
    case AMQP_FIELD_KIND_U8: return one.value.u8 == other.value.u8;
    case AMQP_FIELD_KIND_I16: return one.value.i16 == other.value.i16;
    case AMQP_FIELD_KIND_U16: return one.value.u16 == other.value.u16;
    case AMQP_FIELD_KIND_I32: return one.value.i32 == other.value.i32;
    case AMQP_FIELD_KIND_U32: return one.value.u32 == other.value.u32;
    case AMQP_FIELD_KIND_I64: return one.value.i64 == other.value.i64;
    case AMQP_FIELD_KIND_F32: return one.value.f32 == other.value.f32;
    case AMQP_FIELD_KIND_F64: return one.value.f64 == other.value.f64;
    case AMQP_FIELD_KIND_DECIMAL:
      return one.value.decimal.decimals == other.value.decimal.decimals &&
             one.value.decimal.value == other.value.decimal.value;
    case AMQP_FIELD_KIND_TIMESTAMP: return one.value.u64 == other.value.u64;
    case AMQP_FIELD_KIND_TABLE: return same_table(one.value.table, other.value.table);
    case AMQP_FIELD_KIND_VOID: return true;
    case AMQP_FIELD_KIND_ARRAY: {
      bool same = one.value.array.num_entries == other.value.array.num_entries;
      for (int i = 0; same && i < one.value.array.num_entries; i++)
        same = same_value(one.value.array.entries[i], other.value.array.entries[i]);
      return same;
    }
    default:
      return one.value.bytes.len == other.value.bytes.len &&
             memcmp(one.value.bytes.bytes, other.value.bytes.bytes, one.value.bytes.len) == 0;
  }
}

static const char *table_values(void) {
  connection c = open_channels(1);
  const char *queue = exclusive(c, 1);
  amqp_basic_properties_t properties = {._flags = AMQP_BASIC_HEADERS_FLAG, .headers = values()};
  publish(c, 1, "", queue, false, &properties, EMPTY);
  consume(c, 1, queue, true);
  amqp_envelope_t envelope = next(c);
  CHECK(same_table(envelope.message.properties.headers, values()));
  amqp_destroy_envelope(&envelope);
  finish(c);
  return "every type, unsigned ones included";
}

static const char *headers_to_the_byte(void) {
  static char detail[100];
  int relay = atoi(control("relay"));
  connection c = open_at(relay, 0, 1);
  const char *queue = exclusive(c, 1);
  amqp_basic_properties_t all = {
      ._flags = AMQP_BASIC_CONTENT_TYPE_FLAG | AMQP_BASIC_CONTENT_ENCODING_FLAG | AMQP_BASIC_HEADERS_FLAG |
                AMQP_BASIC_DELIVERY_MODE_FLAG | AMQP_BASIC_PRIORITY_FLAG | AMQP_BASIC_CORRELATION_ID_FLAG |
                AMQP_BASIC_REPLY_TO_FLAG | AMQP_BASIC_EXPIRATION_FLAG | AMQP_BASIC_MESSAGE_ID_FLAG |
                AMQP_BASIC_TIMESTAMP_FLAG | AMQP_BASIC_TYPE_FLAG | AMQP_BASIC_USER_ID_FLAG | AMQP_BASIC_APP_ID_FLAG,
      .content_type = amqp_cstring_bytes("text/plain"),
      .content_encoding = amqp_cstring_bytes("utf-8"),
      .headers = values(),
      .delivery_mode = 2,
      .priority = 3,
      .correlation_id = amqp_cstring_bytes("correlation"),
      .reply_to = amqp_cstring_bytes("reply"),
      .expiration = amqp_cstring_bytes("60000"),
      .message_id = amqp_cstring_bytes("id"),
      .timestamp = 1700000000,
      .type = amqp_cstring_bytes("kind"),
      .user_id = amqp_cstring_bytes("guest"),
      .app_id = amqp_cstring_bytes("app"),
  };
  publish(c, 1, "", queue, false, &all, amqp_cstring_bytes("body"));
  expect(c, 1, queue, 1, (const char *[]){"body"});
  snprintf(detail, sizeof detail, "%s header", control("headers %d", relay));
  finish(c);
  return detail;
}

static const char *consumer_cancel(void) {
  connection c = open_channels(2);
  const char *queue = exclusive(c, 1), *tag = consume(c, 1, queue, false);
  amqp_queue_delete(c, 2, amqp_cstring_bytes(queue), 0, 0);
  GOOD(c);
  amqp_basic_cancel_t *told = await_method(c, AMQP_BASIC_CANCEL_METHOD, PATIENCE);
  CHECK(told != NULL && is(told->consumer_tag, tag));
  return finish(c);
}

static const char *blocked(void) {
  connection c = open_channels(1);
  const char *queue = exclusive(c, 1);
  control("alarm on");
  send(c, 1, queue, "x");
  amqp_connection_blocked_t *told = await_method(c, AMQP_CONNECTION_BLOCKED_METHOD, PATIENCE);
  CHECK(told != NULL);
  const char *reason = text_of(told->reason);
  control("alarm off");
  CHECK(await_method(c, AMQP_CONNECTION_UNBLOCKED_METHOD, PATIENCE) != NULL);
  finish(c);
  return reason;
}

static connection open_recovery(const char *name) {
  connection c = NULL;
  amqp_rpc_reply_t reply = {.reply_type = AMQP_RESPONSE_NONE};
  for (int tries = 0; reply.reply_type != AMQP_RESPONSE_NORMAL; tries++) {
    if (tries > 200) fail("no connection any more");
    if (c != NULL) {
      amqp_destroy_connection(c);
      pause_ms(100);
    }
    c = try_open(port(), 0, "/", "guest", &reply);
  }
  with_channels(c, 1);
  amqp_bytes_t bytes = amqp_cstring_bytes(name);
  amqp_exchange_declare(c, 1, bytes, amqp_cstring_bytes("direct"), 0, 1, 0, 0, NONE);
  GOOD(c);
  amqp_queue_declare(c, 1, bytes, 0, 1, 0, 0, NONE);
  GOOD(c);
  amqp_queue_bind(c, 1, bytes, bytes, amqp_cstring_bytes("key"), NONE);
  GOOD(c);
  amqp_confirm_select(c, 1);
  GOOD(c);
  return c;
}

/* The library leaves recovery to the program: connect, declare and consume again. */
static const char *recovery(void) {
  const char *name = prefixed("recovery");
  connection c = open_recovery(name);
  publish(c, 1, name, "key", false, &persistent, amqp_cstring_bytes("before"));
  CHECK(await_method(c, AMQP_BASIC_ACK_METHOD, PATIENCE) != NULL);
  control("restart");
  amqp_frame_t frame;
  int status = amqp_simple_wait_frame_noblock(c, &frame, &(struct timeval){PATIENCE, 0});
  CHECK(status != AMQP_STATUS_OK && status != AMQP_STATUS_TIMEOUT);
  amqp_destroy_connection(c);
  c = open_recovery(name);
  publish(c, 1, name, "key", false, &persistent, amqp_cstring_bytes("after"));
  CHECK(await_method(c, AMQP_BASIC_ACK_METHOD, PATIENCE) != NULL);
  expect(c, 1, name, 2, (const char *[]){"before", "after"});
  amqp_queue_delete(c, 1, amqp_cstring_bytes(name), 0, 0);
  amqp_exchange_delete(c, 1, amqp_cstring_bytes(name), 0);
  finish(c);
  return "by the program";
}

static const char *heartbeats(void) {
  int relay = atoi(control("relay"));
  connection c = open_at(relay, 1, 1);
  amqp_frame_t frame;
  CHECK(amqp_simple_wait_frame_noblock(c, &frame, &(struct timeval){3, 500000}) == AMQP_STATUS_TIMEOUT);
  control("freeze %d", relay);
  int status = amqp_simple_wait_frame_noblock(c, &frame, &(struct timeval){PATIENCE, 0});
  CHECK(status == AMQP_STATUS_HEARTBEAT_TIMEOUT);
  control("dropped %d", relay);
  amqp_destroy_connection(c);
  return amqp_error_string2(status);
}

static connection open_tls(const char *authority, int *status) {
  connection c = amqp_new_connection();
  amqp_socket_t *socket = amqp_ssl_socket_new(c);
  CHECK(amqp_ssl_socket_set_cacert(socket, env(authority)) == AMQP_STATUS_OK);
  amqp_ssl_socket_set_verify_peer(socket, 1);
  amqp_ssl_socket_set_verify_hostname(socket, 1);
  *status = amqp_socket_open(socket, "localhost", atoi(env("AMQP_TLS_PORT")));
  return c;
}

static const char *tls(void) {
  int status;
  connection c = open_tls("AMQP_CA", &status);
  if (status != AMQP_STATUS_OK) fail("%s", amqp_error_string2(status));
  good(amqp_login(c, "/", 0, 131072, 0, AMQP_SASL_METHOD_PLAIN, "guest", "guest"));
  with_channels(c, 1);
  const char *queue = exclusive(c, 1);
  send(c, 1, queue, "secret");
  expect(c, 1, queue, 1, (const char *[]){"secret"});
  finish(c);
  c = open_tls("AMQP_OTHER_CA", &status);
  CHECK(status != AMQP_STATUS_OK);
  amqp_destroy_connection(c);
  return amqp_error_string2(status);
}

static int declared(const char *queue, bool passive, bool is_exclusive, bool auto_delete) {
  connection c = open_channels(1);
  amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), passive, 0, is_exclusive, auto_delete, NONE);
  int code = reply_code(amqp_get_rpc_reply(c));
  amqp_destroy_connection(c);
  return code;
}

static const char *errors(void) {
  connection c = open_channels(2);
  const char *queue = prefixed("errors"), *other = prefixed("errors-other");
  amqp_queue_declare(c, 1, amqp_cstring_bytes(queue), 0, 0, 1, 0, NONE);
  GOOD(c);
  amqp_queue_declare(c, 1, amqp_cstring_bytes(other), 0, 0, 0, 1, NONE);
  GOOD(c);
  CHECK(declared(prefixed("missing"), true, false, false) == 404);
  CHECK(declared(other, false, false, false) == 406);
  CHECK(declared(queue, true, false, false) == 405);
  CHECK(amqp_basic_ack(c, 2, 42, 0) == AMQP_STATUS_OK);
  amqp_channel_close_t *closed = await_method(c, AMQP_CHANNEL_CLOSE_METHOD, PATIENCE);
  CHECK(closed != NULL && closed->reply_code == 406);
  finish(c);
  amqp_rpc_reply_t reply;
  c = try_open(port(), 0, "/", "wrong", &reply);
  CHECK(reply_code(reply) == 403);
  amqp_destroy_connection(c);
  c = try_open(port(), 0, "missing", "guest", &reply);
  CHECK(reply_code(reply) == 530);
  amqp_destroy_connection(c);
  return "amqp_rpc_reply_t with the broker's channel.close or connection.close";
}

static const struct scenario scenarios[] = {
    {"tutorial-1-hello", hello},
    {"tutorial-2-work-queues", work_queues},
    {"tutorial-3-publish-subscribe", publish_subscribe},
    {"tutorial-4-routing", routing},
    {"tutorial-5-topics", topics},
    {"tutorial-6-rpc", rpc},
    {"tutorial-7-confirms", confirms},
    {"confirm-window", confirm_window},
    {"mandatory-return", mandatory},
    {"prefetch-multiple-ack", prefetch},
    {"nack-dead-letter", dead_letter},
    {"priorities", priorities},
    {"ttl", ttl},
    {"large-and-empty", large_and_empty},
    {"table-values", table_values},
    {"headers-to-the-byte", headers_to_the_byte},
    {"consumer-cancel", consumer_cancel},
    {"connection-blocked", blocked},
    {"recovery", recovery},
    {"heartbeats", heartbeats},
    {"tls", tls},
    {"errors", errors},
    {NULL, NULL},
};

int main(int count, char **arguments) { return play(count - 1, arguments + 1, scenarios); }
