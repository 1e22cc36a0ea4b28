// Command custom-action is observer with one action type more: credit_check. Its observer.toml says how to run it.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/fraiseql/observer/cmd"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

func main() { os.Exit(cmd.Main(cmd.WithAction("credit_check", newCreditCheck))) }

// creditConfig is what the file may say about a credit check; the program refuses every other key.
type creditConfig struct {
	Limit         float64 `toml:"limit" required:"true" min:"0" doc:"largest total that needs no approval"`
	CustomerField string  `toml:"customer_field" default:"customer" doc:"where in data the customer's name is"`
}

type creditCheck struct {
	limit    float64
	customer []string
	log      *slog.Logger
}

// newCreditCheck is called at start, and by --validate, once for each credit_check in the file.
func newCreditCheck(cfg *creditConfig, env handlers.Env) (handlers.Action, error) {
	path := strings.Split(cfg.CustomerField, ".")
	if slices.Contains(path, "") { // the program adds file, line and column
		return nil, &handlers.KeyError{Key: "customer_field", Err: errors.New("has an empty part"), Hint: `write a path such as "customer.name"`}
	}
	return &creditCheck{cfg.Limit, append([]string{"data"}, path...), env.Logger}, nil
}

// Run judges one order. A real one would put the order on hold here; it may run again for the same order, after a crash.
func (c *creditCheck) Run(ctx context.Context, d *event.Delivery) error {
	customer, found := d.Event.Raw(c.customer...)
	raw, _ := d.Event.Raw("data", "total")
	total, err := strconv.ParseFloat(raw, 64)
	if !found || err != nil { // the same event would fail again, so it becomes a dead letter; any other error is retried
		return event.Permanent(fmt.Errorf("check credit: order %s lacks its customer or its total", d.Event.EntityID))
	}
	log := c.log.With("order", d.Event.EntityID, "customer", event.Text(customer), "total", total)
	if total > c.limit {
		log.WarnContext(ctx, "order needs approval")
	} else {
		log.InfoContext(ctx, "credit is good")
	}
	return nil
}
