package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
)

func (p *program) evalCommand() *cobra.Command {
	var from string
	var format *choice
	cmd := &cobra.Command{
		Use:   "eval EXPR",
		Short: "Evaluate a condition and print its JSON result and true or false",
		Long: `Evaluates a condition over an event and prints its result as JSON and, on the next line, whether the condition holds.
Without --event the event is empty: data, before and changes are null.`,
		Example: `  echo '{"entity_type": "Order", "data": {"total": 1200}}' | observer eval 'data.total > 1000' --event -`,
		Args:    oneArg,
		RunE: func(cmd *cobra.Command, args []string) error {
			if cmd.Flags().Changed("config") { // the condition needs none, but a wrong one is not passed over
				if _, err := p.load(cmd, config.NeedsNothing); err != nil {
					return err
				}
			}
			e, err := p.eventFor(cmd, from)
			if err != nil {
				return err
			}
			return p.eval(args[0], e, format.json())
		},
	}
	cmd.Flags().StringVar(&from, "event", "", "read the event as JSON from `FILE` (- for standard input)")
	format = formatFlag(cmd)
	return cmd
}

// eventFor reads the event of the flag --event.
func (p *program) eventFor(cmd *cobra.Command, from string) (*event.Event, error) {
	if !cmd.Flags().Changed("event") {
		return &event.Event{}, nil
	}
	text, err := p.read(from)
	if err != nil {
		return nil, err
	}
	e, err := event.Decode(text)
	if err != nil {
		return nil, usagef("read event from %s: %w", sourceName(from), err)
	}
	return e, nil
}

// read returns the content of a file, or of standard input for "-".
func (p *program) read(from string) (text []byte, err error) {
	if from == "-" {
		text, err = io.ReadAll(p.in)
	} else {
		text, err = os.ReadFile(from)
	}
	if err != nil {
		return nil, usagef("read %s: %w", sourceName(from), err)
	}
	return bytes.TrimPrefix(text, byteOrderMark), nil
}

func sourceName(from string) string {
	if from == "-" {
		return "standard input"
	}
	return from
}

func (p *program) eval(expr string, e *event.Event, asJSON bool) error {
	condition, err := handlers.CompileCondition(expr)
	if syntax, ok := errors.AsType[*handlers.SyntaxError](err); ok {
		return usagef("%w\n%s", err, syntax.Caret())
	}
	if err != nil {
		return usagef("%w", err)
	}
	result, err := condition.Eval(e)
	if err != nil {
		return fmt.Errorf("evaluate condition (an observer takes it for false): %w", err)
	}
	match, err := condition.Match(e)
	if err != nil {
		return fmt.Errorf("evaluate condition (an observer takes it for false): %w", err)
	}
	if asJSON {
		return p.printJSON(struct {
			Result any  `json:"result"`
			Match  bool `json:"match"`
		}{result, match})
	}
	line := json.NewEncoder(p.out)
	line.SetEscapeHTML(false)
	if err := line.Encode(result); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	_, err = fmt.Fprintln(p.out, match)
	return err
}
