package tracing

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTheVariablesDecideWhetherAndHowSpansAreSent(t *testing.T) {
	t.Parallel()
	const collector = "http://collector:4318"
	for name, tc := range map[string]struct {
		env      map[string]string
		on       bool
		protocol string
		problems string
	}{
		"nothing":                     {env: nil},
		"an endpoint":                 {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector}, on: true, protocol: "http/protobuf"},
		"an endpoint for traces":      {env: map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://collector/v1/traces"}, on: true, protocol: "http/protobuf"},
		"the default endpoint":        {env: map[string]string{"OTEL_TRACES_EXPORTER": "otlp"}, on: true, protocol: "http/protobuf"},
		"an empty endpoint":           {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": ""}},
		"another protocol":            {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, on: true, protocol: "grpc"},
		"the protocol of traces wins": {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/json"}, on: true, protocol: "http/json"},
		"disabled":                    {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_SDK_DISABLED": "TRUE"}},
		"not disabled":                {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_SDK_DISABLED": "false"}, on: true, protocol: "http/protobuf"},
		"no exporter":                 {env: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": collector, "OTEL_TRACES_EXPORTER": "none"}},
		"an exporter that is missing": {
			env:      map[string]string{"OTEL_TRACES_EXPORTER": "console"},
			problems: `OTEL_TRACES_EXPORTER is "console", which is not supported (allowed: otlp, none)`,
		},
		"all that is wrong": {
			env:      map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318", "OTEL_EXPORTER_OTLP_PROTOCOL": "carrier pigeon", "OTEL_TRACES_SAMPLER": "some"},
			problems: `OTEL_EXPORTER_OTLP_ENDPOINT is no URL of a collector (write http://HOST:PORT or https://HOST:PORT); OTEL_EXPORTER_OTLP_PROTOCOL is "carrier pigeon", which is not supported (allowed: http/protobuf, grpc, http/json); OTEL_TRACES_SAMPLER is "some", which is not supported (allowed: always_on, always_off, traceidratio, parentbased_always_on, parentbased_always_off, parentbased_traceidratio)`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			settings, problems := FromEnv(func(name string) string { return tc.env[name] })
			var told []string
			for _, p := range problems {
				told = append(told, p.Error())
			}
			require.Equal(t, tc.problems, strings.Join(told, "; "))
			require.Equal(t, tc.on, settings != nil)
			if tc.on {
				require.Equal(t, tc.protocol, settings.protocol)
			}
		})
	}
}

func TestErrorsOfTheExporterAreLoggedOnceAMinute(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		q := &quiet{log: slog.New(slog.NewTextHandler(&log, nil))}
		for range 121 { // two minutes, and the second after
			q.Handle(errors.New("away"))
			time.Sleep(time.Second) //nolint:forbidigo // the clock is the test's
		}
		require.Equal(t, 3, strings.Count(log.String(), "level=WARN"))
		require.Contains(t, log.String(), "error=away repeated=59")
	})
}
