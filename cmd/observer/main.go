// Command observer reacts to row changes in Postgres, and to custom events, by running declared actions.
//
// A team that has actions or middleware of its own builds its own binary: copy this file and name them.
//
//	os.Exit(cmd.Main(
//		cmd.WithAction("credit_check", newCreditCheck),
//		cmd.WithMiddleware("audit", newAudit),
//	))
//
// Package cmd says how these two are written; examples/custom-action and examples/custom-middleware are whole programs.
package main

import (
	"os"

	"github.com/fraiseql/observer/cmd"
)

func main() {
	os.Exit(cmd.Main())
}
