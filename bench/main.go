// Command bench measures the program against raw clients on this machine: `make bench`. Each row of its table has a number
// to reach; what it is held against runs in the same minute, alternating, since absolute figures drift. Start reading at
// rows.go; README.md says how each row is measured and keeps the last full run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	if role := os.Getenv(specVariable); role != "" {
		os.Exit(runChild(role))
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// errMissed says that a number was not reached; the table shows which.
var errMissed = errors.New("not every number was reached")

func run() error {
	only := flag.String("only", "", "measure only these rows, such as a,b (default: all but n)")
	quick := flag.Bool("quick", false, "small and short: shows that everything runs, its figures say little and miss nothing")
	pairs := flag.Int("pairs", 0, "pairs of runs behind each median (default 5)")
	profile := flag.String("profile", "", "write CPU and heap profiles of each observer process to this `DIR`")
	list := flag.Bool("list", false, "list the rows and end")
	flag.Parse()
	if *list {
		for _, r := range rows {
			fmt.Printf("%s  %s\n", r.key, r.about)
		}
		return nil
	}
	b := &bench{sizes: full, profile: *profile, progress: os.Stderr}
	if *quick {
		b.sizes = small
	}
	if *pairs > 0 {
		b.pairs = *pairs
	}
	chosen, err := choose(*only)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	results, err := b.measure(ctx, chosen)
	printTable(os.Stdout, describe(), results)
	if err == nil && !*quick && !allReached(results) {
		err = errMissed
	}
	return err
}

// choose returns the named rows in the order of the table.
func choose(only string) ([]row, error) {
	if only == "" {
		return slices.DeleteFunc(slices.Clone(rows), func(r row) bool { return r.extra }), nil
	}
	wanted := map[string]bool{}
	for key := range strings.SplitSeq(only, ",") {
		wanted[strings.TrimSpace(key)] = true
	}
	var chosen []row
	for _, r := range rows {
		if wanted[r.key] {
			chosen = append(chosen, r)
			delete(wanted, r.key)
		}
	}
	for key := range wanted {
		return nil, fmt.Errorf("no row %q: -list shows them", key)
	}
	return chosen, nil
}
