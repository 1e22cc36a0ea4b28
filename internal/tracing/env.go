package tracing

import (
	"fmt"
	"net/url"
	"slices"
	"strings"
)

// The names of the variables that decide whether and how spans are sent. The SDK reads the others by itself.
const (
	disabledVariable = "OTEL_SDK_DISABLED"
	exporterVariable = "OTEL_TRACES_EXPORTER"
	samplerVariable  = "OTEL_TRACES_SAMPLER"
)

// Variables of which the first one that is set counts.
var (
	endpointVariables = []string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"}
	protocolVariables = []string{"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"}
)

const (
	grpcProtocol    = "grpc"
	defaultProtocol = "http/protobuf"
)

// Settings say how spans are sent.
type Settings struct {
	protocol string
}

// VariableError says what is wrong with an environment variable.
type VariableError struct {
	Name    string
	Problem string // what is wrong
	Hint    string // what to write instead
}

// Error implements error.
func (e *VariableError) Error() string { return e.Name + " " + e.Problem + " (" + e.Hint + ")" }

// FromEnv reads the variables. Tracing is on when an endpoint is set, or OTEL_TRACES_EXPORTER is otlp, and OTEL_SDK_DISABLED
// is not true; settings are nil when it is off. An empty variable counts as not set. What this program cannot do is
// refused: problems are all that is wrong.
func FromEnv(getenv func(string) string) (settings *Settings, problems []*VariableError) {
	e := environment{getenv: getenv}
	if e.oneOf("", disabledVariable, "true", "false") == "true" {
		return nil, nil
	}
	exporter := e.oneOf("", exporterVariable, "otlp", "none")
	name, endpoint := e.first(endpointVariables)
	if len(e.problems) > 0 || exporter == "none" || exporter == "" && endpoint == "" {
		return nil, e.problems
	}
	e.checkEndpoint(name, endpoint)
	name, _ = e.first(protocolVariables)
	s := &Settings{protocol: e.oneOf(defaultProtocol, name, defaultProtocol, grpcProtocol, "http/json")}
	e.oneOf("", samplerVariable, "always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio")
	if len(e.problems) > 0 {
		return nil, e.problems
	}
	return s, nil
}

type environment struct {
	getenv   func(string) string
	problems []*VariableError
}

// first returns the first of names that is set.
func (e *environment) first(names []string) (name, value string) {
	for _, name = range names {
		if value = e.get(name); value != "" {
			return name, value
		}
	}
	return name, ""
}

func (e *environment) get(name string) string { return strings.TrimSpace(e.getenv(name)) }

// oneOf returns the value of a variable, or what stands for it when it is not set. The specification has them in any case.
func (e *environment) oneOf(unset, name string, allowed ...string) string {
	value := strings.ToLower(e.get(name))
	if value == "" {
		return unset
	}
	if !slices.Contains(allowed, value) {
		e.refuse(name, fmt.Sprintf("is %q, which is not supported", value), "allowed: "+strings.Join(allowed, ", "))
	}
	return value
}

// checkEndpoint never repeats the value: it may hold a token.
func (e *environment) checkEndpoint(name, endpoint string) {
	if endpoint == "" {
		return // the exporter has the standard's default
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		e.refuse(name, "is no URL of a collector", "write http://HOST:PORT or https://HOST:PORT")
	}
}

func (e *environment) refuse(name, problem, hint string) {
	e.problems = append(e.problems, &VariableError{name, problem, hint})
}
