package cmd

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/fraiseql/observer/config"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/suggest"
	"github.com/fraiseql/observer/pipeline"
)

func (p *program) explainCommand() *cobra.Command {
	var from, only string
	var format *choice
	cmd := &cobra.Command{
		Use:   "explain --event FILE|-",
		Short: "Say for one event which observers fire, why the others do not, and what would be sent",
		Long: `Says for one event which observers fire, which part of a condition keeps the others from it, and what each action would
send. Nothing is sent, no server is asked, and secrets are masked. The exit code is 0 whether an observer fires or not.

The least that an event needs is {"entity_type": …, "data": …}; for an UPDATE add "event_type", and "before" for its changes.`,
		Example: `  observer explain --config observer.toml --event event.json
  sed -n 3p events.ndjson | observer explain --observer order-shipped --event -`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return p.explain(cmd, from, only, format.json()) },
	}
	cmd.Flags().StringVar(&from, "event", "", "read the event as JSON from `FILE` (- for standard input)")
	cmd.Flags().StringVar(&only, "observer", "", "explain the observer `NAME` only")
	format = formatFlag(cmd)
	return cmd
}

func (p *program) explain(cmd *cobra.Command, from, only string, asJSON bool) error {
	switch {
	case !cmd.Flags().Changed("event"):
		return usagef("--event is missing: write --event FILE, or --event - to read the event from standard input")
	case p.configFile() == "" && !cmd.Flags().Changed("config"):
		return usagef("there is no %s here: name the file that declares the observers with --config FILE", config.DefaultFile)
	}
	c := &compiled{program: p, offline: true}
	defer c.close()
	if _, err := p.loadChecked(cmd, config.NeedsNothing, c.check); err != nil {
		return err
	}
	e, err := p.oneEvent(from)
	if err != nil {
		return err
	}
	list := c.plan.Explain(e)
	if cmd.Flags().Changed("observer") {
		if list, err = onlyObserver(list, only); err != nil {
			return err
		}
	}
	if asJSON {
		return p.printJSON(struct {
			EventID   string                 `json:"event_id"`
			Observers []pipeline.Explanation `json:"observers"`
		}{e.ID, list})
	}
	t := &explainText{colours: p.colours()}
	t.event(e, list, !cmd.Flags().Changed("observer"))
	_, err = io.WriteString(p.out, t.String())
	return err
}

// oneEvent reads a file that holds one event.
func (p *program) oneEvent(from string) (*event.Event, error) {
	text, err := p.read(from)
	if err != nil {
		return nil, err
	}
	values := json.NewDecoder(bytes.NewReader(text))
	for n := range 2 {
		switch err := values.Decode(new(json.RawMessage)); {
		case errors.Is(err, io.EOF) && n == 0:
			return nil, usagef(`%s is empty: write one event, such as {"entity_type": "Order", "data": {"id": 1}}`, sourceName(from))
		case err == nil && n == 1:
			return nil, usagef("%s holds more than one event and explain takes one: give it one line, such as with: sed -n 1p FILE | observer explain --event -", sourceName(from))
		}
	}
	e, err := event.Decode(text)
	if err != nil {
		return nil, usagef("read event from %s: %w", sourceName(from), err)
	}
	return e, nil
}

func onlyObserver(list []pipeline.Explanation, name string) ([]pipeline.Explanation, error) {
	var names []string
	for _, x := range list {
		if x.Observer == name {
			return []pipeline.Explanation{x}, nil
		}
		names = append(names, x.Observer)
	}
	known := "the configuration declares " + strings.Join(names, ", ")
	if len(names) == 0 {
		known = "the configuration declares none"
	}
	if near := suggest.Nearest(name, names); near != "" {
		known = "did you mean " + near + "? " + known
	}
	return nil, usagef("there is no observer %q (%s)", name, known)
}

// colours reports whether the data goes to a terminal that a person reads.
func (p *program) colours() bool {
	out, ok := p.out.(*output)
	return ok && isTerminal(out.w) && p.getenv("NO_COLOR") == "" && p.getenv("TERM") != "dumb"
}

// explainText writes an explanation for people.
type explainText struct {
	strings.Builder
	colours bool
}

// What is told in which colour.
const (
	good = "32"
	bad  = "31"
	bold = "1"
	dim  = "2"
)

