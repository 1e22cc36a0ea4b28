package testenv_test

import (
	"os"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) {
	if os.Getenv(childVariable) != "" {
		dieWithServers()
	}
	os.Exit(testenv.MainWithLeakCheck(m))
}
