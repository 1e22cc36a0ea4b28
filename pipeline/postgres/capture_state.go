package postgres

import (
	"fmt"
	"slices"
	"strings"
)

// CaptureState says whether a table is captured as it was asked for.
type CaptureState string

// The states of a capture.
const (
	CaptureOK       CaptureState = "ok"
	CaptureDisabled CaptureState = "disabled" // the trigger is there and does not fire, for the table or for some of its partitions
	CaptureDrifted  CaptureState = "drifted"  // the table, or the triggers, are no longer what they were
	CaptureMissing  CaptureState = "missing"  // the table or the trigger is gone
)

// Capture is a table that is captured, or was and should be.
type Capture struct {
	Definition

	Before  bool         `json:"before"` // before-images of an UPDATE are kept
	State   CaptureState `json:"state"`
	Problem string       `json:"problem"` // what does not fit; empty when the state is ok
	Command string       `json:"command"` // what to type then
}

// judge says in which state the capture of a table is. Of one that gave its name up to another table there are two.
func (f *found) judge() []Capture {
	switch {
	case f.args != nil && f.namesake == bareNamesake:
		return []Capture{f.standing(), f.lost("the captured table is " + f.table + " now, and another one has its name: no change of that one is captured")}
	case f.args != nil:
		return []Capture{f.standing()}
	case f.covered:
		return nil
	case f.table != "":
		d := f.definition(f.recorded.arguments)
		fitted, _ := f.fit(d)
		return []Capture{{d, !d.NoBefore, CaptureMissing, "its trigger is gone: no change is captured", fitted.command()}}
	case f.namesake == capturedNamesake:
		return nil // as the table that has its place
	case f.namesake == bareNamesake:
		return []Capture{f.lost("the captured table is gone, and another one has its name: no change of that one is captured")}
	}
	c := f.lost("the table was dropped")
	c.Command = "observer capture remove " + shellWord(c.Table)
	return []Capture{c}
}

// lost is the capture of what had the recorded name.
func (f *found) lost(problem string) Capture {
	d := f.definition(f.recorded.arguments)
	d.Table = f.recorded.name
	return Capture{d, !d.NoBefore, CaptureMissing, problem, d.command()}
}

// definition is what the arguments of a trigger say. Arguments that somebody made by hand may say less.
func (f *found) definition(args []string) Definition {
	d := Definition{Table: f.table}
	if d.parse(args) != nil {
		return Definition{Table: f.table, Entity: args[0], Key: []string{}, Columns: []string{}, Exclude: []string{}}
	}
	if r := f.recorded; r != nil && r.defaultKey {
		before := Definition{}
		d.DefaultKey = before.parse(r.arguments) == nil && slices.Equal(before.Key, d.Key)
	}
	return d
}

// standing is the capture of a table that has its trigger.
func (f *found) standing() Capture {
	d := f.definition(f.args)
	fitted, misfits := f.fit(d)
	if (&Definition{}).parse(f.args) != nil {
		misfits = append(misfits, "the arguments of its trigger, which somebody made by hand, cannot be read")
	}
	if f.exposed {
		misfits = append(misfits, "its owner may not act as the owner of observer's functions, which convert its rows")
	}
	silent := f.silent()
	c := Capture{d, !d.NoBefore, CaptureOK, strings.Join(slices.Concat(silent, misfits), "; "), fitted.command() + " --replace"}
	switch {
	case len(silent) > 0:
		c.State = CaptureDisabled
	case len(misfits) > 0:
		c.State = CaptureDrifted
	default:
		c.Command = ""
	}
	return c
}

// silent says for what the trigger does not fire.
func (f *found) silent() (problems []string) {
	if !fires(f.enabled) {
		problems = append(problems, "its trigger is disabled: no change is captured")
	}
	if len(f.off) > 0 {
		problems = append(problems, "its trigger is disabled on "+some(f.off)+": no change there is captured")
	}
	return problems
}

// someNames is how many of many names are told.
const someNames = 3

func some(names []string) string {
	if more := len(names) - someNames; more > 0 {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:someNames], ", "), more)
	}
	return strings.Join(names, ", ")
}

// unpaired says what is wrong with the trigger that converts rows for the other.
func (f *found) unpaired() (problems []string) {
	const then = ": changes become dead letters"
	switch {
	case !f.converted || !fires(f.enabled):
	case f.converts == "":
		problems = append(problems, "the trigger "+convertTrigger+" is gone"+then)
	case !fires(f.converts):
		problems = append(problems, "the trigger "+convertTrigger+" is disabled"+then)
	case f.converts != f.enabled && f.converts != firesAlways:
		problems = append(problems, "the trigger "+convertTrigger+" does not fire where "+captureTrigger+" does, with session_replication_role = replica"+then)
	}
	return problems
}

// firesAlways is the tgenabled of a trigger that fires with session_replication_role = replica as well.
const firesAlways = "A"

// fires reports whether a trigger fires for what ordinary sessions write.
func fires(tgenabled string) bool { return tgenabled == "O" || tgenabled == firesAlways }
