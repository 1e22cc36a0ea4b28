package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// result is one line of the table.
type result struct {
	name    string
	ours    string // the median, with its unit
	against string // the median of what it is held against, "" where there is nothing
	ratio   float64
	limits  []limit
	counts
}

// counts are faults, over all runs of a line. Each of them must be zero.
type counts struct{ lost, twice, disordered int64 }

func (c *counts) add(more counts) {
	c.lost += more.lost
	c.twice += more.twice
	c.disordered += more.disordered
}

// limit is a number to reach.
type limit struct {
	value, bound float64
	atMost       bool
	format       string
}

func atLeast(value, bound float64, format string) limit { return limit{value, bound, false, format} }
func atMost(value, bound float64, format string) limit  { return limit{value, bound, true, format} }

func (l limit) reached() bool {
	if l.atMost {
		return l.value <= l.bound
	}
	return l.value >= l.bound
}

func (l limit) String() string {
	sign := ">="
	if l.atMost {
		sign = "<="
	}
	return sign + " " + fmt.Sprintf(l.format, l.bound)
}

func (r *result) verdict() string {
	switch {
	case r.counts != counts{}:
		return "FAIL"
	case len(r.limits) == 0:
		return "-"
	case slices.ContainsFunc(r.limits, func(l limit) bool { return !l.reached() }):
		return "FAIL"
	}
	return "PASS"
}

func allReached(results []result) bool {
	return !slices.ContainsFunc(results, func(r result) bool { return r.verdict() == "FAIL" })
}

func printTable(w io.Writer, machine string, results []result) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "row\tobserver\tagainst\tratio\tneeded\tlost\ttwice\tdisordered\t")
	for _, r := range results {
		ratio, needs := "", make([]string, len(r.limits))
		if r.ratio > 0 {
			ratio = fmt.Sprintf("%.2f", r.ratio)
		}
		for i, l := range r.limits {
			needs[i] = l.String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%d\t%s\n", r.name, r.ours, r.against, ratio, strings.Join(needs, ", "), r.lost, r.twice, r.disordered, r.verdict())
	}
	_ = t.Flush() // what stdout does not take, nobody reads
	fmt.Fprintln(w, machine)
}

// median sorts a copy.
func median(list []float64) float64 {
	if len(list) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(list))
	return (sorted[(len(sorted)-1)/2] + sorted[len(sorted)/2]) / 2
}

// series holds the runs of one line against another.
type series struct{ ours, against, ratios []float64 }

func (s *series) add(ours, against float64) {
	s.ours, s.against, s.ratios = append(s.ours, ours), append(s.against, against), append(s.ratios, ours/against)
}

// below is a second line for the same runs, held against one run of a stock part of a library.
func (s *series) below(part, library string, of int64, stock report) result {
	ours := median(s.ours)
	return result{
		name: fmt.Sprintf("  against the %s of %s, %s", part, library, amount(of)), ours: thousands(ours),
		against: library + " " + thousands(stock.rate()), ratio: ours / stock.rate(),
	}
}

// thousands prints a rate.
func thousands(perSecond float64) string {
	if perSecond < 10_000 {
		return fmt.Sprintf("%.0f/s", perSecond)
	}
	return fmt.Sprintf("%.1f k/s", perSecond/1000)
}
