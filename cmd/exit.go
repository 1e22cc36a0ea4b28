package cmd

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
)

// Exit codes.
const (
	exitOK      = 0
	exitRuntime = 1
	exitUsage   = 2 // wrong configuration or command line
)

// usageError is a mistake in how the program was called.
type usageError struct{ err error }

func (e *usageError) Error() string { return e.err.Error() }
func (e *usageError) Unwrap() error { return e.err }

// usagef makes a usageError: the program exits with 2.
func usagef(format string, args ...any) error {
	return &usageError{fmt.Errorf(format, args...)}
}

// shownError is about the configuration, and was printed as data: it is not told again.
type shownError struct{ err error }

func (e *shownError) Error() string { return e.err.Error() }
func (e *shownError) Unwrap() error { return e.err }

// commandError is what a command of ours returned; every other error is cobra's, about the command line.
type commandError struct{ err error }

func (e *commandError) Error() string { return e.err.Error() }
func (e *commandError) Unwrap() error { return e.err }

// markErrors makes cmd and the commands below it return commandErrors.
func markErrors(cmd *cobra.Command) {
	if run := cmd.RunE; run != nil {
		cmd.RunE = func(cmd *cobra.Command, args []string) error {
			if err := run(cmd, args); err != nil {
				return &commandError{err}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		markErrors(c)
	}
}

// report prints err for a person, or as a log line where the log is JSON, and returns the exit code.
func (p *program) report(cmd *cobra.Command, err error) int {
	var problems *config.Problems
	var usage *usageError
	var ours *commandError
	var shown *shownError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &shown):
		return exitUsage
	case errors.As(err, &problems):
		p.showProblems(problems)
		return exitUsage
	case errors.As(err, &usage):
		p.showError(err)
		return exitUsage
	case cmd != nil && !errors.As(err, &ours) && !isOutput(p, err):
		fmt.Fprintf(p.err, "error: %v\nrun '%s --help' for usage\n", err, cmd.CommandPath())
		return exitUsage
	}
	p.showError(err)
	return exitRuntime
}

func (p *program) showError(err error) {
	if p.jsonLog != nil {
		p.jsonLog.Error("command ended with an error", slog.Any("error", err))
		return
	}
	fmt.Fprintln(p.err, "error:", err)
}

func (p *program) showProblems(problems *config.Problems) {
	if p.jsonLog == nil {
		fmt.Fprintln(p.err, problems)
		return
	}
	for _, problem := range problems.List {
		p.jsonLog.Error("configuration is wrong", slog.String("problem", problem.String()))
	}
}

// isOutput reports whether err is about writing the output.
func isOutput(p *program, err error) bool {
	o, ok := p.out.(*output)
	return ok && o.err != nil && errors.Is(err, o.err)
}
