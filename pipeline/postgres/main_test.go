package postgres

import (
	"os"
	"testing"

	"github.com/fraiseql/observer/internal/testenv"
)

func TestMain(m *testing.M) { os.Exit(testenv.MainWithLeakCheck(m)) }
