package cmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline"
)

const (
	watchInterval      = 2 * time.Second
	leastWatchInterval = 100 * time.Millisecond
	clearScreen        = "\x1b[H\x1b[2J"
)

// watching are the flags of status that repeat it.
type watching struct {
	on       bool
	interval time.Duration
}

func (p *program) statusCommand() *cobra.Command {
	var watch watching
	var format *choice
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what the running process does and how far it is",
		Long: `Asks the running process at its admin address ([admin] listen, with the token of token_env) for its role, what waits, parked
deliveries, dead letters, observers and the breakers of endpoints.

The exit code is 0 when the process is ready, 1 when it is not or cannot be reached. --watch goes on until Ctrl-C and exits with 0.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := watch.check(cmd); err != nil {
				return err
			}
			cfg, err := p.load(cmd, config.NeedsNothing)
			if err != nil {
				return err
			}
			ask, err := newStatusClient(cfg)
			if err != nil {
				return err
			}
			if watch.on {
				return p.watchStatus(cmd.Context(), ask, watch.interval, format.json())
			}
			return p.showStatus(cmd.Context(), ask, format.json())
		},
	}
	cmd.Flags().BoolVar(&watch.on, "watch", false, "show it again and again until Ctrl-C; with --format json, one line each")
	cmd.Flags().DurationVar(&watch.interval, "interval", watchInterval, "time between two looks with --watch")
	format = formatFlag(cmd)
	return cmd
}

func (w *watching) check(cmd *cobra.Command) error {
	switch {
	case cmd.Flags().Changed("interval") && !w.on:
		return usagef("--interval belongs to --watch")
	case w.interval < leastWatchInterval:
		return usagef("--interval %s is too short: write %s or more", w.interval, leastWatchInterval)
	}
	return nil
}

func (p *program) showStatus(ctx context.Context, ask *statusClient, asJSON bool) error {
	status, err := ask.status(ctx)
	if err != nil {
		return err
	}
	if asJSON {
		err = p.printJSON(status)
	} else {
		err = p.printStatus(status)
	}
	if err == nil && !status.Ready {
		err = errors.New("the process is not ready")
		if len(status.Reasons) > 0 {
			err = fmt.Errorf("%w: %s: %s", err, status.Reasons[0].Check, oneLine(status.Reasons[0].Error))
		}
	}
	return err
}

// watchStatus shows the status until ctx ends. Only the first look must succeed: a process may be restarted meanwhile.
func (p *program) watchStatus(ctx context.Context, ask *statusClient, every time.Duration, asJSON bool) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for first := true; ; first = false {
		status, err := ask.status(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && first:
			return err
		}
		if err := p.showNext(status, err, first, asJSON); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// showNext shows one look, or why there was nothing to see.
func (p *program) showNext(status *pipeline.Status, failed error, first, asJSON bool) error {
	if asJSON && failed == nil {
		return json.NewEncoder(p.out).Encode(status)
	}
	if !asJSON {
		if err := p.beginBlock(first); err != nil {
			return err
		}
	}
	if failed != nil {
		p.showError(failed)
		return nil
	}
	return p.printStatus(status)
}

// beginBlock separates a status from the one before.
func (p *program) beginBlock(first bool) (err error) {
	switch {
	case p.redraws():
		_, err = fmt.Fprint(p.out, clearScreen)
	case !first:
		_, err = fmt.Fprintln(p.out)
	}
	return err
}

// redraws reports whether the data goes to a terminal.
func (p *program) redraws() bool {
	if p.atTerminal != nil {
		return p.atTerminal()
	}
	out, ok := p.out.(*output)
	return ok && isTerminal(out.w) && p.getenv("TERM") != "dumb"
}

// printStatus prints a status for a person.
func (p *program) printStatus(s *pipeline.Status) error {
	tables := [][][]string{statusRows(s)}
	if len(s.Observers) > 0 {
		tables = append(tables, observerRows(s.Observers))
	}
	if len(s.Endpoints) > 0 {
		tables = append(tables, endpointRows(s.Endpoints))
	}
	for i, rows := range tables {
		if i > 0 {
			fmt.Fprintln(p.out)
		}
		if err := p.printTable(rows); err != nil {
			return err
		}
	}
	return nil
}
