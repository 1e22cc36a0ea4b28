package faults

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"text/tabwriter"
	"time"
)

// row is one line of the table that the long form prints at its end.
type row struct {
	fault string
	verdict
	recovery time.Duration // the longest of the scenario; negative: nothing had to recover
}

var table struct {
	sync.Mutex
	rows []row
}

// report adds a line to the table, and fails the test where the line is bad.
func report(t *testing.T, fault string, v verdict, recovery time.Duration) {
	t.Helper()
	table.Lock()
	table.rows = append(table.rows, row{fault, v, recovery})
	table.Unlock()
	t.Logf("%s: %d events, %d lost, %d uncommitted, %d duplicates (%d allowed), %d out of order, seconds to recover: %s",
		fault, v.events, v.lost, v.uncommitted, v.duplicates, v.allowed, v.disorder, seconds(recovery))
	v.require(t)
}

func printTable() {
	table.Lock()
	defer table.Unlock()
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintf(w, "\nfault\tevents\tlost\tuncommitted\tduplicate\tallowed\tout of order\tseconds to recover\t\n")
	for _, r := range table.rows {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", r.fault, r.events, r.lost, r.uncommitted, r.duplicates, r.allowed, r.disorder, seconds(r.recovery))
	}
	_ = w.Flush() // nobody to tell
	fmt.Fprintf(os.Stdout, "seed %d\n", seed)
}

func seconds(d time.Duration) string {
	if d < 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f", d.Seconds())
}
