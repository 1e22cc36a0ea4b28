// Command observer reacts to row changes in Postgres, and to custom events, by running declared actions.
//
// A team that has actions or middleware of its own builds its own binary: copy this file and name them.
//
//	os.Exit(cmd.Main(
//		cmd.WithAction(handlers.Define("pager", newPager)),
//		cmd.WithMiddleware("audit", audit),
//	))
package main

import (
	"os"

	"github.com/fraiseql/observer/cmd"
)

func main() {
	os.Exit(cmd.Main())
}
