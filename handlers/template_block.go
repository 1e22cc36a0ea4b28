package handlers

import (
	"errors"
	"maps"
	"strconv"

	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/event"
)

// What steps of rendering cost, against maxWork.
const (
	lookupWork    = 50
	stepWork      = 200  // of a loop
	conditionWork = 2000 // that is not simple
	decodeWork    = 20   // for each byte
	pageWork      = 1000 // of html/template, for each step of ours
)

// loopName is where a loop tells how far it is.
const loopName = "loop"

// loopFields are what it tells: index counts from 1.
var loopFields = []string{"index", "first", "last"}

// variable is what a loop stands at, and where in the loop that is; the innermost comes first.
type variable struct {
	name, raw string
	index     int // from 1
	last      bool
	outer     *variable
	decoded   any // raw, once a condition has asked for it; nil before
}

// find returns the JSON of a variable.
func (v *variable) find(name string) (raw string, ok bool) {
	if v != nil && name == loopName {
		return v.position(), true
	}
	for ; v != nil; v = v.outer {
		if v.name == name {
			return v.raw, true
		}
	}
	return "", false
}

func (v *variable) position() string {
	return `{"index":` + strconv.Itoa(v.index) + `,"first":` + strconv.FormatBool(v.index == 1) + `,"last":` + strconv.FormatBool(v.last) + `}`
}

// choose writes the branch of an if that its condition asks for.
func (r *renderer) choose(p *part) error {
	yes, err := r.holds(p)
	switch {
	case err != nil:
		return err
	case yes:
		return r.write(p.body)
	}
	return r.write(p.other)
}

// holds evaluates the condition of an if.
func (r *renderer) holds(p *part) (bool, error) {
	r.work -= r.cost(p.when)
	if r.work < 0 {
		return false, errWork
	}
	if p.when.fast != nil {
		return p.when.fast(r.event, r.variables), nil
	}
	roots, err := r.roots(p.when)
	if err != nil {
		return false, r.fail(p, err)
	}
	value, err := p.when.search(roots)
	if err != nil {
		return false, r.fail(p, err)
	}
	return truthy(value), nil
}

// cost is about what evaluating a condition costs: it reads each field that it names.
func (r *renderer) cost(c *Condition) int {
	work := 0
	for _, path := range c.reads {
		raw, _, _ := r.head(path)
		work += lookupWork + len(raw)
	}
	if c.fast == nil {
		return conditionWork + decodeWork*work
	}
	return work
}

// roots returns what a condition sees, with the variables that it names.
func (r *renderer) roots(c *Condition) (map[string]any, error) {
	roots, err := r.event.View()
	if err != nil || r.variables == nil {
		return roots, err
	}
	roots = maps.Clone(roots)
	for _, path := range c.reads {
		v := r.variables
		for v != nil && v.name != path[0] {
			v = v.outer
		}
		switch {
		case path[0] == loopName:
			roots[loopName], err = event.Value(r.variables.position())
		case v != nil && v.decoded == nil:
			v.decoded, err = event.Value(v.raw)
			fallthrough
		case v != nil:
			roots[v.name] = v.decoded
		}
		if err != nil {
			return nil, err
		}
	}
	return roots, nil
}

var (
	errNoList = errors.New("this is no list, and for goes over the elements of one")
	errNoLoop = errors.New("no such field in this event (put {{ if … }} around the for)")
)

// each calls do for each element of a loop, with the element in the loop's variable. There is none where the list is null.
func (r *renderer) each(p *part, do func() error) error {
	raw, ok := r.find(p.path)
	switch {
	case !ok:
		return r.fail(p, errNoLoop)
	case raw == "null":
		return nil
	case raw[0] != '[':
		return r.fail(p, errNoList)
	}
	r.work -= len(raw)
	v := &variable{name: p.variable, outer: r.variables}
	r.variables = v
	err := v.walk(raw, func() error {
		if r.work -= stepWork; r.work < 0 {
			return errWork
		}
		return do()
	})
	r.variables = v.outer
	return err
}

// walk lets the variable stand at each element of a list, one after the other: a list may hold millions.
func (v *variable) walk(list string, do func() error) (err error) {
	var next gjson.Result
	stand := func(last bool) bool {
		v.raw, v.index, v.last, v.decoded = next.Raw, v.index+1, last, nil
		err = do()
		return err == nil
	}
	gjson.Parse(list).ForEach(func(_, item gjson.Result) bool {
		more := !next.Exists() || stand(false)
		next = item
		return more
	})
	if next.Exists() && err == nil {
		stand(true)
	}
	return err
}
