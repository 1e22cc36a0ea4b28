package testenv

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"testing"

	"go.uber.org/goleak"
)

// Main runs the tests, stops every server that they started, and returns the exit code for os.Exit.
func Main(m *testing.M) int {
	code := m.Run()
	if err := stopAll(); err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		return max(code, 1)
	}
	return code
}

// MainWithLeakCheck is [Main] for packages that start goroutines: tests that pass but leave one running fail.
func MainWithLeakCheck(m *testing.M, options ...goleak.Option) int {
	code := Main(m)
	if code != 0 {
		return code
	}
	if err := goleak.Find(options...); err != nil {
		fmt.Fprintln(os.Stderr, "testenv: goroutines left running:", err)
		return 1
	}
	return 0
}

// IgnoreServers returns the goleak options for a check inside a test, while the servers of the package still run.
func IgnoreServers() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreAnyFunction("github.com/fraiseql/observer/internal/testenv.(*spawner).run"),
		goleak.IgnoreAnyFunction("github.com/fraiseql/observer/internal/testenv.(*process).wait"),
	}
}

// Concurrent lets n parallel tests run at a time, for packages whose tests wait for servers more than they compute: without
// it there are as many as processors. It is called before the tests run; -parallel of the command line overrides it.
func Concurrent(n int) {
	if err := flag.Set("test.parallel", strconv.Itoa(n)); err != nil {
		panic(err) // the program is no test
	}
}
