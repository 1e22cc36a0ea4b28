package cmd

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"
)

const quickstart = `
[transport]
transport = "in_memory"

[[observers]]
name = "shipped"
entity = "Order"

[[observers.actions]]
type = "log"
message_template = "order {{ data.id }}"
`

func TestMistakesOnTheCommandLineExitWithTwo(t *testing.T) {
	t.Parallel()
	memory := file(t, "memory.toml", quickstart)
	for name, test := range map[string]struct {
		args []string
		says []string
	}{
		"a misspelt command":               {[]string{"migrat"}, []string{`unknown command "migrat"`, "migrate"}},
		"an interval without watching":     {[]string{"status", "--interval", "5s"}, []string{"--interval belongs to --watch"}},
		"an interval too short":            {[]string{"status", "--watch", "--interval", "1ms"}, []string{"--interval 1ms", "100ms"}},
		"the status of what does not run":  {[]string{"status", "--config", memory}, []string{"in_memory", "no process to ask"}},
		"a misspelt subcommand":            {[]string{"dlq", "lst"}, []string{`no subcommand "lst"`, "did you mean list?"}},
		"an unknown subcommand":            {[]string{"capture", "explode"}, []string{"add, list, remove"}},
		"a group alone":                    {[]string{"checkpoint"}, []string{"list, remove, set"}},
		"a shell that completion lacks":    {[]string{"completion", "bsh"}, []string{"did you mean bash"}},
		"a misspelt flag":                  {[]string{"run", "--confg", "x"}, []string{"unknown flag: --confg: did you mean --config?", "observer run --help"}},
		"a misspelt flag of the flat form": {[]string{"--valdate"}, []string{"did you mean --validate?"}},
		"a flag like no other":             {[]string{"version", "--frobnicate"}, []string{"unknown flag: --frobnicate\n"}},
		"a format that does not exist":     {[]string{"version", "--format", "yaml"}, []string{"text, json"}},
		"a format where no data is":        {[]string{"migrate", "--format", "json"}, []string{"unknown flag"}},
		"a log level that does not exist":  {[]string{"version", "--log-level", "loud"}, []string{"debug, info, warn, error"}},
		"an empty config flag":             {[]string{"migrate", "--config", ""}, []string{"--config is empty"}},
		"a config file that is not there":  {[]string{"run", "--config", "no/such.toml"}, []string{"no/such.toml: read file: no such file", "--config FILE"}},
		"no argument":                      {[]string{"capture", "add"}, []string{"0 arguments instead of one: write observer capture add TABLE"}},
		"too many arguments":               {[]string{"dlq", "show", "1", "2"}, []string{"2 arguments instead of one"}},
		"an argument that nothing takes":   {[]string{"version", "now"}, []string{`"now"`}},
		"removing without yes":             {[]string{"migrate", "--down"}, []string{"add --yes"}},
		"yes without down":                 {[]string{"migrate", "--yes"}, []string{"--yes belongs to --down"}},
		"printing and removing":            {[]string{"migrate", "--print", "--down", "--yes"}, []string{"none of the others"}},
		"removing and granting":            {[]string{"migrate", "--down", "--yes", "--grant-app", "x"}, []string{"none of the others"}},
		"a grant to nobody":                {[]string{"migrate", "--grant-app", ""}, []string{"--grant-app is empty"}},
		"no database":                      {[]string{"migrate", "--config", memory}, []string{"DATABASE_URL"}},
		"bulk capture":                     {[]string{"capture", "add", "orders", "--bulk"}, []string{"--bulk", "not supported yet"}},
		"columns and exclude":              {[]string{"capture", "add", "orders", "--columns", "a", "--exclude", "b"}, []string{"none of the others"}},
		"no position":                      {[]string{"checkpoint", "set", "observer"}, []string{`"to" not set`}},
		"a position that is no time":       {[]string{"checkpoint", "set", "observer", "--to", "yesterday"}, []string{"now, beginning", "RFC 3339"}},
		"a checkpoint without a name":      {[]string{"checkpoint", "set", "", "--to", "now"}, []string{"name is empty"}},
		"an ID that is no number":          {[]string{"dlq", "retry", "abc"}, []string{"observer dlq list"}},
		"a limit of nothing":               {[]string{"dlq", "list", "--limit", "0"}, []string{"--limit 0"}},
		"an offset before the first":       {[]string{"dlq", "list", "--offset", "-1"}, []string{"--offset -1"}},
		"a time that is none":              {[]string{"dlq", "list", "--after", "noon"}, []string{"--after \"noon\""}},
		"another time that is none":        {[]string{"dlq", "stats", "--before", "noon"}, []string{"--before \"noon\""}},
		"a limit of no retries":            {[]string{"dlq", "retry-all", "--limit", "0"}, []string{"--limit 0"}},
		"removing nothing":                 {[]string{"dlq", "remove"}, []string{"observer dlq remove ID | --all"}},
		"removing one and all":             {[]string{"dlq", "remove", "1", "--all"}, []string{"observer dlq remove ID | --all"}},
		"selecting where an ID is named":   {[]string{"dlq", "remove", "1", "--observer", "x"}, []string{"--observer selects dead letters for --all"}},
		"emit without data":                {[]string{"emit", "--entity", "Order"}, []string{`"data" not set`}},
		"emit without an entity":           {[]string{"emit", "--data", "{}"}, []string{"--entity is missing"}},
		"emit with an empty entity":        {[]string{"emit", "--entity", "", "--data", "-"}, []string{"--entity is missing"}},
		"emit whole events with a type":    {[]string{"emit", "--type", "INSERT", "--data", "-"}, []string{"--type and --id need --entity"}},
		"emit with an unknown type":        {[]string{"emit", "--entity", "Order", "--type", "UPSERT", "--data", "{}"}, []string{"INSERT, UPDATE, DELETE, CUSTOM"}},
		"emit what is no JSON":             {[]string{"emit", "--entity", "Order", "--data", "{"}, []string{"--data holds no JSON"}},
		"emit a file that is not there":    {[]string{"emit", "--entity", "Order", "--data", "@no/such.json"}, []string{"no/such.json"}},
		"emit into memory":                 {[]string{"emit", "--config", memory, "--entity", "Order", "--data", "{}"}, []string{"in_memory", "observer run --input FILE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := observer(t, "", test.args...)
			require.Equal(t, exitUsage, r.code, r.err)
			require.Empty(t, r.out)
			for _, text := range test.says {
				require.Contains(t, r.err, text)
			}
		})
	}
}

