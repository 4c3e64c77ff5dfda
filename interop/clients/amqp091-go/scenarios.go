// amqp091-go in the common scenarios.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"sort"
	"strconv"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

var background = context.Background()

func url(at string) string { return fmt.Sprintf("amqp://guest:guest@%s:%s/", host, at) }

func connect() *amqp.Connection { return of(amqp.Dial(url(port))) }

// withChannels opens that many channels on a connection of their own.
func withChannels(count int, work func(connection *amqp.Connection, channels []*amqp.Channel)) {
	connection := connect()
	defer connection.Close()
	channels := make([]*amqp.Channel, count)
	for i := range channels {
		channels[i] = of(connection.Channel())
	}
	work(connection, channels)
}

func exclusive(channel *amqp.Channel, arguments amqp.Table) string {
	return of(channel.QueueDeclare("", false, false, true, false, arguments)).Name
}

func publish(channel *amqp.Channel, exchange, key, body string, more ...func(*amqp.Publishing)) {
	message := amqp.Publishing{Body: []byte(body)}
	for _, change := range more {
		change(&message)
	}
	must(channel.PublishWithContext(background, exchange, key, false, false, message))
}

func persistent(message *amqp.Publishing) { message.DeliveryMode = amqp.Persistent }

func consume(channel *amqp.Channel, queue, tag string, autoAck bool) <-chan amqp.Delivery {
	return of(channel.Consume(queue, tag, autoAck, false, false, false, nil))
}

// take gets the next messages of a consumer that needs no acknowledgements.
func take(channel *amqp.Channel, queue string, count int) (found []amqp.Delivery) {
	tag := "taker of " + queue
	deliveries := consume(channel, queue, tag, true)
	for len(found) < count {
		found = append(found, next(deliveries, "a message of "+queue))
	}
	must(channel.Cancel(tag, false))
	return found
}

func bodies(channel *amqp.Channel, queue string, count int) []string {
	found := []string{}
	for _, delivery := range take(channel, queue, count) {
		found = append(found, string(delivery.Body))
	}
	return found
}

func ready(channel *amqp.Channel, queue string) int {
	return of(channel.QueueDeclarePassive(queue, false, false, false, false, nil)).Messages
}

func hello() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		publish(c[0], "", queue, "Hello World!")
		same(bodies(c[0], queue, 1), []string{"Hello World!"})
	})
	return ""
}

func workQueues() string {
	withChannels(2, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		for _, channel := range c {
			must(channel.Qos(1, 0, false))
		}
		first, second := consume(c[0], queue, "", false), consume(c[1], queue, "", false)
		publish(c[1], "", queue, "one", persistent)
		publish(c[1], "", queue, "two", persistent)
		one, two := next(first, "the first task"), next(second, "the second task")
		same([]string{string(one.Body), string(two.Body)}, []string{"one", "two"})
		must(c[0].Close())
		must(two.Ack(false))
		again := next(second, "the task of the closed channel")
		same([]any{again.Redelivered, string(again.Body)}, []any{true, "one"})
		must(again.Ack(false))
	})
	return ""
}

func publishSubscribe() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		exchange := prefix + "-logs"
		must(c[0].ExchangeDeclare(exchange, "fanout", false, true, false, false, nil))
		queues := []string{exclusive(c[0], nil), exclusive(c[0], nil)}
		for _, queue := range queues {
			must(c[0].QueueBind(queue, "", exchange, false, nil))
		}
		publish(c[0], exchange, "", "news")
		for _, queue := range queues {
			same(bodies(c[0], queue, 1), []string{"news"})
		}
	})
	return ""
}

func routed(kind string, bindings [][]string, keys []string, expected [][]string) string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		exchange := prefix + "-" + kind
		must(c[0].ExchangeDeclare(exchange, kind, false, true, false, false, nil))
		queues := []string{}
		for _, patterns := range bindings {
			queue := exclusive(c[0], nil)
			for _, pattern := range patterns {
				must(c[0].QueueBind(queue, pattern, exchange, false, nil))
			}
			queues = append(queues, queue)
		}
		for _, key := range keys {
			publish(c[0], exchange, key, key)
		}
		for i, queue := range queues {
			same(bodies(c[0], queue, len(expected[i])), expected[i])
			same(ready(c[0], queue), 0)
		}
	})
	return ""
}

