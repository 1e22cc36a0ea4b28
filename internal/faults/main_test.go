package faults

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/tidwall/gjson"

	"github.com/fraiseql/observer/cmd"
	"github.com/fraiseql/observer/event"
	"github.com/fraiseql/observer/internal/testenv"
)

// childEnv makes the test binary the program under test.
const childEnv = "OBSERVER_FAULTS_CHILD"

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	parallel()
	fmt.Fprintf(os.Stdout, "seed %d (OBSERVER_FAULTS_SEED repeats it)\n", seed)
	code := testenv.MainWithLeakCheck(m)
	if long {
		printTable()
	}
	os.Exit(code)
}

// parallel lets more scenarios of the short form run beside each other than there are processors: most of the time each
// waits, for a lease to expire or for a server to start.
func parallel() {
	flag.Parse()
	if n := runtime.GOMAXPROCS(0); n < beside {
		_ = flag.Set("test.parallel", strconv.Itoa(beside)) // a number is always accepted
	}
}

const beside = 3

// child is the program with a middleware that no real one has. It ends when its parent does.
func child() int {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}()
	return cmd.Main(cmd.WithMiddleware("deadly", deadly))
}

// deadly ends the process when the data of an event asks for it, before the action has run.
func deadly(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		if gjson.GetBytes(event.FromContext(msg.Context()).Event.Data, "deadly").Bool() {
			fmt.Fprintf(os.Stderr, "killed by an event at %d\n", time.Now().UnixNano())
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {} // until the signal arrives
		}
		return next(msg)
	}
}
