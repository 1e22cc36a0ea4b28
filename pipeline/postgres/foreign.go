package postgres

import (
	"fmt"
	"strings"
)

// foreignError says that the connected database is not the one that is meant. It is [ErrWrongCluster], unless time mends it.
type foreignError struct {
	checkpoint   string // that was asked for; "": the process works on another database
	of           string // the checkpoint that gives the copy away
	stored, here identity
}

// Error says what is there. It unwraps to nothing, so that this is what is told of a connection that was refused.
func (e *foreignError) Error() string {
	if e.checkpoint == "" {
		return fmt.Sprintf("the server is %s than before (%s, before %s)", e.other(), e.here, e.stored)
	}
	text := fmt.Sprintf("checkpoint %s belongs to %s", e.of, origin(e.stored, e.here))
	if e.stored.system != "" {
		text += fmt.Sprintf(" (%s, here %s)", e.stored, e.here)
	}
	if e.of != e.checkpoint {
		text = fmt.Sprintf("checkpoint %s is not known here, and %s", e.checkpoint, text)
	}
	return text + ": nothing is sent"
}

// Is implements errors.Is. A former primary goes away again, and the process waits for that.
func (e *foreignError) Is(target error) bool {
	return target == ErrWrongCluster && (e.checkpoint != "" || !e.older())
}

func (e *foreignError) older() bool {
	return e.stored.system == e.here.system && e.stored.database == e.here.database
}

func (e *foreignError) other() string {
	if e.older() {
		return "an older one"
	}
	return "another one"
}

func (e *foreignError) advice() string {
	if e.checkpoint == "" {
		return "check transport.postgres.url, name resolution and proxies: a former primary or a copy answers; if it is the database that you mean, restart observer"
	}
	return "check transport.postgres.url; where this is to go on, as after a restore or pg_upgrade, parked deliveries included, run: " + repair(e.checkpoint)
}

// repair is the command that makes a checkpoint one of the connected database.
func repair(name string) string {
	return "observer checkpoint set " + strings.TrimSuffix(name, confirmedSuffix) + " --to now|beginning|TIMESTAMP"
}

// origin says to what a checkpoint belongs that was not stored here.
func origin(stored, here identity) string {
	switch {
	case stored.system == "":
		return "the database of which this is a copy"
	case stored.system != here.system:
		return "another database cluster"
	case stored.database != here.database && stored.database != 0:
		return "another database of this cluster"
	}
	return "a later timeline"
}

func (i identity) String() string {
	return fmt.Sprintf("system identifier %s, database oid %d, timeline %d", i.system, i.database, i.timeline)
}
