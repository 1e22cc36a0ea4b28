package config

import (
	"strconv"
	"strings"
)

// maxName is the length that the pattern of names allows.
const maxName = 63

// nameObservers gives every observer and action without a name its default, and reports names that are used twice.
//
// An observer's default is "<entity>-<event_type>-<n>" in lower case, where n counts the unnamed observers with the
// same first part from 1; "*" and an absent event type read "any", and what a name cannot hold becomes "-". An action's
// default is "<type>-<n>", where n counts the actions of that type in the observer from 1.
func (d *decoder) nameObservers() {
	count, used := map[string]int{}, map[string]string{}
	for i := range d.cfg.Observers {
		o, path := &d.cfg.Observers[i], at("observers", i)
		if o.Name == "" {
			o.Name = numbered(slug(o.Entity)+"-"+slug(string(o.EventType)), count)
			d.cfg.values.derive(join(path, "name"), join(path, "entity"))
		}
		d.unique(o.Name, path, used)
		d.nameActions(o, path)
	}
}

func (d *decoder) nameActions(o *Observer, path string) {
	count, used := map[string]int{}, map[string]string{}
	for i := range o.Actions {
		a, p := &o.Actions[i], at(join(path, "actions"), i)
		name := numbered(slug(a.Type), count)
		if a.Name == "" {
			a.Name = name
			d.cfg.values.derive(join(p, "name"), join(p, "type"))
		}
		d.unique(a.Name, p, used)
	}
}

// unique reports a name that another table has.
func (d *decoder) unique(name, path string, used map[string]string) {
	if other, taken := used[name]; taken {
		d.wrong(join(path, "name"), "is also the name of "+other, "give each a name of its own")
		return
	}
	used[name] = path
}

// slug turns a word into what a name can hold.
func slug(word string) string {
	s := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '_' {
			return r
		}
		return '-'
	}, strings.ToLower(word))
	if s = strings.Trim(s, "-_"); s == "" {
		return "any"
	}
	return s
}

// numbered appends the next number for prefix.
func numbered(prefix string, count map[string]int) string {
	prefix = prefix[:min(len(prefix), maxName-5)] // room for "-9999"
	count[prefix]++
	return prefix + "-" + strconv.Itoa(count[prefix])
}
