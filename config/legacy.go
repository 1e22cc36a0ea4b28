package config

import (
	"slices"
	"strings"

	"github.com/fraiseql/observer/internal/suggest"
)

// movedKeys stood at the top level or in [transport.bridge] in files of the original tool.
var movedKeys = []string{"channel_capacity", "max_concurrency", "backlog_alert_threshold", "shutdown_timeout"}

// modernize moves what existing files have in its former place to where it stands now, with a warning each.
func (d *decoder) modernize(doc *node) {
	d.moveKeys(doc, doc, "")
	if bridge := doc.child("transport").child("bridge"); bridge != nil {
		d.moveKeys(doc, bridge, "transport.bridge")
	}
	if observers := doc.child("observers"); observers != nil {
		for i, o := range observers.items {
			d.emptyOnFailure(o, join(at("observers", i), "on_failure"))
		}
	}
}

func (d *decoder) moveKeys(doc, from *node, path string) {
	for _, key := range movedKeys {
		n := from.child(key)
		if n == nil {
			continue
		}
		performance := doc.child("performance")
		if performance == nil {
			performance = &node{kind: kindTable, table: map[string]*node{}, pos: n.pos, keyPos: n.keyPos}
			doc.table["performance"] = performance
		}
		if performance.kind != kindTable {
			continue
		}
		delete(from.table, key)
		if performance.child(key) != nil {
			d.add(n.keyPos, join(path, key), "is set in [performance] too", "remove it here")
			continue
		}
		performance.table[key] = n
		d.warn(n.keyPos, join(path, key), "is in its former place", "move it to [performance]")
	}
}

// emptyOnFailure removes an empty [observers.on_failure] table, which stands for the default.
func (d *decoder) emptyOnFailure(o *node, path string) {
	n := o.child("on_failure")
	if n == nil || n.kind != kindTable || len(n.table) > 0 {
		return
	}
	delete(o.table, "on_failure")
	d.warn(n.keyPos, path, "is an empty table, which stands for the default", `write on_failure = "dlq" in [[observers]]`)
}

func (d *decoder) warn(pos Position, key, message, hint string) {
	d.cfg.Warnings = append(d.cfg.Warnings, Problem{Position: pos, Key: key, Message: message, Hint: hint})
}

// strayVariables warns about variables of the environment that look like a misspelt one of ours.
func (d *decoder) strayVariables(environ []string) {
	var known []string
	for _, names := range d.merged.names {
		known = append(known, names...)
	}
	slices.Sort(known)
	for _, entry := range environ {
		name, _, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, "FRAISEQL_") || slices.Contains(known, name) {
			continue
		}
		for _, k := range known {
			if suggest.Distance(name, k) <= 2 {
				d.warn(Position{Env: name}, "", "names no key", "did you mean "+k+"?")
				break
			}
		}
	}
}
