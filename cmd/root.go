package cmd

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/handlers"
)

// program is what every command works with.
type program struct {
	actions    []handlers.Definition // a team's own
	registry   *handlers.Registry
	middleware map[string]message.HandlerMiddleware // a team's own, by name

	in       io.Reader
	out, err io.Writer // data; logs, progress and errors
	getenv   func(string) string
	// atTerminal, in tests, stands for whether a person can answer.
	atTerminal func() bool

	flags   globalFlags
	jsonLog *slog.Logger // set once a command logs JSON
}

// globalFlags are those that every command takes.
type globalFlags struct {
	config              string
	logLevel, logFormat choice
}

func (p *program) rootCommand() *cobra.Command {
	p.flags = globalFlags{
		logLevel:  choice{allowed: []string{"debug", "info", "warn", "error"}},
		logFormat: choice{allowed: []string{"text", "json"}},
	}
	run := p.runCommand()
	root := &cobra.Command{
		Use:   "observer",
		Short: "React to row changes in Postgres by running declared actions",
		Long: `observer reacts to committed row changes in Postgres, and to custom events, by running declared actions.

"observer --config FILE …" is the same as "observer run --config FILE …".`,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().NFlag() == 0 {
				return cmd.Help()
			}
			return run.RunE(cmd, args)
		},
	}
	flags := root.PersistentFlags()
	flags.StringVar(&p.flags.config, "config", "", `configuration file (default "`+config.DefaultFile+`", if it exists)`)
	flags.Var(&p.flags.logLevel, "log-level", "least level that is logged: debug, info, warn, error")
	flags.Var(&p.flags.logFormat, "log-format", "format of the log: text, json")
	root.Flags().AddFlagSet(run.Flags())
	root.AddCommand(run, p.migrateCommand(), p.captureCommand(), p.checkpointCommand(), p.emitCommand(), p.evalCommand(),
		p.dlqCommand(), p.versionCommand(), p.schemaCommand(),
		p.explainCommand(), p.statusCommand())
	root.SetIn(p.in)
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.InitDefaultCompletionCmd() // it keeps the output that is set by now
	for _, c := range root.Commands() {
		if c.Name() == "completion" {
			needSubcommand(c)
		}
	}
	root.SetFlagErrorFunc(flagError)
	root.Version = buildInfo().Version
	root.SetVersionTemplate(buildInfo().String() + "\n")
	completeChoices(root)
	markErrors(root)
	return root
}

// configFile is the file to read, "" for none.
func (p *program) configFile() string {
	if p.flags.config != "" {
		return p.flags.config
	}
	if _, err := os.Stat(config.DefaultFile); err == nil {
		return config.DefaultFile
	}
	return ""
}

// load reads the configuration, as far as the command needs it, and prints its warnings. Its error is a usage error or a
// *config.Problems.
func (p *program) load(cmd *cobra.Command, needs config.Needs) (*config.Config, error) {
	return p.loadChecked(cmd, needs, nil)
}

func (p *program) loadChecked(cmd *cobra.Command, needs config.Needs, check func(*config.Config) []config.Problem) (*config.Config, error) {
	if cmd.Flags().Changed("config") && p.flags.config == "" {
		return nil, usagef("--config is empty: name a file, or leave it out")
	}
	opts := config.Options{Actions: p.registry.Configs(), Middleware: slices.Sorted(maps.Keys(p.middleware)), Needs: needs, Check: check}
	cfg, err := config.Load(p.configFile(), opts)
	if cfg == nil { // the file is no TOML: the flags still say how that is told
		p.logger(&config.Config{})
		return nil, err
	}
	p.logger(cfg)
	for _, w := range cfg.Warnings {
		if p.jsonLog != nil {
			p.jsonLog.Warn("configuration has a warning", slog.String("warning", w.String()))
			continue
		}
		p.printf("warning: %s\n", w)
	}
	if err != nil {
		return nil, err
	}
	return cfg, nil
}

// group makes a command that only holds others.
func group(use, short string, commands ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{Use: use, Short: short}
	g.AddCommand(commands...)
	return needSubcommand(g)
}

// completeChoices makes the words of a flag complete in shells.
func completeChoices(cmd *cobra.Command) {
	complete := func(f *pflag.Flag) {
		if c, ok := f.Value.(*choice); ok {
			_ = cmd.RegisterFlagCompletionFunc(f.Name, cobra.FixedCompletions(c.allowed, cobra.ShellCompDirectiveNoFileComp)) // twice for a flag of the flat form
		}
	}
	cmd.PersistentFlags().VisitAll(complete)
	cmd.Flags().VisitAll(complete)
	for _, c := range cmd.Commands() {
		completeChoices(c)
	}
}

// needSubcommand makes a call of g without one of its commands an error: cobra prints the help and reports success.
func needSubcommand(g *cobra.Command) *cobra.Command {
	var names []string
	for _, c := range g.Commands() {
		names = append(names, c.Name())
	}
	known := strings.Join(names, ", ")
	g.SuggestionsMinimumDistance = 2
	g.Args = cobra.ArbitraryArgs
	g.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usagef("%s needs a subcommand: %s", cmd.CommandPath(), known)
		}
		near := ""
		if s := cmd.SuggestionsFor(args[0]); len(s) > 0 {
			near = ": did you mean " + strings.Join(s, " or ") + "?"
		}
		return usagef("%s has no subcommand %q%s (it has %s)", cmd.CommandPath(), args[0], near, known)
	}
	return g
}

// oneArg wants exactly one argument.
func oneArg(cmd *cobra.Command, args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("%d arguments instead of one: write %s", len(args), cmd.UseLine())
	}
	return nil
}

// flagError suggests a flag for one that does not exist.
func flagError(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return err
	}
	// Cobra measures how near a word is to the names of commands, so the flags stand in for some.
	flags := &cobra.Command{SuggestionsMinimumDistance: 2}
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		flags.AddCommand(&cobra.Command{Use: f.Name, Run: func(*cobra.Command, []string) {}})
	})
	if near := flags.SuggestionsFor(unknown.GetSpecifiedName()); len(near) > 0 {
		return &hintedError{err, "did you mean --" + strings.Join(near, " or --") + "?"}
	}
	return err
}

type hintedError struct {
	err  error
	hint string
}

func (e *hintedError) Error() string { return e.err.Error() + ": " + e.hint }
func (e *hintedError) Unwrap() error { return e.err }