func routing() string {
	bindings := [][]string{{"error"}, {"info", "warning", "error"}}
	keys := []string{"info", "error", "debug", "warning"}
	return routed("direct", bindings, keys, [][]string{{"error"}, {"info", "error", "warning"}})
}

func topics() string {
	keys := []string{"kern.critical", "cron.info", "cron.critical", "kern.a.b"}
	expected := [][]string{{"kern.critical"}, {"kern.critical", "cron.critical"}, keys}
	return routed("topic", [][]string{{"kern.*"}, {"*.critical"}, {"#"}}, keys, expected)
}

func fibonacci(n int) int {
	if n < 2 {
		return n
	}
	return fibonacci(n-1) + fibonacci(n-2)
}

func rpc() string {
	withChannels(2, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		requests := consume(c[0], queue, "", false)
		go func() {
			for request := range requests {
				n, _ := strconv.Atoi(string(request.Body))
				answer := amqp.Publishing{CorrelationId: request.CorrelationId, Body: []byte(strconv.Itoa(fibonacci(n)))}
				_ = c[0].PublishWithContext(background, "", request.ReplyTo, false, false, answer)
				_ = request.Ack(false)
			}
		}()
		for _, replyTo := range []string{exclusive(c[1], nil), "amq.rabbitmq.reply-to"} {
			answers := consume(c[1], replyTo, "", true)
			found := map[string]string{}
			for _, n := range []string{"5", "10"} {
				publish(c[1], "", queue, n, func(m *amqp.Publishing) { m.ReplyTo, m.CorrelationId = replyTo, n })
			}
			for len(found) < 2 {
				answer := next(answers, "an answer")
				found[answer.CorrelationId] = string(answer.Body)
			}
			same(found, map[string]string{"5": "5", "10": "55"})
		}
	})
	return ""
}

func deferred(channel *amqp.Channel, queue, body string) *amqp.DeferredConfirmation {
	message := amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
	return of(channel.PublishWithDeferredConfirmWithContext(background, "", queue, false, false, message))
}

func confirms() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		must(c[0].Confirm(false))
		for i := 0; i < 20; i++ {
			same(deferred(c[0], queue, "single").Wait(), true)
		}
		batch := []*amqp.DeferredConfirmation{}
		for i := 0; i < 50; i++ {
			batch = append(batch, deferred(c[0], queue, "batch"))
		}
		for _, confirmation := range batch {
			same(confirmation.Wait(), true)
		}
		notified := c[0].NotifyPublish(make(chan amqp.Confirmation, 50))
		for i := 0; i < 50; i++ {
			publish(c[0], "", queue, "async")
		}
		for i := 0; i < 50; i++ {
			same(next(notified, "a confirm").Ack, true)
		}
		same(ready(c[0], queue), 120)
	})
	return ""
}

func confirmWindow() string {
	most := 0
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := of(c[0].QueueDeclare(prefix+"-window", true, false, false, false, nil)).Name
		must(c[0].Confirm(false))
		open, acked := []*amqp.DeferredConfirmation{}, 0
		for i := 0; i < 1000; i++ {
			if len(open) == 100 {
				same(open[0].Wait(), true)
				open, acked = open[1:], acked+1
			}
			open = append(open, deferred(c[0], queue, "x"))
			most = max(most, len(open))
		}
		for _, confirmation := range open {
			same(confirmation.Wait(), true)
			acked++
		}
		same([]int{acked, ready(c[0], queue)}, []int{1000, 1000})
		of(c[0].QueueDelete(queue, false, false, false))
	})
	return fmt.Sprintf("at most %d unconfirmed", most)
}

