package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

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
	cfg, err := p.load(cmd, config.NeedsAll)
	if err != nil {
		return err
	}
	log := p.logger(cfg)
	env, err := p.actionEnv(cfg, log)
	if err != nil {
		return err
	}
	defer env.HTTP.Close()
	plan, problems := pipeline.Compile(cfg, p.registry, env)
	if len(problems) > 0 {
		return &config.Problems{List: problems}
	}
	switch {
	case flags.validate:
		return p.reportValid(cfg, plan, flags.format.json())
	case flags.dryRun:
		return p.dryRun(cmd.Context(), cfg, plan)
	}
	if err := checkInput(cfg, flags.input); err != nil {
		return err
	}
	pipe, err := pipeline.New(pipeline.Options{Plan: plan, Middleware: p.middleware, Log: log})
	if err != nil {
		return err
	}
	if flags.input != "" {
		return p.runInput(cmd.Context(), pipe, flags.input, flags.format.json())
	}
	return runUntilSignal(cmd.Context(), pipe, plan, cfg, log)
}

func runUntilSignal(ctx context.Context, pipe *pipeline.Pipeline, plan *pipeline.Plan, cfg *config.Config, log *slog.Logger) error {
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
	summary, err := pipe.RunInput(ctx, name, in)
	if asJSON {
		err = errors.Join(err, p.printJSON(summary))
	} else {
		fmt.Fprintf(p.out, "%d events, %d matched, %d delivered, %d dead letters in %d ms\n",
			summary.Events, summary.Matched, summary.Delivered, summary.DeadLetters, summary.DurationMS)
	}
	if err == nil && summary.DeadLetters > 0 {
		err = fmt.Errorf("%d deliveries became dead letters", summary.DeadLetters)
	}
	return err
}
