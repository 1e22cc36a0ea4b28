package postgres

import (
	"fmt"
	"slices"
	"strings"
)

// fate is what became of a column that a definition names.
type fate struct {
	name string
	now  string // its name now; empty: there is none
	kind fateKind
}

type fateKind int

const (
	columnIntact  fateKind = iota
	columnRenamed          // the column has another name
	columnRemade           // it was dropped, and another one has its name
	columnDropped
	columnUnknown // there is none of that name, and nothing tells whether it was renamed or dropped
)

// fateOf finds a column by its number, which a rename leaves, and by its name where no number is known.
func (f *found) fateOf(name string) fate {
	there := slices.Contains(f.columns, name)
	if number := f.number(name); number != 0 {
		switch i := slices.Index(f.numbers, number); {
		case i >= 0 && f.columns[i] == name:
			return fate{name, name, columnIntact}
		case i >= 0:
			return fate{name, f.columns[i], columnRenamed}
		case there:
			return fate{name, name, columnRemade}
		}
		return fate{name, "", columnDropped}
	}
	if there {
		return fate{name, name, columnIntact}
	}
	return fate{name, "", columnUnknown}
}

// number is the recorded attnum of a column, 0 when none is.
func (f *found) number(name string) int16 {
	if f.recorded == nil {
		return 0
	}
	i := slices.Index(f.recorded.columns, name)
	if i < 0 || i >= len(f.recorded.numbers) {
		return 0
	}
	return f.recorded.numbers[i]
}

// says tells of a column in a role of the definition.
func (c fate) says(role, then string) string {
	what := map[fateKind]string{
		columnRenamed: fmt.Sprintf("is named %q now", c.now),
		columnRemade:  "was dropped and made again",
		columnDropped: "was dropped",
		columnUnknown: "does not exist",
	}[c.kind]
	return fmt.Sprintf("%s column %q %s: %s", role, c.name, what, then)
}

const (
	thenDead     = "changes become dead letters"
	thenNullDead = "changes without a value there become dead letters"
	thenLeftOut  = "events are without it"
)

// fit holds a definition against the table as it is now. It returns the definition that means the same now, and what does not
// fit. Where nothing tells what became of a column that is to stay out, the definition names it still: nothing is let out by
// guessing, and whoever makes it is asked.
func (f *found) fit(d Definition) (Definition, []string) {
	fitted := d
	var misfits, told []string
	fitted.Key, fitted.DefaultKey, misfits = f.fitKey(d)
	fitted.Exclude, told = f.fitColumns(d.Exclude, true)
	misfits = append(misfits, told...)
	fitted.Columns, told = f.fitColumns(d.Columns, false)
	misfits = append(misfits, told...)
	if len(fitted.Columns) == 0 {
		fitted.Columns = d.Columns // without one, all columns would be captured
	}
	if d.Tenant != "" {
		fitted.Tenant, told = f.fitTenant(d.Tenant)
		misfits = append(misfits, told...)
	}
	return fitted, append(misfits, f.unpaired()...)
}

func (f *found) fitKey(d Definition) (key []string, byDefault bool, misfits []string) {
	if d.DefaultKey {
		return f.fitDefaultKey(d.Key)
	}
	gone := false
	for _, name := range d.Key {
		c := f.fateOf(name)
		if c.kind != columnIntact {
			misfits = append(misfits, f.saysOfKey(c))
		}
		if gone = gone || c.now == ""; c.now != "" {
			key = append(key, c.now)
		}
	}
	if gone && len(f.primary) > 0 {
		return f.primary, true, misfits
	}
	return key, false, misfits
}

// fitDefaultKey follows the primary key. One that was dropped leaves its columns, if they are there.
func (f *found) fitDefaultKey(key []string) (now []string, byDefault bool, misfits []string) {
	if slices.Equal(key, f.primary) {
		return key, true, nil
	}
	for _, name := range key {
		c := f.fateOf(name)
		if c.kind != columnIntact {
			misfits = append(misfits, f.saysOfKey(c))
		}
		if c.now != "" {
			now = append(now, c.now)
		}
	}
	gone := len(f.primary) == 0
	switch {
	case len(misfits) > 0:
	case gone:
		misfits = append(misfits, "the primary key is gone: events keep the key of before")
	default:
		misfits = append(misfits, fmt.Sprintf("the primary key is (%s) now: events keep the key of before", strings.Join(f.primary, ", ")))
	}
	if gone {
		return now, len(now) == 0, misfits
	}
	return f.primary, true, misfits
}

func (f *found) saysOfKey(c fate) string {
	switch {
	case c.kind == columnRemade:
		return c.says("key", thenNullDead)
	case c.kind == columnRenamed && len(f.args) == 2 && slices.Contains(f.columns, c.name):
		return c.says("key", "events have the other column as their key") // which the fast path does not look at
	}
	return c.says("key", thenDead)
}

// fitColumns follows a list of columns.
func (f *found) fitColumns(names []string, excluded bool) (now, misfits []string) {
	now = []string{}
	for _, name := range names {
		c, taken := f.fateOf(name), slices.Contains(f.columns, name)
		if c.kind == columnRenamed && taken && excluded {
			now = append(now, name) // as well: another column has the name
		}
		switch c.kind {
		case columnUnknown:
			now = append(now, name)
		case columnDropped:
		default:
			now = append(now, c.now)
		}
		switch {
		case c.kind == columnIntact, c.kind == columnRemade && excluded:
		case excluded:
			misfits = append(misfits, c.says("excluded", thenDead))
		case taken:
			misfits = append(misfits, c.says("included", thenDead)) // another column has the name
		default:
			misfits = append(misfits, c.says("included", thenLeftOut))
		}
	}
	return now, misfits
}

func (f *found) fitTenant(name string) (now string, misfits []string) {
	c := f.fateOf(name)
	switch c.kind {
	case columnRenamed, columnDropped, columnUnknown:
		misfits = append(misfits, c.says("tenant", thenDead))
	case columnRemade:
		misfits = append(misfits, c.says("tenant", thenNullDead))
	}
	if c.now != "" && !slices.Contains(f.tenants, c.now) {
		return "", append(misfits, fmt.Sprintf("tenant column %q can hold no tenant, since its type is neither uuid nor text: %s", c.now, thenDead))
	}
	return c.now, misfits
}