func (t *explainText) paint(colour, s string) string {
	if !t.colours {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

func (t *explainText) event(e *event.Event, list []pipeline.Explanation, collapse bool) {
	id := ""
	if e.EntityID != "" {
		id = " " + e.EntityID
	}
	fmt.Fprintf(t, "%s of %s\n", e.Type, oneLine(e.Entity+id))
	var others []string
	for _, x := range list {
		if x.OtherEntity && collapse {
			others = append(others, x.Observer)
			continue
		}
		t.observer(x)
	}
	switch {
	case len(list) == 0:
		t.WriteString("\nthe configuration declares no observers\n")
	case len(others) == 1:
		fmt.Fprintf(t, "\n1 observer is for another entity: %s\n", others[0])
	case len(others) > 1:
		fmt.Fprintf(t, "\n%d observers are for other entities: %s\n", len(others), strings.Join(others, ", "))
	}
}

func (t *explainText) observer(x pipeline.Explanation) {
	verdict := t.paint(good, "fires")
	if !x.Fires {
		verdict = t.paint(bad, "does not fire") + ": " + oneLine(x.Reason)
	}
	fmt.Fprintf(t, "\n%s  %s\n", t.paint(bold, x.Observer), verdict)
	if x.Condition != nil {
		t.tree(x.Condition)
	}
	for _, a := range x.Actions {
		t.action(a)
	}
}

// treeRow is one line of the tree of a condition.
type treeRow struct {
	clause       *handlers.Clause
	indent       string
	text, reason string
}

// maxAligned is the longest part of a condition that moves the reasons beside the others.
const maxAligned = 60

func (t *explainText) tree(c *handlers.Clause) {
	rows := treeRows(nil, c, "  ")
	width := 0
	for _, r := range rows {
		if n := r.width(); r.reason != "" && n <= maxAligned {
			width = max(width, n)
		}
	}
	for _, r := range rows {
		mark := t.paint(bad, "✗")
		if r.clause.Value {
			mark = t.paint(good, "✓")
		}
		fmt.Fprintf(t, "%s%s %s", r.indent, mark, r.text)
		if r.reason != "" {
			t.WriteString(strings.Repeat(" ", max(0, width-r.width())) + "   " + t.paint(dim, r.reason))
		}
		t.WriteByte('\n')
	}
}

func (r treeRow) width() int { return len(r.indent) + utf8.RuneCountInString(r.text) }

// joinedBy says how the parts of a condition belong together.
var joinedBy = map[string]string{"&&": "all of", "||": "any of", "!": "not"}

// treeRows adds the lines of a condition. What is negated and has no parts is told on one line.
func treeRows(rows []treeRow, c *handlers.Clause, indent string) []treeRow {
	told := c
	if c.Operator == "!" && len(c.Parts[0].Parts) == 0 {
		told = c.Parts[0]
	}
	if len(told.Parts) == 0 {
		reason := told.Reason
		if told.Error != "" {
			reason = strings.TrimSuffix("cannot be evaluated: "+told.Error+"; "+told.Reason, "; ")
		}
		return append(rows, treeRow{c, indent, oneLine(c.Source), oneLine(reason)})
	}
	rows = append(rows, treeRow{c, indent, joinedBy[c.Operator], ""})
	for _, part := range c.Parts {
		rows = treeRows(rows, part, indent+"  ")
	}
	return rows
}

func (t *explainText) action(a pipeline.ActionExplanation) {
	fmt.Fprintf(t, "\n  %s (%s)", t.paint(bold, a.Name), a.Type)
	switch {
	case a.Error != "":
		fmt.Fprintf(t, " %s: %s\n    %s\n", t.paint(bad, "fails"), oneLine(a.Error), a.Note)
		return
	case a.Request == "":
		fmt.Fprintf(t, "\n    %s\n", a.Note)
		return
	}
	fmt.Fprintf(t, "\n    %s\n", oneLine(a.Request))
	for _, f := range a.Fields {
		fmt.Fprintf(t, "    %s %s\n", t.paint(dim, f.Name+":"), oneLine(f.Value))
	}
	if a.Body == "" {
		return
	}
	if len(a.Fields) > 0 {
		t.WriteByte('\n')
	}
	for line := range strings.SplitSeq(strings.TrimSuffix(a.Body, "\n"), "\n") {
		t.WriteString(strings.TrimRight("    "+oneLine(line), " ") + "\n")
	}
}
