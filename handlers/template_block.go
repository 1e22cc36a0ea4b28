package handlers

import (
	"encoding/json"
	"fmt"
	"maps"
	"strconv"

	"github.com/tidwall/gjson"
)

// loopName is where a loop tells how far it is: {"index": from 1, "first", "last"}.
const loopName = "loop"

// holds evaluates the condition of an if.
func (r *renderer) holds(p *part) (bool, error) {
	if r.variables == nil {
		return p.when.Match(r.event)
	}
	view, err := r.event.View()
	if err != nil {
		return false, err
	}
	roots := maps.Clone(view)
	for v := r.variables; v != nil; v = v.outer {
		if _, hidden := roots[v.name]; hidden {
			continue // by the same name further in
		}
		var value any
		if err := json.Unmarshal([]byte(v.raw), &value); err != nil {
			return false, fmt.Errorf("read %s: %w", v.name, err)
		}
		roots[v.name] = value
	}
	value, err := p.when.search(roots)
	return err == nil && truthy(value), err
}

// items returns the elements that a loop goes over: none where the list is null.
func (r *renderer) items(p *part) ([]string, error) {
	raw, err := r.value(p)
	if err == nil && raw != "null" && raw[0] != '[' {
		err = errNoList
	}
	if err != nil {
		return nil, err
	}
	var items []string
	if raw != "null" {
		gjson.Parse(raw).ForEach(func(_, item gjson.Result) bool {
			items = append(items, item.Raw)
			return true
		})
	}
	return items, nil
}

// enter puts the i-th element into the variable of a loop, until leave.
func (r *renderer) enter(p *part, items []string, i int) {
	at := `{"index":` + strconv.Itoa(i+1) + `,"first":` + strconv.FormatBool(i == 0) + `,"last":` + strconv.FormatBool(i == len(items)-1) + `}`
	r.variables = &variable{loopName, at, &variable{p.variable, items[i], r.variables}}
}

func (r *renderer) leave() { r.variables = r.variables.outer.outer }
