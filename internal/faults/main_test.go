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

// childReads is its value where the program itself reads standard input, and ends by that.
const childReads = "reads"

func TestMain(m *testing.M) {
	if file := os.Getenv(natsEnv); file != "" {
		os.Exit(runNATS(file))
	}
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

// parallel lets as many scenarios run beside each other as beside says, also where there are fewer processors: most of the
// time each waits, for a lease to expire or for a server to start.
func parallel() {
	flag.Parse()
	if n := runtime.GOMAXPROCS(0); long || n < beside {
		_ = flag.Set("test.parallel", strconv.Itoa(beside)) // a number is always accepted
	}
}

// beside is how many.
const beside = 3

// child is the program with a middleware that no real one has, and may end at a step. It ends when its parent does.
func child() int {
	if os.Getenv(childEnv) != childReads {
		go func() {
			_, _ = io.Copy(io.Discard, os.Stdin)
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}()
	}
	dieAtStep()
	return cmd.Main(cmd.WithMiddleware("deadly", deadly), cmd.WithMiddleware("steps", aroundAction))
}

// die kills the process, and says when and why.
func die(why string) {
	fmt.Fprintf(os.Stderr, "killed %s at %d\n", why, time.Now().UnixNano())
	_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	select {} // until the signal arrives
}

// deadly ends the process when the data of an event asks for it, before the action has run.
func deadly(next message.HandlerFunc) message.HandlerFunc {
	return func(msg *message.Message) ([]*message.Message, error) {
		if gjson.GetBytes(event.FromContext(msg.Context()).Event.Data, "deadly").Bool() {
			die("by an event")
		}
		return next(msg)
	}
}
