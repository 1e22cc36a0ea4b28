package pipeline

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/handlers"
	"github.com/fraiseql/observer/internal/secret"
)

// Explanation says what an observer does with an event, and why.
type Explanation struct {
	Observer  string `json:"name"`
	Fires     bool   `json:"fires"`
	Entity    string `json:"entity"`
	EventType string `json:"event_type"` // "" is every type
	Reason    string `json:"reason"`     // why it does not fire
	// Condition is nil where the observer has none or is for another entity.
	Condition *handlers.Clause `json:"condition"`
	// Actions are those that run: none where the observer does not fire.
	Actions []ActionExplanation `json:"actions"`
	// OtherEntity says that it is for another entity.
	OtherEntity bool `json:"-"`
}

// ActionExplanation says what an action would send. Secrets are masked.
type ActionExplanation struct {
	Name string `json:"name"`
	Type string `json:"type"`
	handlers.Preview
	Error string `json:"error"` // that it fails with before it sends anything
	Note  string `json:"note"`  // what becomes of it then, or why nothing can be shown
}

// Explain says for each observer, in the order of the file and with the disabled ones, what it does with an event. Nothing is
// sent.
func (p *Plan) Explain(e *event.Event) []Explanation {
	list := make([]Explanation, len(p.cfg.Observers))
	enabled := p.observers
	for i, declared := range p.cfg.Observers {
		o := observer{Observer: declared}
		if declared.Enabled {
			o, enabled = enabled[0], enabled[1:]
		}
		list[i] = p.explain(&o, fmt.Sprintf("observers[%d]", i), e)
	}
	return list
}

// explain explains the observer at a key of the configuration.
func (p *Plan) explain(o *observer, key string, e *event.Event) Explanation {
	x := Explanation{Observer: o.Name, Entity: o.Entity, EventType: string(o.EventType), Actions: []ActionExplanation{}}
	x.OtherEntity = o.Entity != "*" && o.Entity != e.Entity
	if p.cfg.Hidden(key + ".entity") {
		x.Entity = secret.Mask
	}
	var reasons []string
	if !o.Enabled {
		reasons = append(reasons, "it is disabled")
	}
	if x.OtherEntity {
		reasons = append(reasons, "it is for the entity "+x.Entity+", and this event is of "+e.Entity)
	}
	if o.EventType != "" && o.EventType != e.Type {
		reasons = append(reasons, fmt.Sprintf("it is for %s events, and this one is of type %s", o.EventType, e.Type))
	}
	if o.Condition != "" && !x.OtherEntity {
		var reason string
		x.Condition, reason = explainCondition(o.Condition, p.cfg.Hidden(key+".condition"), e)
		if reason != "" {
			reasons = append(reasons, reason)
		}
	}
	x.Fires, x.Reason = len(reasons) == 0, strings.Join(reasons, "; ")
	if !x.Fires {
		return x
	}
	for i, a := range o.actions {
		x.Actions = append(x.Actions, p.explainAction(o, a, fmt.Sprintf("%s.actions[%d]", key, i), e))
	}
	return x
}

// explainCondition returns what a condition makes of an event and why it does not hold, "" where it does. Of one that holds a
// secret no text is shown.
func explainCondition(source string, hidden bool, e *event.Event) (*handlers.Clause, string) {
	c, err := handlers.ExplainCondition(source, e)
	if err != nil { // it was compiled before
		return nil, "its condition cannot be explained: " + err.Error()
	}
	if hidden {
		c = &handlers.Clause{Source: secret.Mask, Value: c.Value, Error: c.Error, Reason: "it holds a ${…}, so its parts are not shown", Parts: []*handlers.Clause{}}
	}
	switch blamed := c.Blame(); {
	case c.Error != "":
		return c, "its condition cannot be evaluated, which counts as false: " + c.Error
	case blamed != nil && hidden:
		return c, "its condition is false"
	case blamed != nil:
		return c, blamed.Source + " is false"
	}
	return c, ""
}

// textKeys are the keys of actions whose text stands in what they send: with a ${…} in one, it is not shown whatever the action
// itself masks.
var textKeys = []string{"body_template", "html_template", "message_template", "channel"}

func (p *Plan) explainAction(o *observer, a action, key string, e *event.Event) ActionExplanation {
	x := ActionExplanation{Name: a.Name, Type: a.Type}
	previewer, ok := a.run.(handlers.Previewer)
	if !ok {
		x.Fields = []handlers.PreviewField{}
		x.Note = "cannot show what it would send: actions of type " + a.Type + " have no preview"
		return x
	}
	var err error
	x.Preview, err = previewer.Preview(&event.Delivery{Event: e, Observer: o.Name, Action: a.Name})
	if err != nil {
		x.Preview, x.Error, x.Note = handlers.Preview{}, err.Error(), fate(err, o.OnFailure)
	}
	if x.Fields == nil {
		x.Fields = []handlers.PreviewField{}
	}
	hidden := func(name string) bool { return p.cfg.Hidden(key + "." + name) }
	if x.Body != "" && slices.ContainsFunc(textKeys, hidden) {
		x.Body = secret.Mask
	}
	return x
}

// fate says what becomes of a delivery that fails like this.
func fate(err error, onFailure string) string {
	switch {
	case !event.IsPermanent(err):
		return "it is tried again"
	case onFailure == "log":
		return "it is logged and dropped"
	}
	return "it becomes a dead letter at once"
}
