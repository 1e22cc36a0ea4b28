package cmd

import (
	"fmt"
	"strconv"
	"time"

	"github.com/fraiseql/observer/pipeline"
)

// staleAfter is older than figures become while servers answer.
const staleAfter = 15 * time.Second

// statusRows are the lines about the process itself.
func statusRows(s *pipeline.Status) [][]string {
	ready := "ready"
	if !s.Ready {
		ready = "NOT READY"
	}
	rows := [][]string{{"status", s.Status + ", " + ready}}
	for _, r := range s.Reasons {
		why := fmt.Sprintf("%s: %s (since %s)", r.Check, r.Error, r.Since.UTC().Format(time.RFC3339))
		if r.Fix != "" {
			why += ": " + r.Fix
		}
		rows = append(rows, []string{"", why})
	}
	rows = append(rows, []string{"process", fmt.Sprintf("observer %s, transport %s, up %s", s.Version, s.Transport, seconds(s.UptimeSeconds))})
	for _, r := range s.Roles {
		rows = append(rows, []string{r.Role, r.Name + ": " + r.State})
	}
	rows = append(rows, bridgeRows(s.Bridge)...)
	return append(rows, workRows(s)...)
}

func bridgeRows(b *pipeline.BridgeStatus) [][]string {
	if b == nil {
		return nil
	}
	var rows [][]string
	if b.ChangeLog != nil {
		rows = append(rows, []string{"to publish", backlog(b.ChangeLog)})
	}
	if b.PublishedSequence != nil && b.ConfirmedSequence != nil {
		rows = append(rows, []string{"stream", fmt.Sprintf("%s: published up to %d, confirmed up to %d", b.Stream, *b.PublishedSequence, *b.ConfirmedSequence)})
	}
	return rows
}

// workRows are what waits for the observers, and what became of it.
func workRows(s *pipeline.Status) (rows [][]string) {
	add := func(name, format string, args ...any) {
		rows = append(rows, []string{name, fmt.Sprintf(format, args...)})
	}
	if age := measuredAge(s); age > staleAfter {
		add("measured", "%s ago: the servers have not answered since", age.Round(time.Second))
	}
	if s.Source != nil {
		add("backlog", "%s", backlog(s.Source))
	}
	if c := s.Consumer; c != nil {
		add("consumer", "%s of stream %s: %d pending, %d handed out, over all its workers", c.Consumer, c.Stream, c.Pending, c.AckPending)
		if o := c.Partitions; o != nil {
			add("partitions", "%d with this worker, %d workers in all", len(o.Owned), len(o.Owners))
		}
	}
	if s.Parked != nil {
		add("parked", "%s", counted(s.Parked.N, &s.Parked.OldestAgeSeconds))
	}
	if s.DeadLetters != nil {
		add("dead letters", "%s", counted(s.DeadLetters.N, s.DeadLetters.OldestAgeSeconds))
	}
	if s.Delivered != nil {
		add("delivered", "%d since the start", *s.Delivered)
	}
	if d := s.Dedup; d != nil {
		add("dedup", "%d checks, %d duplicates (%.0f%%), %d errors", d.Checks, d.Duplicates, 100*d.HitRate, d.Errors)
	}
	if c := s.Cache; c != nil {
		add("cache", "%d hits, %d misses (%.0f%% hits)", c.Hits, c.Misses, 100*c.HitRate)
	}
	return rows
}

// measuredAge is by the clock of the process.
func measuredAge(s *pipeline.Status) time.Duration {
	if s.MeasuredAt == nil {
		return 0
	}
	return s.StartedAt.Add(time.Duration(s.UptimeSeconds * float64(time.Second))).Sub(*s.MeasuredAt)
}

func observerRows(observers []pipeline.ObserverStatus) [][]string {
	rows := [][]string{{"OBSERVER", "ENTITY", "EVENT", "ENABLED", "MATCHED", "NOT MATCHED", "CONDITION ERRORS"}}
	for _, o := range observers {
		kind, enabled := o.EventType, "yes"
		if kind == "" {
			kind = "any"
		}
		if !o.Enabled {
			enabled = "no"
		}
		rows = append(rows, []string{o.Name, o.Entity, kind, enabled, count(o.Matched), count(o.NotMatched), count(o.ConditionErrors)})
	}
	return rows
}

func endpointRows(endpoints []pipeline.EndpointStatus) [][]string {
	rows := [][]string{{"ENDPOINT", "BREAKER"}}
	for _, e := range endpoints {
		rows = append(rows, []string{e.Name, e.Breaker})
	}
	return rows
}

func backlog(s *pipeline.SourceStatus) string {
	where := "in the change log"
	if s.From == "stream" {
		where = "in the stream"
	}
	return counted(s.Backlog, &s.OldestAgeSeconds) + " " + where
}

// counted tells how many there are and, where that is known, how old the oldest is.
func counted(n int64, oldest *float64) string {
	text := strconv.FormatInt(n, 10)
	if n > 0 && oldest != nil && *oldest > 0 {
		text += " (oldest " + seconds(*oldest) + ")"
	}
	return text
}

// count is "-" for what is not known.
func count(n *int64) string {
	if n == nil {
		return "-"
	}
	return strconv.FormatInt(*n, 10)
}

func seconds(s float64) string {
	return time.Duration(s * float64(time.Second)).Round(time.Second).String()
}
