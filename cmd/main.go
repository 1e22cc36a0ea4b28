// Package cmd is the program: one file a command. Start reading at [Main], then root.go; the main flow of a running
// observer is in package pipeline.
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

// WithAction adds a type of action, which the configuration then names like the built-in ones; [handlers.Define] makes
// a Definition. A type that exists already is an error.
func WithAction(definition handlers.Definition) Option {
	return func(p *program) error {
		p.actions = append(p.actions, definition)
		return nil
	}
}

// WithMiddleware registers a middleware, which the configuration names in the lists pipeline.middleware,
// observers.middleware and observers.actions.middleware. A name that exists already is an error.
func WithMiddleware(name string, m message.HandlerMiddleware) Option {
	return func(p *program) error {
		if name == "" || m == nil {
			return fmt.Errorf("register middleware %q: it needs a name and a function", name)
		}
		if p.middleware[name] != nil {
			return fmt.Errorf("register middleware %q: the name is taken", name)
		}
		p.middleware[name] = m
		return nil
	}
}

// Main runs the command that the process was started with and returns its exit code: 0, 1 for an error at run time, 2
// for a wrong configuration or command line. SIGINT and SIGTERM end the command cleanly; a second one ends the process.
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
		return p.report(nil, err)
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
