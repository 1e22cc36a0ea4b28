package config

import (
	"reflect"
	"slices"
	"strings"
)

// checkIdle warns where events are taken and nothing is done with them.
func (d *decoder) checkIdle() {
	enabled := func(o Observer) bool { return o.Enabled }
	n := d.cfg.values.nodes["observers"]
	unclear := d.misspelt["observers"] || n != nil && n.bad
	if d.opts.Needs != NeedsAll || d.cfg.Transport.Transport == "in_memory" || !d.cfg.Transport.Executes() || unclear || slices.ContainsFunc(d.cfg.Observers, enabled) {
		return
	}
	d.warn(d.cfg.At("observers"), "observers", "none is enabled: events are read and nothing is done", "add [[observers]] with entity and [[observers.actions]]")
}

func (d *decoder) checkObserver(o *Observer, path string) {
	if o.Retry.MaxDelayMS > 0 && o.Retry.MaxDelayMS < o.Retry.InitialDelayMS {
		d.wrong(path+".retry.max_delay_ms", "is below initial_delay_ms", "raise it")
	}
	if o.OnRetry == "hold" && o.Order == "none" {
		d.wrong(path+".on_retry", `holds nothing where order = "none"`, `write order = "entity", or leave on_retry out`)
	}
	d.checkMiddleware(join(path, "middleware"), o.Middleware)
	for i, a := range o.Actions {
		p := at(join(path, "actions"), i)
		d.checkMiddleware(join(p, "middleware"), a.Middleware)
		if o.Enabled && a.Config != nil && d.cfg.Transport.Executes() {
			d.checkVariables(reflect.ValueOf(a.Config).Elem(), p)
		}
	}
}

// checkVariables checks every key of an action that names an environment variable: those that end in _env.
func (d *decoder) checkVariables(v reflect.Value, path string) {
	for _, f := range fieldsOf(v.Type()) {
		value, key := v.FieldByIndex(f.index), join(path, f.key)
		switch {
		case !strings.HasSuffix(f.key, "_env"):
		case f.typ.Kind() == reflect.String:
			d.checkVariable(key, value.String())
		case f.typ.Kind() == reflect.Slice:
			for i := range value.Len() {
				d.checkVariable(at(key, i), value.Index(i).String())
			}
		}
	}
}
