package pipeline

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/admin"
	"github.com/fraiseql/observer/internal/metrics"
	"github.com/fraiseql/observer/internal/testenv"
	"github.com/fraiseql/observer/internal/testenv/natsenv"
	"github.com/fraiseql/observer/pipeline/postgres"
)

const (
	capturesAlone  = "[transport.postgres]\nurl = %q\n[admin]\nlisten = \"127.0.0.1:0\"\n[[observers]]\nentity = \"Order\"\n[[observers.actions]]\ntype = \"log\"\nmessage_template = \"x\"\n"
	capturesBridge = "[transport]\ntransport = \"nats\"\nrun_bridge = true\nrun_executors = false\n[transport.nats]\nurl = %q\n[transport.postgres]\nurl = %q\n[admin]\nlisten = \"127.0.0.1:0\"\n"
)

// TestARunningProcessTellsOfACaptureThatNoLongerFits alters a captured table under a leader and under a bridge.
func TestARunningProcessTellsOfACaptureThatNoLongerFits(t *testing.T) {
	t.Parallel()
	for name, config := range map[string]func(url string) string{
		"a leader": func(url string) string { return fmt.Sprintf(capturesAlone, url) },
		"a bridge": func(url string) string { return fmt.Sprintf(capturesBridge, natsenv.JetStream(t), url) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := testenv.Postgres(t)
			pool, err := pgxpool.New(t.Context(), url)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			require.NoError(t, postgres.Migrate(t.Context(), pool, slog.New(slog.DiscardHandler)))
			spec := postgres.CaptureSpec{Table: "public.orders", Entity: "Order", Exclude: []string{"secret"}}
			alter(t, pool, `create table orders (id bigint primary key, secret text)`)
			_, err = postgres.AddCapture(t.Context(), pool, spec)
			require.NoError(t, err)

			log := &pages{}
			p := withRedis(t, config(url), log)
			p.capturesEvery = 20 * time.Millisecond
			start(t, p)
			address := regexp.MustCompile(`address=(\S+)`)
			testenv.Eventually(t, within, func() error {
				if !address.MatchString(log.String()) {
					return errors.New("no admin address")
				}
				return p.is("leader")
			})
			base := "http://" + address.FindStringSubmatch(log.String())[1]
			require.Contains(t, get(t, base+"/metrics"), "\nfraiseql_observer_capture_problems 0\n")

			alter(t, pool, `alter table orders rename column secret to secret2`)
			testenv.Eventually(t, within, func() error { return p.is(admin.Degraded) })
			ready := get(t, base+"/readyz")
			require.Contains(t, ready, `"status":"degraded"`)
			require.Contains(t, ready, `"check":"capture","error":"public.orders is captured as Order and drifted: excluded column \"secret\" is named \"secret2\" now: changes become dead letters"`)
			require.Contains(t, ready, `"fix":"run: observer capture add public.orders --entity Order --exclude secret2 --replace"`)
			require.Contains(t, get(t, base+"/metrics"), "\nfraiseql_observer_capture_problems 1\n")
			testenv.Eventually(t, within, func() error {
				if !strings.Contains(log.String(), `run="observer capture add public.orders --entity Order --exclude secret2 --replace"`) {
					return errors.New(log.String())
				}
				return nil
			})

			spec.Exclude, spec.Replace = []string{"secret2"}, true
			_, err = postgres.AddCapture(t.Context(), pool, spec)
			require.NoError(t, err)
			testenv.Eventually(t, within, func() error { return p.is("leader") })
			require.Contains(t, get(t, base+"/metrics"), "\nfraiseql_observer_capture_problems 0\n")
			require.Equal(t, 1, strings.Count(log.String(), "capture does not fit its table"), "told once")
		})
	}
}

func alter(t *testing.T, pool *pgxpool.Pool, sql string) {
	t.Helper()
	_, err := pool.Exec(t.Context(), sql)
	require.NoError(t, err)
}

// get returns what a path of the admin address answers with 200.
func get(t *testing.T, url string) string {
	t.Helper()
	answer, err := http.Get(url)
	require.NoError(t, err)
	defer func() { require.NoError(t, answer.Body.Close()) }()
	body, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, answer.StatusCode, string(body))
	return string(body)
}

// watching runs watchCaptures for a time over answers, each of which stands for an hour.
func watching(t *testing.T, d time.Duration, answers func(hour int) ([]postgres.Capture, error)) string {
	t.Helper()
	var log bytes.Buffer
	p := &Pipeline{log: slog.New(slog.NewTextHandler(&log, nil)), metrics: metrics.New(prometheus.NewRegistry()), health: admin.NewHealth(), capturesEvery: capturesEvery}
	p.health.Become("leader")
	begun := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	p.watchCaptures(ctx, func(context.Context) ([]postgres.Capture, error) { return answers(int(time.Since(begun) / time.Hour)) })
	require.NoError(t, p.is("leader"), "a process that no longer reads tells nothing")
	return log.String()
}

func TestACaptureThatDoesNotFitIsToldOncePerChangeAndOnceADay(t *testing.T) {
	t.Parallel()
	drifted := postgres.Capture{Definition: postgres.Definition{Table: "public.orders", Entity: "Order"}, State: postgres.CaptureDrifted, Problem: "a", Command: "observer capture add"}
	disabled, well := drifted, postgres.Capture{State: postgres.CaptureOK}
	disabled.State = postgres.CaptureDisabled
	for name, tc := range map[string]struct {
		answers      func(hour int) ([]postgres.Capture, error)
		warns, infos int // in two and a half days
	}{
		"one that lasts": {func(int) ([]postgres.Capture, error) { return []postgres.Capture{drifted}, nil }, 3, 0},
		"none":           {func(int) ([]postgres.Capture, error) { return []postgres.Capture{well}, nil }, 0, 0},
		"one that changes and is mended": {func(hour int) ([]postgres.Capture, error) {
			return [][]postgres.Capture{{drifted}, {disabled}, {well}}[min(hour, 2)], nil
		}, 2, 1},
		"a look that fails": {func(int) ([]postgres.Capture, error) { return nil, errors.New("permission denied") }, 3, 0},
		"one that lasts while looks fail": {func(hour int) ([]postgres.Capture, error) {
			if hour == 1 {
				return nil, errors.New("away")
			}
			return []postgres.Capture{drifted}, nil
		}, 4, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				log := watching(t, 60*time.Hour, tc.answers)
				require.Equal(t, tc.warns, strings.Count(log, "level=WARN"), log)
				require.Equal(t, tc.infos, strings.Count(log, "level=INFO"), log)
			})
		})
	}
}

func TestReadyzShowsAFewCapturesAndSaysHowManyMore(t *testing.T) {
	t.Parallel()
	p := &Pipeline{metrics: metrics.New(prometheus.NewRegistry()), health: admin.NewHealth()}
	p.health.Become("leader")
	var problems []postgres.Capture
	for i := range 7 {
		problems = append(problems, postgres.Capture{Definition: postgres.Definition{Table: fmt.Sprintf("public.t%d", i)}, State: postgres.CaptureMissing, Command: fmt.Sprintf("c%d", i)})
	}
	p.showCaptures(problems)
	require.NoError(t, p.is(admin.Degraded))
	_, _, reasons := p.health.State()
	require.Contains(t, reasons[0].Error, "public.t4")
	require.NotContains(t, reasons[0].Error, "public.t5")
	require.Contains(t, reasons[0].Error, "; and 2 more")
	require.Equal(t, "run: c0; c1; c2; c3; c4; observer capture list", reasons[0].Fix)
	p.showCaptures(nil)
	require.NoError(t, p.is("leader"))
}
