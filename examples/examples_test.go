// Package examples holds configurations that CI runs, as the README says that a person should.
package examples

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/fraiseql/observer/internal/testenv"
)

// clone is where [built] puts a checkout of the repository. It is removed with the tests.
var clone string

// TestMain has every go command of the tests build as `make build` does, but without symbols: no path is in what is
// compiled, so that the copies of the repository share it.
func TestMain(m *testing.M) {
	testenv.Concurrent(8)
	var err error
	if clone, err = os.MkdirTemp("", "observer-examples-"); err != nil {
		panic(err)
	}
	err = errors.Join(os.Setenv("CGO_ENABLED", "0"), os.Setenv("GOFLAGS", os.Getenv("GOFLAGS")+" -trimpath -ldflags=-s"))
	if err != nil {
		panic(err)
	}
	code := testenv.Main(m)
	_ = os.RemoveAll(clone) // of no use to anybody
	os.Exit(code)
}

var fence = regexp.MustCompile("(?s)```bash\n(.*?)```")

// commands returns the blocks of commands in a section of the README.
func commands(t *testing.T, section string) []string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, rest, found := strings.Cut(string(text), "\n## "+section+"\n")
	require.True(t, found, "the README has no section %q", section)
	rest, _, _ = strings.Cut(rest, "\n## ")
	var blocks []string
	for _, match := range fence.FindAllStringSubmatch(rest, -1) {
		blocks = append(blocks, strings.TrimSpace(match[1]))
	}
	return blocks
}

// built runs the line of the README that builds the program, once for all tests, in what a person has who has just cloned the
// repository.
var built = sync.OnceValues(func() (dir string, err error) {
	if err = copyTo(clone); err != nil {
		return "", err
	}
	const line = "go build -o observer ./cmd/observer"
	if output, err := shell(context.Background(), clone, line).CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", line, err, output)
	}
	return clone, nil
})

// copyTo copies the repository, but for what git ignores or keeps for itself.
func copyTo(dir string) error {
	return filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := filepath.Join(dir, path[len(".."):])
		switch {
		case d.IsDir() && slices.Contains([]string{".git", "bin"}, d.Name()):
			return fs.SkipDir
		case d.IsDir():
			return os.MkdirAll(to, 0o755)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(to, content, 0o644)
	})
}

func shell(ctx context.Context, dir, script string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = dir
	return cmd
}

func TestTheQuickstartFiresWithoutAnyService(t *testing.T) {
	t.Parallel()
	cmd := shell(t.Context(), "..", commands(t, "Five minutes")[0])
	var log strings.Builder
	cmd.Stderr = &log
	summary, err := cmd.Output()
	require.NoError(t, err, log.String())
	require.Contains(t, string(summary), "5 events, 2 matched, 2 delivered, 0 dead letters")
	require.Contains(t, log.String(), "order 1 was shipped to Ada, before it was new")
	require.Contains(t, log.String(), "a large order: 4200.50 from Grace")
}

// TestTheFiveMinutesAgainstPostgres runs the README's commands as they stand there, but for the addresses. The first builds
// what [built] has built, and finds it up to date.
func TestTheFiveMinutesAgainstPostgres(t *testing.T) {
	t.Parallel()
	dir, err := built()
	require.NoError(t, err)
	url := testenv.Postgres(t)
	arrived := make(chan string, 1)
	receiver := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body) // a test that needs more of it fails below
		arrived <- r.URL.Path + " " + string(body)
	}))
	t.Cleanup(receiver.Close)
	db, err := pgx.Connect(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close(context.Background())) })
	const example = "01-postgresql-only.toml"
	text, err := os.ReadFile(example)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "examples", example), []byte(strings.ReplaceAll(string(text), "http://localhost:9000", receiver.URL)), 0o600))

	require.Contains(t, commands(t, "Five minutes")[1], "go build -o observer ./cmd/observer\n", "the line that was run")
	script := regexp.MustCompile(`postgres://\S+`).ReplaceAllLiteralString(commands(t, "Five minutes")[1], "'"+url+"'")
	lines := strings.Split(script, "\n")
	lines[len(lines)-1] = "exec " + lines[len(lines)-1] // so that the signal below reaches it
	observer := shell(t.Context(), dir, "export FRAISEQL_ADMIN_LISTEN=127.0.0.1:0\n"+strings.Join(lines, "\n"))
	log, err := observer.StderrPipe()
	require.NoError(t, err)
	require.NoError(t, observer.Start())
	leads := make(chan struct{})
	var all strings.Builder
	go func() {
		for scan := bufio.NewScanner(log); scan.Scan(); {
			fmt.Fprintln(&all, scan.Text())
			if strings.Contains(scan.Text(), "msg=leading listener=") {
				close(leads)
			}
		}
		close(arrived)
	}()
	select {
	case <-leads:
	case <-arrived:
		t.Fatalf("it ended: %v\n%s", observer.Wait(), all.String())
	}
	ship := shell(t.Context(), dir, "export DATABASE_URL='"+url+"'\n"+commands(t, "Five minutes")[2])
	out, err := ship.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, `/hooks/shipped {"order": 1, "customer": "Ada", "note": "was new"}`, <-arrived)
	require.NoError(t, observer.Process.Signal(syscall.SIGTERM))
	<-arrived
	require.NoError(t, observer.Wait(), all.String())
	require.Contains(t, all.String(), `UPDATE of order 1`)
}

