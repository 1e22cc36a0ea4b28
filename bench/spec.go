package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"
)

// specVariable tells a copy of this program what it is to be.
const specVariable = "OBSERVER_BENCH"

// spec describes a child. The observer has the program's own command line besides.
type spec struct {
	Role    string `json:"role"`    // see runChild
	After   int64  `json:"after"`   // changes count from the log's row after this one
	Want    int64  `json:"want"`    // that many
	Profile string `json:"profile"` // the beginning of the profiles' names, "" for none

	Database string `json:"database"` // read, relay: where from
	Page     int    `json:"page"`     // read, relay: rows a statement

	URL     string `json:"url"`     // post, relay: where to; publish, consume, read stream: the server
	Bodies  string `json:"bodies"`  // post, publish: a file, one body a line
	Workers int    `json:"workers"` // post, relay: at the same time
	Stream  string `json:"stream"`  // publish, consume, read stream: of the server; read with watermill-sql: the topic
	Dir     string `json:"dir"`     // nats: where it keeps its data
}

// report is what a child prints when it is done, one line of JSON.
type report struct {
	Events   int64   `json:"events"`
	Distinct int64   `json:"distinct"`
	Seconds  float64 `json:"seconds"` // from the first event to the last
	URL      string  `json:"url"`     // nats: where it listens

	processor time.Duration // that the child used in all, filled in by its parent
}

func (r report) rate() float64 { return float64(r.Distinct) / r.Seconds }

// cost is the processor time for each event.
func (r report) cost() float64 { return float64(r.processor.Microseconds()) / float64(r.Distinct) }

func (r report) print() {
	line, _ := json.Marshal(r) // numbers always marshal
	fmt.Println(string(line))
}

// runChild is main in a child; it returns the exit code.
func runChild(text string) int {
	var s spec
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", specVariable, err)
		return 2
	}
	go endWithParent()
	var err error
	switch s.Role {
	case "observer":
		return observe(s)
	case "read":
		err = read(s)
	case "post":
		err = post(s)
	case "relay":
		err = relay(s)
	case "nats":
		err = serveNATS(s)
	case "publish":
		err = publish(s)
	case "publish with watermill-nats":
		err = publishStock(s)
	case "consume":
		err = consume(s)
	case "consume with watermill-nats":
		err = consumeStock(s)
	case "read stream":
		err = readStream(s)
	case "read stream with watermill-redisstream":
		err = readStreamStock(s)
	case "read with watermill-sql":
		err = readStock(s)
	default:
		err = fmt.Errorf("no role %q", s.Role)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		return 1
	}
	return 0
}

// endWithParent ends the process when the other end of standard input is gone: a parent that was killed leaves nothing behind.
func endWithParent() {
	_, _ = io.Copy(io.Discard, os.Stdin) // however it ends, the parent has gone
	os.Exit(3)
}
