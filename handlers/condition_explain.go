package handlers

import (
	"fmt"
	"strings"

	"github.com/fraiseql/observer/event"
)

// Clause is a condition, or a part of one, with what it makes of an event. It has parts where it is joined by && or ||, or
// negated; what has none is told with the values that the event holds there.
type Clause struct {
	Source   string    `json:"source"`   // as the user wrote it, on one line
	Operator string    `json:"operator"` // "&&", "||", "!" with its one part, "" without parts
	Value    bool      `json:"value"`
	Reason   string    `json:"reason"` // the values found, "" where there are parts
	Error    string    `json:"error"`  // why it cannot be evaluated, which counts as false
	Parts    []*Clause `json:"parts"`
}

// Blame returns the part that makes c false: of those that are joined by &&, the first. It is nil where c holds.
func (c *Clause) Blame() *Clause {
	if c.Value {
		return nil
	}
	for _, part := range c.Parts {
		if part.Error != c.Error || part.Value || c.Operator != "&&" && c.Error == "" {
			continue
		}
		return part.Blame()
	}
	return c
}

// ExplainCondition says what a condition makes of an event, part by part. Parts that [Condition.Match] does not come to,
// because others decide, are evaluated as well. The error is that of [CompileCondition].
func ExplainCondition(expr string, e *event.Event) (*Clause, error) {
	if _, err := CompileCondition(expr); err != nil {
		return nil, err
	}
	tokens, err := tokenize(expr)
	if err != nil {
		return nil, err
	}
	x := &explainer{&rewriter{src: expr, tokens: tokens}, e}
	return x.clause(span{0, len(tokens) - 1})
}

// explainer takes a valid condition apart.
type explainer struct {
	*rewriter
	event *event.Event
}

// span is a range of tokens; to is the one after the last.
type span struct{ from, to int }

func (x *explainer) clause(s span) (*Clause, error) {
	operator, spans := x.split(s)
	if operator == "" {
		return x.leaf(s)
	}
	c := &Clause{Operator: operator}
	for _, inner := range spans {
		part, err := x.clause(inner)
		if err != nil {
			return nil, err
		}
		c.Parts = append(c.Parts, part)
	}
	if operator == "(" { // brackets around all of it join nothing
		c = c.Parts[0]
	} else {
		c.join()
	}
	c.Source = x.text(s)
	return c, nil
}

// join gives c what JMESPath makes of its parts, which it evaluates in order until one decides.
func (c *Clause) join() {
	for _, part := range c.Parts {
		c.Value, c.Error = part.Value, part.Error
		if c.Error != "" || c.Operator == "&&" && !c.Value || c.Operator == "||" && c.Value {
			return
		}
	}
	if c.Operator == "!" {
		c.Value = !c.Value
	}
}

// maxNegations is how many "!" in a row are taken apart.
const maxNegations = 2

// split returns the operator of a condition, which is the one that binds least, and its parts: "(" for brackets around all of
// it, "" for what has no parts. What holds a pipe has none, since behind it names stand for something else.
func (x *explainer) split(s span) (operator string, parts []span) {
	at := x.symbols(s)
	if len(at["|"])+len(at["&"]) > 0 {
		return "", nil
	}
	for _, operator := range []string{"||", "&&"} {
		if len(at[operator]) == 0 {
			continue
		}
		from := s.from
		for _, to := range append(at[operator], s.to) {
			parts = append(parts, span{from, to})
			from = to + 1
		}
		return operator, parts
	}
	operand := s.from
	for x.tokens[operand].is("!") {
		operand++
	}
	switch negations := operand - s.from; {
	case negations > 0 && negations <= maxNegations && x.operandEnd(operand) == s.to: // else it is within a comparison
		return "!", []span{{s.from + 1, s.to}}
	case x.tokens[s.from].is("(") && x.balancedEnd(s.from) == s.to:
		return "(", []span{{s.from + 1, s.to - 1}}
	}
	return "", nil
}

// symbols returns where each symbol stands, outside of brackets.
func (x *explainer) symbols(s span) map[string][]int {
	at := map[string][]int{}
	for i := s.from; i < s.to; i++ {
		switch t := x.tokens[i]; {
		case t.is("("), t.is("["), t.is("[?"), t.is("{"):
			i = x.balancedEnd(i) - 1
		case t.kind == tokenSymbol:
			at[t.text] = append(at[t.text], i)
		}
	}
	return at
}

// text returns what the user wrote, with one space for each gap.
func (x *explainer) text(s span) string {
	var b strings.Builder
	for i := s.from; i < s.to; i++ {
		if i > s.from && x.tokens[i].start > x.tokens[i-1].end() {
			b.WriteByte(' ')
		}
		b.WriteString(x.tokens[i].text)
	}
	return b.String()
}

func (x *explainer) leaf(s span) (*Clause, error) {
	c := &Clause{Source: x.text(s), Parts: []*Clause{}}
	condition, err := CompileCondition(c.Source)
	if err != nil {
		return nil, fmt.Errorf("explain %s: %w", c.Source, err)
	}
	if c.Value, err = condition.Match(x.event); err != nil {
		c.Error = strings.TrimPrefix(err.Error(), "evaluate condition: ")
	}
	c.Reason = x.reason(s, err != nil)
	return c, nil
}