func TestTheReceiverShowsWhatArrives(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "receiver")
	output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./receiver").CombinedOutput()
	require.NoError(t, err, string(output))
	receiver := exec.CommandContext(t.Context(), program, "127.0.0.1:0")
	out, err := receiver.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, receiver.Start())
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	url, found := strings.CutPrefix(lines.Text(), "listening on ")
	require.True(t, found, lines.Text())
	answer, err := http.Post(url+"/hooks/shipped", "application/json", strings.NewReader(`{"order": 1}`))
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.True(t, lines.Scan())
	require.Equal(t, `POST /hooks/shipped {"order": 1}`, lines.Text())
	require.NoError(t, receiver.Process.Kill())
	require.Error(t, receiver.Wait())
}

// TestATeamsProgramsDoWhatTheirConfigurationSays runs the command in the first lines of each configuration, as a person
// would, and looks for the output that stands below it.
func TestATeamsProgramsDoWhatTheirConfigurationSays(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"custom-action", "custom-middleware"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			program, err := os.ReadFile(filepath.Join(name, "main.go"))
			require.NoError(t, err)
			require.Less(t, strings.Count(string(program), "\n"), 60, "lines that a newcomer has to read")
			cfg, err := os.ReadFile(filepath.Join(name, "observer.toml"))
			require.NoError(t, err)
			var indented []string
			for line := range strings.Lines(string(cfg)) {
				if text, ok := strings.CutPrefix(line, "#   "); ok {
					indented = append(indented, strings.TrimSpace(text))
				}
			}
			require.Len(t, indented, 4, "a command, two lines of the log, the summary")
			cmd := shell(t.Context(), "..", indented[0])
			var log strings.Builder
			cmd.Stderr = &log
			summary, err := cmd.Output()
			require.NoError(t, err, log.String())
			require.Contains(t, log.String(), indented[1]+"\n")
			require.Contains(t, log.String(), indented[2]+"\n")
			require.True(t, strings.HasPrefix(string(summary), indented[3]+" in "), string(summary))
		})
	}
}

func TestTheMistakeThatACustomActionNamesIsTold(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("custom-action/observer.toml")
	require.NoError(t, err)
	for name, test := range map[string]struct{ old, wrong, says string }{
		"a misspelt key":          {"\nlimit =", "\nlimt =", `21:1: observers[0].actions[0].limt: unknown key (did you mean "limit"?)`},
		"a path with a gap in it": {"customer.name", "customer..name", `22:18: observers[0].actions[0].customer_field: has an empty part (write a path such as "customer.name")`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := filepath.Join(t.TempDir(), "observer.toml")
			require.NoError(t, os.WriteFile(cfg, []byte(strings.Replace(string(text), test.old, test.wrong, 1)), 0o600))
			output, err := exec.CommandContext(t.Context(), "go", "run", "./custom-action", "run", "--config", cfg, "--validate").CombinedOutput()
			require.Error(t, err)
			require.Contains(t, string(output), cfg+":"+test.says)
		})
	}
}

func TestEveryExampleIsValid(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.toml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	dir, err := built()
	require.NoError(t, err)
	for _, file := range files {
		cmd := exec.CommandContext(t.Context(), filepath.Join(dir, "observer"), "--config", file, "--validate")
		cmd.Env = append(os.Environ(), "DATABASE_URL=postgres://app:secret@localhost:5432/shop", "SLACK_WEBHOOK_URL=https://hooks.slack.com/services/x",
			"WEBHOOK_SECRET=whsec_"+base64.StdEncoding.EncodeToString(make([]byte, 32)))
		output, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s: %s", file, output)
		require.NotContains(t, string(output), "warning", file)
	}
}

// TestTheExplanationInTheREADME runs the command of the README: what stands below it there is what it prints, with lines left
// out.
func TestTheExplanationInTheREADME(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../README.md")
	require.NoError(t, err)
	_, rest, _ := strings.Cut(string(text), "\n## Why did it fire, or not?\n")
	shown := regexp.MustCompile("(?s)```\n(UPDATE.*?)```").FindStringSubmatch(rest)
	require.NotNil(t, shown)
	printed, err := shell(t.Context(), "..", commands(t, "Why did it fire, or not?")[0]).Output()
	require.NoError(t, err)
	lines := strings.Split(string(printed), "\n")
	for line := range strings.Lines(shown[1]) {
		at := slices.Index(lines, strings.TrimSuffix(line, "\n"))
		require.GreaterOrEqual(t, at, 0, "it does not print, or not here: %s", line)
		lines = lines[at+1:]
	}
}