func TestTheFlatFormIsRun(t *testing.T) {
	t.Parallel()
	cfg := file(t, "observer.toml", quickstart)
	for name, flags := range map[string][]string{
		"validating":           {"--validate"},
		"validating, as JSON":  {"--validate", "--format", "json"},
		"without input":        {},
		"with a file of input": {"--input", file(t, "none.ndjson", "{\n")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			flat := observer(t, "", append([]string{"--config", cfg}, flags...)...)
			long := observer(t, "", append([]string{"run", "--config", cfg}, flags...)...)
			require.Equal(t, long.code, flat.code)
			require.Equal(t, withoutNumbers(long.out), withoutNumbers(flat.out))
			require.NotEmpty(t, flat.out+flat.err)
		})
	}
}

// withoutNumbers makes the outputs of two runs comparable.
func withoutNumbers(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, s)
}

func TestTheProgramAlonePrintsItsHelp(t *testing.T) {
	t.Parallel()
	out := succeeds(t)
	for _, name := range []string{"run", "migrate", "capture", "checkpoint", "emit", "eval", "dlq", "status", "version", "completion", "schema"} {
		require.Regexp(t, `(?m)^  `+name+` `, out)
	}
}

func TestInputThatHoldsNoEventExitsWithTwo(t *testing.T) {
	t.Parallel()
	cfg := file(t, "observer.toml", quickstart)
	r := observer(t, "{\"entity_type\":\"Order\",\"data\":{\"id\":1}}\n{\"data\":{}}\n", "run", "--config", cfg, "--input", "-")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.err, `standard input:2: decode event: "entity_type" is missing`)
	require.Contains(t, r.out, "1 events, 1 matched, 1 delivered")
}

func TestInputMayBeginWithAByteOrderMark(t *testing.T) {
	t.Parallel()
	cfg := file(t, "observer.toml", quickstart)
	events := "\ufeff{\"entity_type\":\"Order\",\"data\":{\"id\":1}}\n"
	require.Contains(t, succeeds(t, "run", "--config", cfg, "--input", file(t, "events.ndjson", events)), "1 delivered")
	require.Equal(t, "1\ntrue\n", succeeds(t, "eval", "data.id", "--event", file(t, "event.json", events)))
}

func TestTheWordsOfAFlagComplete(t *testing.T) {
	t.Parallel()
	for flag, args := range map[string][]string{
		"INSERT": {"emit", "--type"}, "json": {"run", "--format"}, "debug": {"run", "--log-level"}, "text": {"dlq", "list", "--log-format"},
	} {
		require.Contains(t, succeeds(t, append(append([]string{"__complete"}, args...), "")...), flag)
	}
	require.Contains(t, succeeds(t, "__complete", "--format", ""), "json", "the flat form")
}

const ignoresHangup = "SIGHUP is not used in this version: restart to reload"

// hangup is input at whose end the process, which is this test's as well, gets SIGHUP. It ends once the signal was logged.
type hangup struct {
	io.Reader
	logged <-chan struct{}
}

func (h hangup) Read(b []byte) (int, error) {
	n, err := h.Reader.Read(b)
	if errors.Is(err, io.EOF) {
		if failed := syscall.Kill(os.Getpid(), syscall.SIGHUP); failed != nil {
			return n, failed
		}
		<-h.logged
	}
	return n, err
}

// onceWritten closes the channel when the text is written for the first time.
type onceWritten struct {
	text string
	done chan struct{}
	once sync.Once
}

func (o *onceWritten) Write(b []byte) (int, error) {
	if bytes.Contains(b, []byte(o.text)) {
		o.once.Do(func() { close(o.done) })
	}
	return len(b), nil
}

func TestAHangupDoesNotEndARun(t *testing.T) {
	t.Parallel()
	own := make(chan os.Signal, 1) // without the program's handling, the signal would end the tests
	signal.Notify(own, syscall.SIGHUP)
	defer signal.Stop(own)
	cfg := file(t, "observer.toml", quickstart)
	errOut := &onceWritten{text: ignoresHangup, done: make(chan struct{})}
	in := hangup{strings.NewReader("{\"entity_type\":\"Order\",\"data\":{\"id\":1}}\n"), errOut.done}
	var out bytes.Buffer
	require.Zero(t, execute(t.Context(), []string{"run", "--config", cfg, "--input", "-"}, in, &out, errOut))
	require.Contains(t, out.String(), "1 delivered")
}

func TestOutputThatCannotBeWrittenIsAnError(t *testing.T) {
	t.Parallel()
	var errOut bytes.Buffer
	for _, args := range [][]string{{"schema"}, {"version"}, {"eval", "`1`"}, {"migrate", "--print"}, {"help"}} {
		require.Equal(t, exitRuntime, execute(t.Context(), args, nil, fullDisk{}, &errOut), args)
		require.Contains(t, errOut.String(), "no space")
		errOut.Reset()
	}
}

type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }
