// Where the broker is, the control line, and the JSON line for each scenario.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"reflect"
	"strings"
	"time"
)

const patience = 30 * time.Second

var (
	host   = os.Getenv("AMQP_HOST")
	port   = os.Getenv("AMQP_PORT")
	prefix = os.Getenv("AMQP_PREFIX")
)

// failure is what a scenario panics with when something is not as it should be.
type failure string

func fail(format string, values ...any) { panic(failure(fmt.Sprintf(format, values...))) }

func must(err error) {
	if err != nil {
		fail("%v", err)
	}
}

func of[T any](value T, err error) T {
	must(err)
	return value
}

func same(actual, expected any) {
	if !reflect.DeepEqual(actual, expected) {
		fail("%.300v instead of %.300v", fmt.Sprintf("%#v", actual), fmt.Sprintf("%#v", expected))
	}
}

func control(words ...string) string {
	line := of(net.Dial("tcp", "127.0.0.1:"+os.Getenv("AMQP_CONTROL")))
	defer line.Close()
	of(fmt.Fprintln(line, strings.Join(words, " ")))
	answer := strings.TrimSpace(of(bufio.NewReader(line).ReadString('\n')))
	if !strings.HasPrefix(answer, "ok") {
		fail("%s: %s", strings.Join(words, " "), answer)
	}
	return strings.TrimSpace(answer[2:])
}

func until(what string, condition func() bool) {
	for deadline := time.Now().Add(patience); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			fail("not within %v: %s", patience, what)
		}
	}
}

// next is what comes over a channel, which must not take for ever.
func next[T any](from <-chan T, what string) T {
	select {
	case value := <-from:
		return value
	case <-time.After(patience):
		fail("not within %v: %s", patience, what)
	}
	panic("unreachable")
}

func play(scenario func() string) (outcome, detail string) {
	defer func() {
		if reason := recover(); reason != nil {
			outcome, detail = "failed", fmt.Sprintf("%.400v", reason)
		}
	}()
	if scenario == nil {
		return "failed", "the program does not know this scenario"
	}
	return "ok", scenario()
}

func main() {
	for _, name := range os.Args[1:] {
		outcome, detail := play(scenarios[name])
		line := map[string]string{"scenario": name, "outcome": outcome, "detail": detail}
		fmt.Println(string(of(json.Marshal(line))))
	}
}