func mandatory() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		must(c[0].Confirm(false))
		// One unbuffered channel each keeps the order in which the library hands them out.
		returns, acks := c[0].NotifyReturn(make(chan amqp.Return)), c[0].NotifyPublish(make(chan amqp.Confirmation))
		events := make(chan any, 4)
		go func() {
			for {
				select {
				case returned, open := <-returns:
					if !open {
						return
					}
					events <- []any{returned.ReplyCode, returned.ReplyText, returned.MessageId, string(returned.Body)}
				case confirmed := <-acks:
					events <- confirmed.Ack
				}
			}
		}()
		send := func(key string, message amqp.Publishing) {
			must(c[0].PublishWithContext(background, "", key, true, false, message))
		}
		send(queue, amqp.Publishing{Body: []byte("routed")})
		same(next(events, "an ack"), any(true))
		send(prefix+"-nowhere", amqp.Publishing{Body: []byte("lost"), MessageId: "m1"})
		found := []any{next(events, "the return"), next(events, "its ack")}
		same(found, []any{[]any{uint16(312), "NO_ROUTE", "m1", "lost"}, true})
	})
	return ""
}

func prefetch() string {
	withChannels(2, func(_ *amqp.Connection, c []*amqp.Channel) {
		channel, look := c[0], c[1]
		queue := exclusive(channel, nil)
		for i := 0; i < 10; i++ {
			publish(look, "", queue, strconv.Itoa(i))
		}
		until("ten messages", func() bool { return ready(look, queue) == 10 })
		must(channel.Qos(3, 0, false))
		deliveries := consume(channel, queue, "", false)
		for held := 0; held < 10; {
			var last amqp.Delivery
			for more := min(3, 10-held); more > 0; more-- {
				last = next(deliveries, "a delivery")
				held++
			}
			same(ready(look, queue), 10-held)
			must(last.Ack(true))
		}
		must(channel.Close())
		same(ready(look, queue), 0)
	})
	return ""
}

func getOne(channel *amqp.Channel, queue string) (found amqp.Delivery) {
	until("a message in "+queue, func() bool {
		delivery, there, err := channel.Get(queue, false)
		must(err)
		found = delivery
		return there
	})
	return found
}

func death(delivery amqp.Delivery) amqp.Table {
	return delivery.Headers["x-death"].([]interface{})[0].(amqp.Table)
}

func deadLetter() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		grave := exclusive(c[0], nil)
		queue := exclusive(c[0], amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave})
		publish(c[0], "", queue, "0")
		publish(c[0], "", queue, "1")
		first := getOne(c[0], queue)
		must(first.Nack(false, true))
		again := getOne(c[0], queue)
		same([]any{again.Redelivered, string(again.Body)}, []any{true, "0"})
		second := getOne(c[0], queue)
		must(second.Nack(true, false))
		for _, dead := range take(c[0], grave, 2) {
			found := death(dead)
			same([]any{found["reason"], found["queue"], found["count"]}, []any{"rejected", queue, int64(1)})
		}
	})
	return ""
}

func priorities() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], amqp.Table{"x-max-priority": 10})
		for _, priority := range []uint8{1, 5, 9, 3} {
			publish(c[0], "", queue, strconv.Itoa(int(priority)), func(m *amqp.Publishing) { m.Priority = priority })
		}
		until("four messages", func() bool { return ready(c[0], queue) == 4 })
		same(bodies(c[0], queue, 4), []string{"9", "5", "3", "1"})
	})
	return ""
}

func ttl() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		grave := exclusive(c[0], nil)
		dead := amqp.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
		byMessage := exclusive(c[0], dead)
		dead["x-message-ttl"] = 40
		byQueue := exclusive(c[0], dead)
		publish(c[0], "", byMessage, "message", func(m *amqp.Publishing) { m.Expiration = "40" })
		publish(c[0], "", byQueue, "queue")
		found := []string{}
		for _, expired := range take(c[0], grave, 2) {
			same(death(expired)["reason"], "expired")
			found = append(found, string(expired.Body))
		}
		sort.Strings(found)
		same(found, []string{"message", "queue"})
		publish(c[0], "", byMessage, "stays")
		same(bodies(c[0], byMessage, 1), []string{"stays"})
	})
	return ""
}

