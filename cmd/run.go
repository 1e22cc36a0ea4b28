package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"sync"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/pipeline"
)

// runFlags are the flags of run, which the flat form takes as well.
type runFlags struct {
	validate, dryRun bool
	input            string
	format           *choice
}

func (p *program) runCommand() *cobra.Command {
	var flags runFlags
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the topology that the configuration describes",
		Long:  "Runs the topology that the configuration describes until SIGINT or SIGTERM; a second signal ends it at once.",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return p.run(cmd, &flags) },
	}
	cmd.Flags().BoolVar(&flags.validate, "validate", false, "check everything that needs no network, and end")
	cmd.Flags().BoolVar(&flags.dryRun, "dry-run", false, "also connect to every service that is needed and check it, and end")
	cmd.Flags().StringVar(&flags.input, "input", "", "read events as NDJSON from `FILE`, - for standard input; with transport = \"in_memory\"")
	flags.format = formatFlag(cmd)
	return cmd
}

// run is the run command, and the flat form.
func (p *program) run(cmd *cobra.Command, flags *runFlags) error {
	c := &compiled{program: p}
	defer c.close()
	cfg, err := p.loadChecked(cmd, config.NeedsAll, c.check)
	switch {
	case err != nil && flags.format.json() && flags.dryRun:
		return p.reportUnchecked(err)
	case err != nil && flags.format.json() && flags.validate:
		return p.reportInvalid(err)
	case err != nil:
		return err
	case flags.dryRun: // it does what --validate does, and more
		return p.dryRun(cmd.Context(), c, flags.format.json())
	case flags.validate:
		return p.reportValid(cfg, c.plan, flags.format.json())
	}
	if err := checkInput(cfg, flags.input); err != nil {
		return err
	}
	tracer, stopTracing, err := c.startTracing(cmd.Context(), cfg.Performance.ShutdownTimeout)
	if err != nil {
		return err
	}
	defer stopTracing()
	pipe, err := pipeline.New(pipeline.Options{Plan: c.plan, Middleware: p.middleware, Tracer: tracer, Version: buildInfo().Version, Log: c.log})
	if err != nil {
		return err
	}
	defer ignoreHangups(c.log)()
	if flags.input != "" {
		return p.runInput(cmd.Context(), pipe, flags.input, flags.format.json())
	}
	return runUntilSignal(cmd.Context(), pipe, c.plan, cfg, c.log)
}

// ignoreHangups keeps SIGHUP, which daemons take for "reload" and terminals send when they close, from ending the process
// before what runs has drained, until stop is called.
func ignoreHangups(log *slog.Logger) (stop func()) {
	hangups := make(chan os.Signal, 1) // one at a time is logged
	signal.Notify(hangups, syscall.SIGHUP)
	var logger sync.WaitGroup
	logger.Go(func() {
		for range hangups {
			log.Warn("SIGHUP is not used in this version: restart to reload")
		}
	})
	return func() {
		signal.Stop(hangups)
		close(hangups)
		logger.Wait()
	}
}

// gcPercent trades memory for processor time: what is alive is small, so that twice as much beside it is still little.
const gcPercent = 200

func runUntilSignal(ctx context.Context, pipe *pipeline.Pipeline, plan *pipeline.Plan, cfg *config.Config, log *slog.Logger) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	log.Info("observer starts", slog.String("version", buildInfo().Version), slog.String("transport", cfg.Transport.Transport))
	for _, line := range plan.Describe() {
		log.Info("observer declared", slog.String("observer", line))
	}
	noted := context.AfterFunc(ctx, func() {
		log.Info("ending: what runs is finished first; a second signal ends the process at once")
	})
	defer noted()
	if err := pipe.Run(ctx); err != nil {
		return err
	}
	log.Info("observer ended")
	return nil
}

func (p *program) reportValid(cfg *config.Config, plan *pipeline.Plan, asJSON bool) error {
	if asJSON {
		return p.printJSON(struct {
			Valid    bool             `json:"valid"`
			Settings []config.Setting `json:"settings"`
		}{true, cfg.Merged()})
	}
	name := cfg.File
	if name == "" {
		name = "the configuration"
	}
	fmt.Fprintf(p.out, "%s is valid: transport %s, %d observers\n", name, cfg.Transport.Transport, len(cfg.Observers))
	for _, line := range plan.Describe() {
		fmt.Fprintf(p.out, "  %s\n", line)
	}
	return nil
}

// reportInvalid prints what is wrong as JSON.
func (p *program) reportInvalid(err error) error {
	problems, ok := errors.AsType[*config.Problems](err)
	if !ok {
		return err
	}
	if err := p.printJSON(struct {
		Valid    bool             `json:"valid"`
		Problems []config.Problem `json:"problems"`
	}{false, problems.List}); err != nil {
		return err
	}
	return &shownError{err}
}

func checkInput(cfg *config.Config, input string) error {
	memory := cfg.Transport.Transport == "in_memory"
	switch {
	case memory && input == "":
		return usagef(`transport "in_memory" reads its events from a file: add --input FILE, or - for standard input`)
	case !memory && input != "":
		return usagef(`--input needs transport = "in_memory", and the transport is %q (to put events into it use: observer emit)`, cfg.Transport.Transport)
	}
	return nil
}

func (p *program) runInput(ctx context.Context, pipe *pipeline.Pipeline, path string, asJSON bool) error {
	in, name := p.in, "standard input"
	if path != "-" {
		file, err := os.Open(path)
		if err != nil {
			return usagef("open input: %w", err)
		}
		defer func() { _ = file.Close() }() // nothing was written
		in, name = io.Reader(file), path
	}
	in, done := p.progress(withoutMark(in), path)
	summary, err := pipe.RunInput(ctx, name, in)
	done()
	if _, ok := errors.AsType[*pipeline.InputError](err); ok {
		err = &usageError{err}
	}
	if asJSON {
		err = errors.Join(err, p.printJSON(summary))
	} else {
		cached := ""
		if summary.Cached > 0 {
			cached = fmt.Sprintf(", %d skipped as cached", summary.Cached)
		}
		fmt.Fprintf(p.out, "%d events, %d matched, %d delivered%s, %d dead letters in %d ms\n",
			summary.Events, summary.Matched, summary.Delivered, cached, summary.DeadLetters, summary.DurationMS)
	}
	if err == nil && summary.DeadLetters > 0 {
		err = fmt.Errorf("%d deliveries became dead letters", summary.DeadLetters)
	}
	return err
}
