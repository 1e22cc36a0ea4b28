package faults

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

const patient = `
initial_delay_ms = 100
max_delay_ms = 500
max_attempts = 1000`

// TestAFailingReceiverGetsEverythingLater lets the receiver refuse, then vanish, and kills the process while deliveries
// are parked.
func TestAFailingReceiverGetsEverythingLater(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	config := w.config(t, settings{retry: patient})
	o := startObserver(t, config)
	o.leads(t)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	pause := pick(1500*time.Millisecond, 4*time.Second)

	w.receiver.answer(http.StatusInternalServerError)
	wait(t.Context(), pause)
	require.Positive(t, query[int64](t, w, `select count(*) from core.tb_observer_retry`))
	w.killParking(t, o)
	w.receiver.answer(http.StatusOK)
	o = startObserver(t, config)
	w.delivers(t, time.Now(), "")

	w.down(t)
	wait(t.Context(), pause)
	w.killParking(t, o)
	o = startObserver(t, config)
	o.leads(t)
	wait(t.Context(), pause)
	w.receiver.up(t)
	w.delivers(t, time.Now(), "")

	committed := w.settle(t)
	testenv.Eventually(t, within, func() error {
		left, err := queryURL[int64](t.Context(), w.url, `select count(*) from core.tb_observer_retry`)
		if err == nil && left > 0 {
			err = fmt.Errorf("%d deliveries are still parked", left)
		}
		return err
	})
	code, _ := o.terminate(t)
	require.Zero(t, code)
	require.Zero(t, query[int64](t, w, `select count(*) from core.tb_observer_dead_letter`))
	v := check(committed, w.arrived(), w.kills, w.excused)
	v.overtaken() // on_retry = "overtake"
	report(t, "receiver answers 500, then is away; kill -9 twice", v, w.recovery)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

// TestAHeldLaneKeepsItsOrder is the same with on_retry = "hold": nothing overtakes.
func TestAHeldLaneKeepsItsOrder(t *testing.T) {
	exact(t)
	w := newWorld(t, "")
	config := w.config(t, settings{retry: patient, onRetry: "hold"})
	o := startObserver(t, config)
	o.leads(t)
	startWriters(t, w.writers, t.Name())
	w.delivers(t, time.Now(), "")
	for range pick(1, 3) {
		for _, status := range []int{http.StatusInternalServerError, http.StatusTooManyRequests} {
			w.receiver.answer(status)
			wait(t.Context(), pick(1500*time.Millisecond, 5*time.Second))
			w.receiver.answer(http.StatusOK)
			w.delivers(t, time.Now(), "")
		}
		w.receiver.answer(http.StatusInternalServerError)
		wait(t.Context(), time.Second)
		w.killParking(t, o)
		w.receiver.answer(http.StatusOK)
		o = startObserver(t, config)
		w.delivers(t, time.Now(), "")
	}
	v := w.finish(t, "on_retry = hold: receiver answers 500 and 429; kill -9", o)
	require.LessOrEqual(t, v.duplicates, v.allowed)
}

type deadLetterPage struct {
	Items []struct {
		ID         int64  `json:"id"`
		EventID    string `json:"event_id"`
		Observer   string `json:"observer"`
		Action     string `json:"action"`
		Attempts   int    `json:"attempts"`
		Error      string `json:"error"`
		ErrorClass string `json:"error_class"`
	} `json:"items"`
	Total int `json:"total"`
}

// TestDeadLettersAreShownAndRetried goes through the operator's commands.
func TestDeadLettersAreShownAndRetried(t *testing.T) {
	scenario(t)
	w := newWorld(t, "")
	config := w.config(t, settings{retry: "initial_delay_ms = 50\nmax_delay_ms = 50\nmax_attempts = 3"})
	o := startObserver(t, config)
	o.leads(t)
	w.receiver.answer(http.StatusServiceUnavailable)
	const letters = 5
	w.commits(t, letters)
	var page deadLetterPage
	testenv.Eventually(t, within, func() error {
		page = listDeadLetters(t, config)
		if page.Total != letters {
			return fmt.Errorf("%d dead letters", page.Total)
		}
		return nil
	})
	require.Len(t, page.Items, letters)
	require.Equal(t, 3*letters, w.receiver.count(), "each was tried three times")
	for _, item := range page.Items {
		require.Equal(t, 3, item.Attempts)
		require.Equal(t, "all/notify", item.Observer+"/"+item.Action)
		require.Contains(t, item.Error, "503")
	}
	first := strconv.FormatInt(page.Items[0].ID, 10)
	shown, stderr, code := call(t, config, "dlq", "show", first)
	require.Zero(t, code, stderr)
	require.Contains(t, shown, page.Items[0].EventID)
	require.Contains(t, shown, "503")

	w.receiver.answer(http.StatusOK)
	for _, item := range page.Items {
		_, stderr, code := call(t, config, "dlq", "retry", strconv.FormatInt(item.ID, 10))
		require.Zero(t, code, stderr)
	}
	testenv.Eventually(t, within, func() error {
		if left := listDeadLetters(t, config).Total; left > 0 {
			return fmt.Errorf("%d dead letters are left", left)
		}
		return nil
	})
	_, stderr, code = call(t, config, "dlq", "show", first)
	require.Equal(t, 1, code, "a retried one that succeeded is gone")
	require.Contains(t, stderr, "not found")
	v := w.finish(t, "dead letters, retried by hand", o)
	require.Zero(t, v.duplicates)
}

func listDeadLetters(t *testing.T, config string) deadLetterPage {
	t.Helper()
	out, stderr, code := call(t, config, "dlq", "list", "--format", "json")
	require.Zero(t, code, stderr)
	var page deadLetterPage
	require.NoError(t, json.Unmarshal([]byte(out), &page), out)
	return page
}