func largeAndEmpty() string {
	octets := make([]byte, 256)
	for i := range octets {
		octets[i] = byte(i)
	}
	large := string(bytes.Repeat(octets, 32768))
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		publish(c[0], "", queue, large)
		publish(c[0], "", queue, "")
		received := bodies(c[0], queue, 2)
		same([]bool{received[0] == large, received[1] == ""}, []bool{true, true})
	})
	return ""
}

var values = amqp.Table{
	"bool": true, "int8": int8(-100), "uint8": byte(200), "int16": int16(-30000), "uint16": uint16(60000),
	"int32": int32(-2147483648), "uint32": uint32(4294967295), "int64": int64(1) << 62,
	"float": float32(1.5), "double": 2.5, "decimal": amqp.Decimal{Scale: 2, Value: 1234},
	"string": "text é", "bytes": []byte{0, 255}, "timestamp": time.Unix(1700000000, 0),
	"table": amqp.Table{"nested": amqp.Table{"deep": int32(1)}},
	"array": []interface{}{int32(1), "two", []interface{}{int32(3)}, amqp.Table{"four": int32(4)}}, "void": nil,
}

func tableValues() string {
	withChannels(1, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		publish(c[0], "", queue, "", func(m *amqp.Publishing) { m.Headers = values })
		same(take(c[0], queue, 1)[0].Headers, values)
	})
	return "every type, unsigned ones included"
}

func headersToTheByte() string {
	relay := control("relay")
	connection := of(amqp.Dial(url(relay)))
	defer connection.Close()
	channel := of(connection.Channel())
	queue := exclusive(channel, nil)
	publish(channel, "", queue, "body", func(m *amqp.Publishing) {
		m.ContentType, m.ContentEncoding, m.Headers = "text/plain", "utf-8", values
		m.DeliveryMode, m.Priority, m.CorrelationId, m.ReplyTo = 2, 3, "correlation", "reply"
		m.Expiration, m.MessageId, m.Timestamp = "60000", "id", time.Unix(1700000000, 0)
		m.Type, m.UserId, m.AppId = "kind", "guest", "app"
	})
	take(channel, queue, 1)
	return control("headers", relay) + " header"
}

func consumerCancel() string {
	withChannels(2, func(_ *amqp.Connection, c []*amqp.Channel) {
		queue := exclusive(c[0], nil)
		told := c[0].NotifyCancel(make(chan string, 1))
		deliveries := consume(c[0], queue, "doomed", false)
		of(c[1].QueueDelete(queue, false, false, false))
		same(next(told, "the notification"), "doomed")
		_, open := <-deliveries
		same(open, false)
	})
	return ""
}

func blocked() (reason string) {
	withChannels(1, func(connection *amqp.Connection, c []*amqp.Channel) {
		told := connection.NotifyBlocked(make(chan amqp.Blocking, 2))
		queue := exclusive(c[0], nil)
		control("alarm", "on")
		until("connection.blocked", func() bool {
			publish(c[0], "", queue, "x")
			return len(told) > 0
		})
		blocking := <-told
		same(blocking.Active, true)
		reason = blocking.Reason
		control("alarm", "off")
		same(next(told, "connection.unblocked").Active, false)
	})
	return reason
}

// The library leaves recovery to the program: connect, declare and consume again when NotifyClose says so.
func recovery() string {
	name := prefix + "-recovery"
	open := func() (*amqp.Connection, *amqp.Channel) {
		var connection *amqp.Connection
		until("a connection", func() (there bool) {
			var err error
			connection, err = amqp.Dial(url(port))
			return err == nil
		})
		channel := of(connection.Channel())
		must(channel.ExchangeDeclare(name, "direct", true, false, false, false, nil))
		of(channel.QueueDeclare(name, true, false, false, false, nil))
		must(channel.QueueBind(name, "key", name, false, nil))
		must(channel.Confirm(false))
		return connection, channel
	}
	send := func(channel *amqp.Channel, body string) {
		message := amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent}
		same(of(channel.PublishWithDeferredConfirm(name, "key", false, false, message)).Wait(), true)
	}
	connection, channel := open()
	send(channel, "before")
	lost := connection.NotifyClose(make(chan *amqp.Error, 1))
	control("restart")
	next(lost, "the loss of the connection")
	connection, channel = open()
	defer connection.Close()
	send(channel, "after")
	same(bodies(channel, name, 2), []string{"before", "after"})
	of(channel.QueueDelete(name, false, false, false))
	must(channel.ExchangeDelete(name, false, false))
	return "by the program"
}

