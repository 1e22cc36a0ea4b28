// Package cmd is the program: one file a command. Start reading at [Main], then root.go; the main flow of a running
// observer is in package pipeline.
//
// # Your own actions and middleware
//
// A team that needs more than the built-in actions builds its own binary. Its main is this one, and it has every command:
//
//	func main() {
//		os.Exit(cmd.Main(
//			cmd.WithAction("credit_check", newCreditCheck),
//			cmd.WithMiddleware("audit", newAudit),
//		))
//	}
//
// An action is a struct of its keys, a constructor, and a method that does the work:
//
//	type creditConfig struct {
//		Limit float64 `toml:"limit" required:"true" min:"0" doc:"largest total that needs no approval"`
//	}
//
//	func newCreditCheck(cfg *creditConfig, env handlers.Env) (handlers.Action, error) {
//		return &creditCheck{limit: cfg.Limit, log: env.Logger}, nil
//	}
//
//	func (c *creditCheck) Run(ctx context.Context, d *event.Delivery) error
//
// The file says type = "credit_check" and limit = 1000. A wrong key or value there is reported with line and column, as
// for the built-in types, and "observer schema" knows the keys. An action that sends requests can embed
// [handlers.WebhookConfig] in its own struct and call what [handlers.NewWebhook] makes of it.
//
// A middleware is a Watermill one, so that those of Watermill itself fit too. It stands around each attempt of an action:
//
//	func newAudit(next message.HandlerFunc) message.HandlerFunc {
//		return func(msg *message.Message) ([]*message.Message, error) {
//			d := event.FromContext(msg.Context())
//			msgs, err := next(msg)
//			slog.Info("delivery tried", "action", d.Action, "event_id", d.Event.ID, "class", event.Class(err))
//			return msgs, err
//		}
//	}
//
// The file names it in the list middleware of a table. Those of the pipeline stand outside those of an observer, and these
// outside those of an action; within a list the first one stands outermost:
//
//	[pipeline]
//	middleware = ["audit"]         # around every action
//
//	[[observers]]
//	middleware = ["office-hours"]  # around the actions of this observer
//
//	[[observers.actions]]
//	middleware = ["two-keys"]      # around this action
//
// What either returns is an outcome as in package event: nil is done, also where a middleware did not call next;
// [event.Permanent] ends the delivery as a dead letter at once; anything else, a panic too, is a failed attempt, which is
// retried. An event may come more than once, after a crash for instance: [event.Delivery.ID] stays the same then.
//
// Complete programs to copy are in examples/custom-action and examples/custom-middleware.
package cmd

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/ThreeDotsLabs/watermill/message"

	"github.com/fraiseql/observer/handlers"
)

// Option adds something of a team's own to the program.
type Option func(*program) error

// WithAction adds a type of action, which the configuration then names like the built-in ones. C is the struct of its keys,
// and build its constructor, as [handlers.Define] describes them. A type that exists already is an error, which ends the
// program with exit code 2.
func WithAction[C any](typ string, build func(cfg *C, env handlers.Env) (handlers.Action, error)) Option {
	return func(p *program) error {
		p.actions = append(p.actions, handlers.Define(typ, build))
		return nil
	}
}

// WithMiddleware adds a middleware, which the configuration names in the lists pipeline.middleware, observers.middleware
// and observers.actions.middleware. m is called at the start, once for each action that it stands around; the function
// that it returns is called for each attempt, from many goroutines. The message's context carries the delivery:
// [event.FromContext]. What a middleware needs besides, such as a database, main gives it in a closure. A name that exists
// already is an error, which ends the program with exit code 2.
func WithMiddleware(name string, m message.HandlerMiddleware) Option {
	return func(p *program) error {
		if name == "" || m == nil {
			return fmt.Errorf("register middleware %q: it needs a name and a function", name)
		}
		if p.middleware[name] != nil {
			return fmt.Errorf("register middleware: the name %q exists already (choose another name)", name)
		}
		p.middleware[name] = m
		return nil
	}
}

// Main runs the command that the process was started with and returns its exit code: 0, 1 for an error at run time, 2
// for a wrong configuration, command line or option. SIGINT and SIGTERM end the command cleanly; a second one ends the process.
func Main(options ...Option) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop)
	return execute(ctx, os.Args[1:], untilDone(ctx, os.Stdin), os.Stdout, os.Stderr, options...)
}

// execute is Main with everything from outside given to it.
func execute(ctx context.Context, args []string, in io.Reader, out, errOut io.Writer, options ...Option) int {
	data := &output{w: out}
	p := &program{
		middleware: map[string]message.HandlerMiddleware{},
		in:         in, out: data, err: errOut, getenv: os.Getenv,
	}
	if err := p.apply(options); err != nil {
		return p.report(nil, &usageError{err})
	}
	root := p.rootCommand()
	root.SetArgs(args)
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		err = data.err
	}
	return p.report(cmd, err)
}

func (p *program) apply(options []Option) error {
	for _, option := range options {
		if err := option(p); err != nil {
			return err
		}
	}
	registry, err := handlers.NewRegistry(p.actions...)
	p.registry = registry
	return err
}

// output remembers the first error of writing data, so that a full disk behind stdout does not look like success.
type output struct {
	w   io.Writer
	err error
}

func (o *output) Write(b []byte) (int, error) {
	n, err := o.w.Write(b)
	if err != nil && o.err == nil {
		o.err = fmt.Errorf("write output: %w", err)
	}
	return n, err
}
