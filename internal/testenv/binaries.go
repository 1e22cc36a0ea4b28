package testenv

import (
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

const (
	oldestPostgres = 13
	installHint    = "`make test` installs what the tests need on Debian; elsewhere install Postgres 13 or newer, redis-server and pgbouncer"
)

// Tool returns the path of a program that comes with the Postgres of the tests, such as pgbench or pg_dump.
func Tool(tb testing.TB, name string) string {
	tb.Helper()
	program, err := FindTool(name)
	if err != nil {
		tb.Fatal(err)
	}
	return program
}

// FindTool is [Tool] for a caller that is no test.
func FindTool(name string) (string, error) {
	dir, err := postgresBin()
	if err != nil {
		return "", err
	}
	program := filepath.Join(dir, name)
	if _, err = os.Stat(program); err != nil {
		return "", fmt.Errorf("find %s: %w; %s", name, err, installHint)
	}
	return program, nil
}

// postgresBin returns the directory of the Postgres programs: the one on PATH, else that of pg_config, else the newest
// where packages put them. To test with another version, put its directory first on PATH.
var postgresBin = sync.OnceValues(func() (string, error) { return firstPostgres(postgresDirs) })

func firstPostgres(dirs iter.Seq[string]) (string, error) {
	for dir := range dirs {
		if version, err := postgresVersion(dir); err == nil && version >= oldestPostgres {
			return dir, nil
		}
	}
	return "", fmt.Errorf("find Postgres %d or newer: not on PATH, nor in %s; %s",
		oldestPostgres, strings.Join(slices.Collect(dirs), ", "), installHint)
}

// postgresDirs yields one directory after the other, since asking pg_config takes as long as a small query.
func postgresDirs(yield func(string) bool) {
	if program, err := exec.LookPath("postgres"); err == nil {
		if target, err := filepath.EvalSymlinks(program); err == nil {
			program = target // packages link single programs into the PATH: initdb is beside the real one
		}
		if !yield(filepath.Dir(program)) {
			return
		}
	}
	if output, err := exec.CommandContext(context.Background(), "pg_config", "--bindir").Output(); err == nil {
		if !yield(strings.TrimSpace(string(output))) {
			return
		}
	}
	for _, dir := range packagedDirs() {
		if !yield(dir) {
			return
		}
	}
}

func packagedDirs() []string {
	var dirs []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		found, _ := filepath.Glob(pattern) // the patterns are constant and valid
		dirs = append(dirs, found...)
	}
	slices.SortFunc(dirs, func(a, b string) int { return pathVersion(b) - pathVersion(a) })
	return dirs
}

var digits = regexp.MustCompile(`\d+`)

// pathVersion returns the major version that a directory's name holds, 0 without one.
func pathVersion(dir string) int {
	version, _ := strconv.Atoi(digits.FindString(dir)) // no digits: 0, last in order
	return version
}

// postgresVersion returns the major version of the server in dir, which must have initdb beside it.
func postgresVersion(dir string) (int, error) {
	if _, err := os.Stat(filepath.Join(dir, "initdb")); err != nil {
		return 0, err
	}
	output, err := exec.CommandContext(context.Background(), filepath.Join(dir, "postgres"), "--version").Output()
	if err != nil {
		return 0, fmt.Errorf("read version of postgres: %w", err)
	}
	return strconv.Atoi(digits.FindString(string(output)))
}

// findServer returns the path of a server that is on PATH, or where Debian keeps those that only root has on PATH.
func findServer(name string) (string, error) {
	program, err := exec.LookPath(name)
	if err == nil {
		return program, nil
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} {
		program = filepath.Join(dir, name)
		if _, statErr := os.Stat(program); statErr == nil {
			return program, nil
		}
	}
	return "", fmt.Errorf("find %s: %w; %s", name, err, installHint)
}