func heartbeats() string {
	relay := control("relay")
	connection := of(amqp.DialConfig(url(relay), amqp.Config{Heartbeat: time.Second}))
	lost := connection.NotifyClose(make(chan *amqp.Error, 1))
	time.Sleep(3500 * time.Millisecond)
	same(connection.IsClosed(), false)
	control("freeze", relay)
	reason := next(lost, "the loss of the connection")
	control("dropped", relay)
	return reason.Error()
}

func tlsScenario() string {
	over := func(variable string) (*amqp.Connection, error) {
		authorities := x509.NewCertPool()
		authorities.AppendCertsFromPEM(of(os.ReadFile(os.Getenv(variable))))
		address := fmt.Sprintf("amqps://guest:guest@%s:%s/", host, os.Getenv("AMQP_TLS_PORT"))
		return amqp.DialTLS(address, &tls.Config{RootCAs: authorities, ServerName: "localhost"})
	}
	connection := of(over("AMQP_CA"))
	defer connection.Close()
	channel := of(connection.Channel())
	queue := exclusive(channel, nil)
	publish(channel, "", queue, "secret")
	same(bodies(channel, queue, 1), []string{"secret"})
	_, err := over("AMQP_OTHER_CA")
	if err == nil {
		fail("a broker of an unknown authority was trusted")
	}
	return err.Error()
}

func errors() string {
	connection, other := connect(), connect()
	defer connection.Close()
	defer other.Close()
	queue := prefix + "-errors"
	of(of(connection.Channel()).QueueDeclare(queue, false, false, true, false, nil))
	codes := []int{}
	spoil := func(from *amqp.Connection, work func(channel *amqp.Channel)) {
		channel := of(from.Channel())
		closed := channel.NotifyClose(make(chan *amqp.Error, 1))
		work(channel)
		codes = append(codes, next(closed, "the channel's error").Code)
	}
	spoil(connection, func(c *amqp.Channel) {
		_, _ = c.QueueDeclarePassive(prefix+"-missing", false, false, false, false, nil)
	})
	spoil(connection, func(c *amqp.Channel) { _, _ = c.QueueDeclare(queue, false, true, true, false, nil) })
	spoil(connection, func(c *amqp.Channel) { _ = c.Ack(42, false) })
	spoil(other, func(c *amqp.Channel) { _, _ = c.QueueDeclarePassive(queue, false, false, false, false, nil) })
	for _, address := range []string{
		fmt.Sprintf("amqp://guest:wrong@%s:%s/", host, port), fmt.Sprintf("amqp://guest:guest@%s:%s/missing", host, port),
	} {
		_, err := amqp.Dial(address)
		refused, known := err.(*amqp.Error)
		if !known {
			fail("%v", err)
		}
		codes = append(codes, refused.Code)
	}
	same(codes, []int{404, 406, 406, 405, 403, 530})
	return "*amqp.Error"
}

var scenarios = map[string]func() string{
	"tutorial-1-hello":             hello,
	"tutorial-2-work-queues":       workQueues,
	"tutorial-3-publish-subscribe": publishSubscribe,
	"tutorial-4-routing":           routing,
	"tutorial-5-topics":            topics,
	"tutorial-6-rpc":               rpc,
	"tutorial-7-confirms":          confirms,
	"confirm-window":               confirmWindow,
	"mandatory-return":             mandatory,
	"prefetch-multiple-ack":        prefetch,
	"nack-dead-letter":             deadLetter,
	"priorities":                   priorities,
	"ttl":                          ttl,
	"large-and-empty":              largeAndEmpty,
	"table-values":                 tableValues,
	"headers-to-the-byte":          headersToTheByte,
	"consumer-cancel":              consumerCancel,
	"connection-blocked":           blocked,
	"recovery":                     recovery,
	"heartbeats":                   heartbeats,
	"tls":                          tlsScenario,
	"errors":                       errors,
}
