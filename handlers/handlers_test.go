package handlers_test

import (
	"encoding/json"
	"flag"
	"os"
	"testing"
	"time"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(receiverVariable) != "" {
		serve()
	}
	// Most tests wait for a server or for a time-out: more of them run at once than there are processors, unless -parallel
	// says otherwise.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	os.Exit(testenv.MainWithLeakCheck(m))
}

// update is an event that changes an order.
func update(before, data string) *event.Event {
	e := &event.Event{
		ID: "0198c5a0-0000-7000-8000-000000000001", Type: event.Update, Entity: "Order", EntityID: "7", Data: json.RawMessage(data),
		Timestamp: time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC), Seq: 3, Source: "shop", SchemaVersion: 1,
	}
	if before != "" {
		e.Before = json.RawMessage(before)
		e.Changes = event.Diff(e.Before, e.Data)
	}
	return e
}

func delivery(data string) *event.Delivery {
	return &event.Delivery{Event: update("", data), Observer: "order-shipped", Action: "notify"}
}
